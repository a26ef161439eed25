import { discounted } from './discount.ts'
import { comparableModel, type ModelMatcher, modelMatcher, withDashedDate } from './model-match.ts'
import { isModelPattern } from './model-pattern.ts'
import { PathMemo } from './path-memo.ts'
import type { PriceVersion } from './price-version.ts'
import { catalogueProvider, providersToSearch } from './provider-aliases.ts'
import { canonicalTier } from './service-tiers.ts'

/** What a price may ask of a call beside its model and its time. A usage event has all of it. */
export interface CallCircumstances {
  readonly serviceTier?: string | undefined
  readonly region?: string | undefined
  readonly customer?: string | undefined
  /** Its `input_tokens` are the size of the request. */
  readonly quantities?: Readonly<Record<string, number>> | undefined
}

/**
 * All prices of a moment, ready to answer for any call.
 *
 * An organization's own price wins over the catalogue; of several, the one for the customer, then the one for the
 * very model, then the one for the tier and the region, then the one that began last. Within the catalogue the rules are those of
 * `@pydantic/genai-prices` 0.1.8 (`dist/index.js`, read 2026-11): the first model (by id) whose match fits the
 * name is the model; of its prices the last entered that applies at that time wins, by its start date or
 * its hours of the day, whichever it has. A price for a service tier goes before those for any.
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
   * @param call what else a price may ask for; absent: a plain call
   * @returns a discount with its rates filled in, those of the catalogue's price that it is taken off
   */
  find(
    organizationId: string,
    provider: string,
    models: readonly string[],
    tsMs: number,
    call?: CallCircumstances,
  ): PriceVersion | undefined
  /**
   * Every version that could apply to a model at some time and in some circumstances, those of the organization
   * first; the order in which `find` considers them.
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
  const ownPrices = ownByProvider(versions.filter((version) => version.organizationId !== null))

  const memo = new PathMemo<readonly Candidate[]>(MEMO_MAX)
  const lookUp = (organizationId: string, provider: string, models: readonly string[]) =>
    memo.get([organizationId, provider, models[0], models[1]], () =>
      search(
        catalogue,
        ownPrices.get(organizationId)?.get(catalogueProvider(provider)) ?? [],
        provider,
        models,
      ),
    )
  const withDiscount = discounter()
  return {
    revision,
    find(organizationId, provider, models, tsMs, call = PLAIN_CALL) {
      const candidates = lookUp(organizationId, provider, models)
      const found = firstThatApplies(candidates, tsMs, call, () => true)
      if (found?.discount === undefined) return found
      const listed = firstThatApplies(candidates, tsMs, call, isListed)
      return listed === undefined
        ? firstThatApplies(candidates, tsMs, call, hasRates)
        : withDiscount(found, listed)
    },
    candidates(organizationId, provider, models) {
      return lookUp(organizationId, provider, models)
        .filter((candidate) => candidate.isMatch)
        .map((candidate) => candidate.prepared.version)
    },
    ofProvider(organizationId, provider, tsMs) {
      const id = catalogueProvider(provider)
      const own = ownPrices.get(organizationId)?.get(id) ?? []
      const applies = ({ prepared }: { readonly prepared: PreparedVersion }) =>
        appliesTo(prepared, tsMs, PLAIN_CALL)
      const current = new Map<string, PriceVersion>()
      for (const { model, prepared } of catalogue.get(id) ?? []) {
        const listed = prepared.find((candidate) => applies({ prepared: candidate }))?.version
        if (listed === undefined) continue
        const name = comparableModel(model)
        const better = own
          .filter((price) => price.prepared.version.model === model || price.prepared.matches(name))
          .toSorted(byPrecedence)
          .find(applies)?.prepared.version
        const price = better ?? listed
        current.set(model, price.discount === undefined ? price : withDiscount(price, listed))
      }
      for (const { prepared } of own.toSorted(byPrecedence).filter(applies)) {
        const { version } = prepared
        if (version.discount === undefined && !current.has(version.model)) current.set(version.model, version)
      }
      return [...current.values()].sort((a, b) => (a.model < b.model ? -1 : 1))
    },
  }
}

const PLAIN_CALL: CallCircumstances = {}

/** Own prices by organization and provider. */
function ownByProvider(
  versions: readonly PriceVersion[],
): ReadonlyMap<string, ReadonlyMap<string, readonly OwnPrice[]>> {
  const organizations = new Map<string, ReadonlyMap<string, readonly OwnPrice[]>>()
  for (const [organizationId, own] of Map.groupBy(versions, (version) => version.organizationId ?? '')) {
    const prices = own.map((version) => ({
      prepared: prepare(version),
      nearness: isModelPattern(version.model) ? PATTERN : 0,
    }))
    organizations.set(
      organizationId,
      Map.groupBy(prices, ({ prepared }) => prepared.version.provider),
    )
  }
  return organizations
}

