import {
  buildMarkupBook,
  type Decimal,
  decimal,
  decimalText,
  listFactor,
  type MarkupRule,
  type MarkupRuleVersion,
  type MarkupTerms,
  unitPrices,
  ZERO,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { inOneSnapshot } from '../database/transaction.ts'
import {
  type AskedSums,
  type ChosenRule,
  type Floor,
  type MeterSum,
  type Slice,
  sellEach,
  sliceSource,
  sumMeters,
  sumUsage,
  type Trait,
  type TraitColumn,
  traitKey,
  type UsageGroup,
  type UsageSource,
} from './preview-store.ts'

/**
 * What a period would have cost under other markup rules. Nothing is written.
 *
 * The range is cut into slices of time. Each is summed up in SQL by what the rules at hand and the groups asked for
 * tell apart, and by nothing else: that leaves few sums. Almost every rule is applied to sums, exactly: of list costs, of
 * requests, of meters, or of what the events cost with a floor. Only prices by meter with a minimum, and a great many different minima, make
 * the database look at each event again. Two slices are read at a time.
 */

const SLICES_MAX = 20
const SLICE_MIN_MS = 6 * 3_600_000
const PARALLEL = 2
/** Each is a column of sums; beyond that, events are looked at one by one. */
const FLOORS_MAX = 8

export interface PreviewRequest {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
  /** As if each were in force through the whole range; none of them tie. */
  readonly rules: readonly MarkupRule[]
  readonly groupBy: readonly TraitColumn[]
}

/** Sums of a group, exact. */
export interface PreviewSums {
  readonly events: number
  readonly listCostUsd: Decimal
  readonly sellBeforeUsd: Decimal
  readonly sellAfterUsd: Decimal
}

export interface PreviewResult {
  /** By the values of `groupBy`, the most expensive first. */
  readonly groups: readonly { readonly keys: readonly (string | null)[]; readonly sums: PreviewSums }[]
  readonly totals: PreviewSums
  /** What each rule would have sold, in the order given; also those that match nothing. */
  readonly rules: readonly { readonly id: string; readonly sums: PreviewSums }[]
}

export type PreviewStep =
  | { readonly kind: 'progress'; readonly fraction: number; readonly events: number }
  | { readonly kind: 'result'; readonly result: PreviewResult }

/** Computes a preview; tells how far it is after each slice, and the result at last. */
export async function* preview(pool: Pool, request: PreviewRequest): AsyncGenerator<PreviewStep> {
  const chooser = ruleChooser(request)
  const byGroup = new Map<string, { keys: readonly (string | null)[]; sums: PreviewSums }>()
  const byRule = new Map<string, PreviewSums>()
  let totals = NOTHING
  const slices = slicesOf(request)
  for (let done = 0; done < slices.length; done += PARALLEL) {
    const read = await Promise.all(
      slices.slice(done, done + PARALLEL).map((slice) => sellUsage(pool, sliceSource(slice), chooser)),
    )
    for (const { group, rule, sums } of read.flat()) {
      const keys = request.groupBy.map((column) => chooser.traitOf(group, column))
      const key = JSON.stringify(keys)
      byGroup.set(key, { keys, sums: plus(byGroup.get(key)?.sums ?? NOTHING, sums) })
      if (rule !== undefined) byRule.set(rule.id, plus(byRule.get(rule.id) ?? NOTHING, sums))
      totals = plus(totals, sums)
    }
    const fraction = Math.min(1, (done + PARALLEL) / slices.length)
    yield { kind: 'progress', fraction, events: totals.events }
  }
  const groups = [...byGroup.values()].sort(
    (a, b) =>
      b.sums.sellAfterUsd.cmp(a.sums.sellAfterUsd) ||
      (JSON.stringify(a.keys) < JSON.stringify(b.keys) ? -1 : 1),
  )
  const rules = request.rules.map(({ id }) => ({ id, sums: byRule.get(id) ?? NOTHING }))
  yield { kind: 'result', result: { groups, totals, rules } }
}

/** Finds the rule that usage is sold by. */
export interface RuleChooser {
  /** What usage has to be told apart by for that. */
  readonly traits: readonly Trait[]
  readonly asked: AskedSums
  traitOf(group: UsageGroup, column: TraitColumn): string | null
  choose(group: UsageGroup): MarkupRule | undefined
}

export function ruleChooser({ rules, groupBy }: Pick<PreviewRequest, 'rules' | 'groupBy'>): RuleChooser {
  const asked = (has: (match: MarkupRule['match']) => boolean, ...columns: TraitColumn[]) =>
    rules.some(({ match }) => has(match)) ? columns : []
  const columns = new Set<TraitColumn>([
    ...asked(({ customer }) => customer !== undefined, 'customer_id'),
    ...asked(({ feature }) => feature !== undefined, 'feature'),
    ...asked(({ provider }) => provider !== undefined, 'provider'),
    ...asked(({ model }) => model !== undefined, 'model', 'response_model'),
    ...groupBy,
  ])
  const tagNames = [...new Set(rules.flatMap(({ match }) => Object.keys(match.tags ?? {})))].sort()
  const indexOf = new Map([...columns].map((column, index) => [column, index]))
  const traitOf = ({ values }: UsageGroup, column: TraitColumn) => values[indexOf.get(column) ?? -1] ?? null
  const textOf = (group: UsageGroup, column: TraitColumn) => traitOf(group, column) ?? undefined

  const book = buildMarkupBook(rules.map(asVersion))
  return {
    traits: [...[...columns].map((column) => ({ column })), ...tagNames.map((tag) => ({ tag }))],
    asked: {
      floors: floorsOf(rules),
      requests: rules.some(({ terms }) => terms.basis.kind === 'price_per_request'),
      withoutRequests: rules.some(
        ({ terms: { basis } }) => basis.kind === 'prices' && unitPrices(basis.prices).has('requests'),
      ),
    },
    traitOf,
    choose(group) {
      // A failed call costs nothing, by no rule.
      if (group.isFailed) return undefined
      const model = textOf(group, 'model')
      const responseModel = textOf(group, 'response_model')
      const customer = textOf(group, 'customer_id')
      const feature = textOf(group, 'feature')
      const tags = tagNames.flatMap((name, index) => {
        const value = group.values[columns.size + index]
        return typeof value === 'string' ? [[name, value] as const] : []
      })
      const subject = {
        provider: textOf(group, 'provider') ?? '',
        ...(model !== undefined && { model }),
        ...(responseModel !== undefined && { responseModel }),
        ...(customer !== undefined && { customer }),
        ...(feature !== undefined && { feature }),
        tags: Object.fromEntries(tags),
      }
      return book.find('', subject, 0)
    },
  }
}

/** The rule as if it were in force at any time. */
function asVersion(rule: MarkupRule): MarkupRuleVersion {
  return {
    ...rule,
    versionId: rule.id,
    organizationId: '',
    version: 1,
    enteredMs: 0,
    fromMs: 0,
    untilMs: null,
    isRemoval: false,
  }
}

/** Usage that is alike, sold by one rule; undefined: at list price. */
export interface SoldGroup {
  readonly group: UsageGroup
  readonly rule: MarkupRule | undefined
  readonly sums: PreviewSums
}

/** Sells the usage of a source by the rules of a chooser. */
export function sellUsage(
  pool: Pool,
  source: UsageSource,
  chooser: RuleChooser,
): Promise<readonly SoldGroup[]> {
  return inOneSnapshot(pool, async (client) => {
    const groups = await sumUsage(client, source, chooser.traits, chooser.asked)
    const chosen = groups.map((group) => ({ group, rule: chooser.choose(group) }))
    const meters = chosen.some(({ rule }) => isByMeter(rule))
      ? await sumMeters(client, source, chooser.traits)
      : new Map<string, readonly MeterSum[]>()
    const sold: SoldGroup[] = []
    const oneByOne: ChosenRule[] = []
    for (const { group, rule } of chosen) {
      const cost =
        rule === undefined
          ? decimal(group.listCostUsd)
          : costOfSums(rule.terms, group, chooser.asked.floors, meters.get(traitKey(group.values)) ?? [])
      if (cost !== undefined) sold.push({ group, rule, sums: sumsOf(group, cost) })
      else if (rule !== undefined) oneByOne.push({ group, rule })
    }
    if (oneByOne.length === 0) return sold
    const costs = await sellEach(client, source, chooser.traits, oneByOne)
    oneByOne.forEach(({ group, rule }, index) => {
      sold.push({ group, rule, sums: sumsOf(group, decimal(costs[index] ?? '0')) })
    })
    return sold
  })
}

/** What a group is sold for, from its sums alone; undefined when each event must be looked at. */
function costOfSums(
  terms: MarkupTerms,
  group: UsageGroup,
  floors: readonly Floor[],
  meters: readonly MeterSum[],
): Decimal | undefined {
  const { basis } = terms
  if (basis.kind === 'price_per_request') {
    const price = decimal(basis.price)
    const least = terms.minimum === null ? price : decimal(terms.minimum)
    return group.requests.times(price.gt(least) ? price : least)
  }
  if (basis.kind === 'prices') {
    if (terms.minimum !== null) return undefined
    const prices = unitPrices(basis.prices)
    const used = meters.reduce((sum, { meter, quantity, listCostUsd }) => {
      const price = prices.get(meter)
      return sum.plus(price === undefined ? listCostUsd : price.times(quantity))
    }, ZERO)
    const perRequest = prices.get('requests') ?? ZERO
    return used.plus(perRequest.times(decimal(String(group.withoutRequests))))
  }
  const floor = floorOf(terms)
  if (floor === undefined) return decimal(group.listCostUsd).times(listFactor(terms) ?? ONE)
  const cost = group.floored[floors.findIndex((one) => isSameFloor(one, floor))]
  return cost === undefined ? undefined : decimal(cost)
}

const ONE = decimal('1')

function isByMeter(rule: MarkupRule | undefined): boolean {
  return rule?.terms.basis.kind === 'prices' && rule.terms.minimum === null
}

function floorOf(terms: MarkupTerms): Floor | undefined {
  const factor = listFactor(terms)
  return factor === undefined || terms.minimum === null
    ? undefined
    : { factor: decimalText(factor), minimum: terms.minimum }
}

function isSameFloor(a: Floor, b: Floor): boolean {
  return a.factor === b.factor && a.minimum === b.minimum
}

/** The floors of the rules, each once; none when they are too many. */
function floorsOf(rules: readonly MarkupRule[]): readonly Floor[] {
  const floors: Floor[] = []
  for (const { terms } of rules) {
    const floor = floorOf(terms)
    if (floor !== undefined && !floors.some((one) => isSameFloor(one, floor))) floors.push(floor)
  }
  return floors.length > FLOORS_MAX ? [] : floors
}

function slicesOf({ organizationId, startMs, endMs }: PreviewRequest): readonly Slice[] {
  const stepMs = Math.max(SLICE_MIN_MS, Math.ceil((endMs - startMs) / SLICES_MAX))
  const slices: Slice[] = []
  for (let from = startMs; from < endMs; from += stepMs) {
    slices.push({ organizationId, startMs: from, endMs: Math.min(endMs, from + stepMs) })
  }
  return slices
}

const NOTHING: PreviewSums = { events: 0, listCostUsd: ZERO, sellBeforeUsd: ZERO, sellAfterUsd: ZERO }

function sumsOf(group: UsageGroup, sellAfterUsd: Decimal): PreviewSums {
  return {
    events: group.events,
    listCostUsd: decimal(group.listCostUsd),
    sellBeforeUsd: decimal(group.sellCostUsd),
    sellAfterUsd,
  }
}

function plus(a: PreviewSums, b: PreviewSums): PreviewSums {
  return {
    events: a.events + b.events,
    listCostUsd: a.listCostUsd.plus(b.listCostUsd),
    sellBeforeUsd: a.sellBeforeUsd.plus(b.sellBeforeUsd),
    sellAfterUsd: a.sellAfterUsd.plus(b.sellAfterUsd),
  }
}

/** Amounts of a preview in JSON. */
export function previewSumsJson({ events, listCostUsd, sellBeforeUsd, sellAfterUsd }: PreviewSums) {
  return {
    events,
    list_cost: decimalText(listCostUsd),
    sell_cost_before: decimalText(sellBeforeUsd),
    sell_cost_after: decimalText(sellAfterUsd),
    difference: decimalText(sellAfterUsd.minus(sellBeforeUsd)),
    margin_before: decimalText(sellBeforeUsd.minus(listCostUsd)),
    margin_after: decimalText(sellAfterUsd.minus(listCostUsd)),
  }
}
