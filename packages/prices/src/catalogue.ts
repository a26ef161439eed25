import { createRequire } from 'node:module'
import { waitForUpdate } from '@pydantic/genai-prices'
import { modelMatchSchema } from '@tokentally/core'
import { z } from 'zod'
import { type CatalogueModel, type CataloguePrice, sha256, withEdition } from './catalogue-model.ts'
import { type EntryPrices, ratesFromCatalogue } from './catalogue-rates.ts'
import { tierPrices } from './tier-prices.ts'

/**
 * The price catalogue of the npm package `@pydantic/genai-prices`, read as data. Its own arithmetic is not
 * used: prices are taken as the literals that stand in it. `waitForUpdate` gives the data of the package; no
 * network is involved unless an updater is registered, which nothing here does.
 */

/** What of the source's data is read: types of `@pydantic/genai-prices` 0.1.8 fit in here. */
export interface SourceProvider {
  readonly id: string
  readonly models: readonly SourceModel[]
}
export interface SourceModel {
  readonly id: string
  readonly match: unknown
  readonly prices: EntryPrices | readonly SourcePrice[]
}
export interface SourcePrice {
  readonly constraint?:
    | { readonly type: 'start_date'; readonly start_date: string }
    | { readonly type: 'time_of_date'; readonly start_time: string; readonly end_time: string }
    | undefined
  readonly prices: EntryPrices
}

/**
 * The catalogue of the installed package, some 1,600 models of 43 providers, and the prices of service tiers that
 * it lacks.
 */
export async function bundledCatalogue(): Promise<readonly CatalogueModel[]> {
  return [...catalogueModels((await waitForUpdate()) ?? []), ...tierPrices()]
}

/** Name and version of the package that the catalogue comes from, stored with every price. */
export function bundledCatalogueSource(): string {
  const require = createRequire(import.meta.url)
  // The package exports only its entry point; its package.json lies two levels above that.
  const manifest: unknown = require(
    require.resolve('@pydantic/genai-prices').replace(/dist[\\/][^\\/]*$/, 'package.json'),
  )
  return `@pydantic/genai-prices ${z.object({ version: z.string() }).parse(manifest).version}`
}

/** Translates the catalogue's data. Models without a price that could be taken over are left out. */
export function catalogueModels(providers: readonly SourceProvider[]): readonly CatalogueModel[] {
  return providers.flatMap((provider) =>
    provider.models.flatMap((model) => {
      const prices = sourcePrices(model.prices).map((entry) => cataloguePrice(provider.id, model.id, entry))
      if (prices.every(({ rates }) => Object.keys(rates).length === 0)) return []
      const content = {
        provider: provider.id,
        model: model.id,
        match: modelMatchSchema.parse(model.match),
        prices,
      }
      return [withEdition(content)]
    }),
  )
}

function sourcePrices(prices: SourceModel['prices']): readonly SourcePrice[] {
  return isList(prices) ? prices : [{ prices }]
}

function isList(prices: SourceModel['prices']): prices is readonly SourcePrice[] {
  return Array.isArray(prices)
}

/**
 * The id of a version that an import makes. It depends on the content alone (and, where a newer catalogue
 * supersedes an older one, on the time of import), so that every installation has the same ids.
 */
export function cataloguePriceId(
  model: CatalogueModel,
  position: number,
  supersededAtMs: number | null,
): string {
  const hash = sha256(['price_version', model.edition, position, supersededAtMs]).subarray(0, 16)
  // RFC 9562, section 5.8: a UUID of version 8 is made of whatever the maker chose.
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x80, 6)
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8)
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

function cataloguePrice(provider: string, model: string, entry: SourcePrice): CataloguePrice {
  const { constraint } = entry
  const rates = ratesFromCatalogue(isFreeOfCharge(provider, model) ? freeOf(entry.prices) : entry.prices)
  if (constraint?.type === 'start_date')
    return { startMs: Date.parse(`${constraint.start_date}T00:00:00Z`), rates }
  if (constraint?.type === 'time_of_date') {
    return {
      startMs: null,
      timeOfDay: { startUtc: utcTime(constraint.start_time), endUtc: utcTime(constraint.end_time) },
      rates,
    }
  }
  return { startMs: null, rates }
}

/**
 * An entry without any price means "free of charge" for some models and "not billed by the token" (flat
 * subscriptions, songs) for others. Only where it is certain does it become a price of zero; the rest stay
 * unpriced.
 */
function isFreeOfCharge(provider: string, model: string): boolean {
  return model.endsWith(':free') || (provider === 'openai' && model === 'moderation')
}

function freeOf(prices: EntryPrices): EntryPrices {
  return Object.keys(prices).length === 0 ? { input_mtok: 0, output_mtok: 0 } : prices
}

/** @throws Error when the time has another offset than UTC: no entry has, and guessing would misprice */
function utcTime(time: string): string {
  const found = /^(\d{2}:\d{2}:\d{2})(?:\.0+)?(?:Z|[+-]00:00)$/.exec(time)?.[1]
  if (found === undefined)
    throw new Error(`price catalogue: time of day ${time} is not in whole seconds of UTC`)
  return found
}
