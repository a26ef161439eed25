import { comparableModel, type ModelMatcher, modelMatcher, withDashedDate } from './model-match.ts'
import type { PriceVersion } from './price-version.ts'
import { catalogueProvider, providersToSearch } from './provider-aliases.ts'

/**
 * All prices of a moment, ready to answer for any call.
 *
 * An organization's own price wins over the catalogue. Within the catalogue the rules are those of
 * `@pydantic/genai-prices` 0.1.8 (`dist/index.js`, read 2026-11): the first model (by id) whose match fits the
 * name is the model; of its prices the last entered that applies at that time wins, by its start date or
 * its hours of the day, whichever it has. Two own prices of one model are ordered by date instead.
 */
export interface PriceBook {
  /** Grows whenever a price is added; tells replicas apart that know it from those that do not yet. */
  readonly revision: number
  /**
   * The price that applies to a call, undefined when there is none.
   *
   * @param models names to look for, the surest first: the model that answered, then the one asked for;
   *   none for an event without a model
   * @param tsMs when the call was made, UTC milliseconds
   */
  find(
    organizationId: string,
    provider: string,
    models: readonly string[],
    tsMs: number,
  ): PriceVersion | undefined
  /**
   * Every version that could apply to a model at some time, those of the organization first; the order in
   * which `find` considers them.
   */
  candidates(organizationId: string, provider: string, models: readonly string[]): readonly PriceVersion[]
  /**
   * What every model of a provider costs at a time, by model; an organization's own price instead of the
   * catalogue's where it has one. Empty when the provider is unknown.
   */
  ofProvider(organizationId: string, provider: string, tsMs: number): readonly PriceVersion[]
}

/** How many distinct (organization, provider, models) are remembered; the memory is emptied when it is full. */
const MEMO_MAX = 20_000

/** @param revision the price book's counter at the time when `versions` were read, in the same snapshot */
export function buildPriceBook(versions: readonly PriceVersion[], revision: number): PriceBook {
  const catalogue = groupByModel(versions.filter((version) => version.organizationId === null))
  const overrides = Map.groupBy(
    versions.filter((version) => version.organizationId !== null),
    (version) => version.organizationId ?? '',
  )
  const ownPrices = new Map<string, ReadonlyMap<string, readonly ModelPrices[]>>()
  for (const [organizationId, own] of overrides) ownPrices.set(organizationId, groupByModel(own, byDate))

  const memo = new Map<string, readonly Candidate[]>()
  const lookUp = (organizationId: string, provider: string, models: readonly string[]) => {
    const key = `${organizationId}\n${provider}\n${models[0] ?? ''}\n${models[1] ?? ''}`
    const known = memo.get(key)
    if (known !== undefined) return known
    if (memo.size >= MEMO_MAX) memo.clear()
    const found = search(catalogue, ownPrices.get(organizationId), provider, models)
    memo.set(key, found)
    return found
  }
  return {
    revision,
    find(organizationId, provider, models, tsMs) {
      const candidates = lookUp(organizationId, provider, models)
      for (let index = 0; index < candidates.length; index++) {
        const candidate = candidates[index]
        if (candidate === undefined || !applies(candidate.prepared, tsMs)) continue
        if (candidate.isMatch) return candidate.prepared.version
        // The price of this model that is in force no longer covers the name: what it had before is over,
        // too. Go on with the next model.
        while (candidates[index + 1]?.group === candidate.group) index++
      }
      return undefined
    },
    candidates(organizationId, provider, models) {
      return lookUp(organizationId, provider, models)
        .filter((candidate) => candidate.isMatch)
        .map((candidate) => candidate.prepared.version)
    },
    ofProvider(organizationId, provider, tsMs) {
      const id = catalogueProvider(provider)
      const own = ownPrices.get(organizationId)?.get(id) ?? []
      const current = new Map<string, PriceVersion>()
      for (const { model, prepared } of [...(catalogue.get(id) ?? []), ...own]) {
        const inForce = prepared.find((candidate) => applies(candidate, tsMs))
        if (inForce !== undefined) current.set(model, inForce.version)
      }
      return [...current.values()].sort((a, b) => (a.model < b.model ? -1 : 1))
    },
  }
}