function isListed({ prepared }: Candidate): boolean {
  return prepared.version.organizationId === null
}

function hasRates({ prepared }: Candidate): boolean {
  return prepared.version.discount === undefined
}

function firstThatApplies(
  candidates: readonly Candidate[],
  tsMs: number,
  call: CallCircumstances,
  isWanted: (candidate: Candidate) => boolean,
): PriceVersion | undefined {
  for (let index = 0; index < candidates.length; index++) {
    const candidate = candidates[index]
    if (candidate === undefined || !isWanted(candidate) || !appliesTo(candidate.prepared, tsMs, call))
      continue
    if (candidate.isMatch) return candidate.prepared.version
    // The price of this model that is in force no longer covers the name: what it had before is over,
    // too. Go on with the next model.
    while (candidates[index + 1]?.group === candidate.group) index++
  }
  return undefined
}

/** Applies discounts, each to each price once: rate cards are kept by version. */
function discounter(): (discount: PriceVersion, listed: PriceVersion) => PriceVersion {
  const known = new Map<PriceVersion, Map<PriceVersion, PriceVersion>>()
  return (discount, listed) => {
    const byListed = known.get(discount) ?? new Map<PriceVersion, PriceVersion>()
    known.set(discount, byListed)
    const version = byListed.get(listed) ?? discounted(discount, listed)
    byListed.set(listed, version)
    return version
  }
}

interface PreparedVersion {
  readonly version: PriceVersion
  readonly matches: ModelMatcher
  readonly fromMs: number
  /** Seconds of the day; undefined: all day. */
  readonly hours: { readonly start: number; readonly end: number } | undefined
  /** Whether the version asks for more than a time. */
  readonly isConditional: boolean
}

/** An organization's own price, and how near its name is to that of the call: 0 is the name itself. */
interface OwnPrice {
  readonly prepared: PreparedVersion
  readonly nearness: number
}
const ALIAS = 10
const PATTERN = 20

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

/** Prices for a service tier first, as no other is for it; then the last entered. */
const byEntry = (a: PriceVersion, b: PriceVersion) =>
  Number(b.serviceTier !== undefined) - Number(a.serviceTier !== undefined) || b.sequence - a.sequence

/** Which of two own prices goes before the other: see `PriceBook`. */
function byPrecedence(a: OwnPrice, b: OwnPrice): number {
  const [one, other] = [a.prepared, b.prepared]
  const { version } = one
  const rival = other.version
  return (
    Number(rival.customer !== undefined) - Number(version.customer !== undefined) ||
    a.nearness - b.nearness ||
    (a.nearness === PATTERN ? rival.model.length - version.model.length : 0) ||
    Number(rival.serviceTier !== undefined) - Number(version.serviceTier !== undefined) ||
    Number(rival.region !== undefined) - Number(version.region !== undefined) ||
    (one.fromMs === other.fromMs ? 0 : other.fromMs - one.fromMs) ||
    Number(other.hours !== undefined) - Number(one.hours !== undefined) ||
    rival.sequence - version.sequence
  )
}

function groupByModel(versions: readonly PriceVersion[]): ByProvider {
  const providers = new Map<string, ModelPrices[]>()
  for (const [provider, ofProvider] of Map.groupBy(versions, (version) => version.provider)) {
    const models = [...Map.groupBy(ofProvider, (version) => version.model)].map(([model, ofModel]) => ({
      model,
      prepared: ofModel.toSorted(byEntry).map(prepare),
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
    isConditional:
      version.serviceTier !== undefined ||
      version.region !== undefined ||
      version.customer !== undefined ||
      version.inputTokensMax !== undefined,
  }
}

function secondOfDay(time: string): number {
  const [hour = 0, minute = 0, second = 0] = time.split(':').map(Number)
  return hour * 3600 + minute * 60 + second
}

const DAY_MS = 86_400_000

function appliesTo(
  { fromMs, hours, isConditional, version }: PreparedVersion,
  tsMs: number,
  call: CallCircumstances,
): boolean {
  if (tsMs < fromMs) return false
  if (isConditional && !meetsConditions(version, call)) return false
  if (hours === undefined) return true
  const second = (((tsMs % DAY_MS) + DAY_MS) % DAY_MS) / 1000
  const { start, end } = hours
  return end < start ? second >= start || second < end : second >= start && second < end
}

function meetsConditions(version: PriceVersion, call: CallCircumstances): boolean {
  const { serviceTier, region, customer, inputTokensMax } = version
  return (
    (serviceTier === undefined || serviceTier === canonicalTier(call.serviceTier)) &&
    (region === undefined || region === call.region?.toLowerCase()) &&
    (customer === undefined || customer === call.customer) &&
    (inputTokensMax === undefined || (call.quantities?.['input_tokens'] ?? 0) <= inputTokensMax)
  )
}

function search(
  catalogue: ByProvider,
  own: readonly OwnPrice[],
  provider: string,
  models: readonly string[],
): readonly Candidate[] {
  const id = catalogueProvider(provider)
  const names = models.length === 0 ? [''] : models.map(comparableModel)
  const listed = names.flatMap((name) => searchCatalogue(catalogue, id, name))
  if (own.length === 0) return listed
  // An own price is for the name it was given for, and for the other names (snapshots, aliases) of the
  // catalogue's model of that name.
  const catalogueModels = new Set(
    listed
      .filter(({ isMatch, prepared }) => isMatch && prepared.version.provider === id)
      .map(({ group }) => group.model),
  )
  const near = own.flatMap((price) => {
    const nearness = nearnessOf(price, names, catalogueModels)
    return nearness === undefined ? [] : [{ ...price, nearness }]
  })
  return [
    ...near.toSorted(byPrecedence).map(({ prepared }) => ({
      prepared,
      group: { model: prepared.version.model, prepared: [prepared] },
      isMatch: true,
    })),
    ...listed,
  ]
}

/** How near an own price is to the names of a call, undefined when it is not for them. */
function nearnessOf(
  { prepared, nearness }: OwnPrice,
  names: readonly string[],
  catalogueModels: ReadonlySet<string>,
): number | undefined {
  const position = names.findIndex((name) => prepared.matches(name))
  if (nearness === PATTERN) {
    const isNear =
      position !== -1 || [...catalogueModels].some((model) => prepared.matches(comparableModel(model)))
    return isNear ? PATTERN : undefined
  }
  if (position !== -1) return position
  return catalogueModels.has(prepared.version.model) ? ALIAS : undefined
}

function searchCatalogue(catalogue: ByProvider, provider: string, name: string): readonly Candidate[] {
  const dashed = withDashedDate(name)
  return [name, ...(dashed === name ? [] : [dashed])].flatMap((spelling) =>
    providersToSearch(provider).flatMap((id) =>
      // The prices of a tier are those of the provider alone: who resells a model has tiers of its own.
      candidatesFor(catalogue.get(id) ?? [], spelling).filter(
        ({ prepared, isMatch }) => prepared.version.serviceTier === undefined || (isMatch && id === provider),
      ),
    ),
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