interface PreparedVersion {
  readonly version: PriceVersion
  readonly matches: ModelMatcher
  readonly fromMs: number
  /** Seconds of the day; undefined: all day. */
  readonly hours: { readonly start: number; readonly end: number } | undefined
}

/** The prices of one model, the one that wins first. */
interface ModelPrices {
  readonly model: string
  readonly prepared: readonly PreparedVersion[]
}

interface Candidate {
  readonly prepared: PreparedVersion
  /** The model's prices, the same object for all candidates that one name of the call brought in. */
  readonly group: ModelPrices
  readonly isMatch: boolean
}

type ByProvider = ReadonlyMap<string, readonly ModelPrices[]>

const byEntry = (a: PriceVersion, b: PriceVersion) => b.sequence - a.sequence
const byDate = (a: PriceVersion, b: PriceVersion) => {
  const from = (b.effectiveFromMs ?? -Infinity) - (a.effectiveFromMs ?? -Infinity)
  return Number.isNaN(from) || from === 0 ? byEntry(a, b) : from
}

function groupByModel(versions: readonly PriceVersion[], order = byEntry): ByProvider {
  const providers = new Map<string, ModelPrices[]>()
  for (const [provider, ofProvider] of Map.groupBy(versions, (version) => version.provider)) {
    const models = [...Map.groupBy(ofProvider, (version) => version.model)].map(([model, ofModel]) => ({
      model,
      prepared: ofModel.toSorted(order).map(prepare),
    }))
    // genai-prices takes the first model that fits, and lists models by id.
    models.sort((a, b) => (a.model < b.model ? -1 : 1))
    providers.set(provider, models)
  }
  return providers
}

function prepare(version: PriceVersion): PreparedVersion {
  const { timeOfDay } = version
  return {
    version,
    matches: modelMatcher(version.match),
    fromMs: version.effectiveFromMs ?? -Infinity,
    hours: timeOfDay && { start: secondOfDay(timeOfDay.startUtc), end: secondOfDay(timeOfDay.endUtc) },
  }
}

function secondOfDay(time: string): number {
  const [hour = 0, minute = 0, second = 0] = time.split(':').map(Number)
  return hour * 3600 + minute * 60 + second
}

const DAY_MS = 86_400_000

function applies({ fromMs, hours }: PreparedVersion, tsMs: number): boolean {
  if (tsMs < fromMs) return false
  if (hours === undefined) return true
  const second = (((tsMs % DAY_MS) + DAY_MS) % DAY_MS) / 1000
  const { start, end } = hours
  return end < start ? second >= start || second < end : second >= start && second < end
}

function search(
  catalogue: ByProvider,
  own: ByProvider | undefined,
  provider: string,
  models: readonly string[],
): readonly Candidate[] {
  const id = catalogueProvider(provider)
  const names = models.length === 0 ? [''] : models.map(comparableModel)
  const listed = names.flatMap((name) => searchCatalogue(catalogue, id, name))
  const ownModels = own?.get(id)
  if (ownModels === undefined) return listed
  // An own price is for the name it was given for, and for the other names (snapshots, aliases) of the
  // catalogue's model of that name.
  const catalogueModels = new Set(
    listed
      .filter(({ isMatch, prepared }) => isMatch && prepared.version.provider === id)
      .map(({ group }) => group.model),
  )
  return [
    ...names.flatMap((name) => candidatesFor(ownModels, name)),
    ...ownModels
      .filter(({ model }) => catalogueModels.has(model))
      .flatMap((group) => group.prepared.map((prepared) => ({ prepared, group, isMatch: true }))),
    ...listed,
  ]
}

function searchCatalogue(catalogue: ByProvider, provider: string, name: string): readonly Candidate[] {
  const dashed = withDashedDate(name)
  return [name, ...(dashed === name ? [] : [dashed])].flatMap((spelling) =>
    providersToSearch(provider).flatMap((id) => candidatesFor(catalogue.get(id) ?? [], spelling)),
  )
}

function candidatesFor(models: readonly ModelPrices[], name: string): readonly Candidate[] {
  return models.flatMap((prices) => {
    const group = { ...prices }
    const candidates = group.prepared.map((prepared) => ({
      prepared,
      group,
      isMatch: prepared.matches(name),
    }))
    return candidates.some((candidate) => candidate.isMatch) ? candidates : []
  })
}
