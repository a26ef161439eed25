import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import { type Cause, type Cell, explain, smaller, sumOf } from './cell.ts'
import { explainDayShift } from './day-shift.ts'
import type { Gathered } from './gather.ts'
import { explainUnmeteredKeys } from './unmetered-keys.ts'

export interface ExplainOptions {
  /** The vendor's keys and projects whose calls are metered; undefined: nobody said. */
  readonly meteredKeys: ReadonlySet<string> | undefined
  /** Whether the price book knows a model of the vendor. */
  readonly isKnownModel: (model: string) => boolean
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Vendors' figures of a day are complete this long after its end, by what their references promise. */
const LATE_MS = 2 * DAY_MS
/** Half a unit may be lost in each line that was rounded. */
const HALF = decimal('0.5')
/** Vendors that round costs round to cents at the coarsest. */
const COST_SCALE_MIN = 2
/** What dividing for a unit price leaves; less than any currency can say. */
const DUST = decimal('0.000000000000001')
/** Digits of unit prices in sentences. */
const SHOWN_DIGITS = 12

/** Explains the differences of all cells, cause by cause in the order of `CAUSES`. Each unit has one cause. */
export function explainDifferences(gathered: Gathered, options: ExplainOptions): void {
  const { cells } = gathered
  const isShifted = explainDayShift(gathered) !== 0
  explainUnmeteredKeys(cells, options.meteredKeys)
  // A large key that nobody metered hides a shift, and a shift hides keys, which are found by what fits on every day.
  if (!isShifted && explainDayShift(gathered) !== 0) explainUnmeteredKeys(cells, options.meteredKeys)
  const unsure = unsureByModelAndDay(cells)
  for (const cell of cells) {
    explainUnknownModel(cell, gathered, options)
    explainTiers(cell)
    explainRounding(cell)
    explainAborted(cell, unsure)
    explainLateData(cell)
    const isMore = cell.restQuantity.gt(ZERO)
    explain(
      cell,
      isMore ? 'unmetered_usage' : 'not_at_vendor',
      cell.restQuantity,
      isMore ? 'The vendor counts more than was metered' : 'More was metered than the vendor counts',
    )
    explainCost(cell)
  }
}

function explainUnknownModel(cell: Cell, gathered: Gathered, options: ExplainOptions): void {
  const name = gathered.modelNames.get(cell.modelKey) ?? cell.modelKey
  if (gathered.meteredModels.has(cell.modelKey) || options.isKnownModel(name)) return
  explain(cell, 'unknown_model', cell.restQuantity, `No events and no price of the model ${name}`)
}

/** Usage on a tier that the ledger has less of: batch results that nobody fetched, calls elsewhere. */
function explainTiers(cell: Cell): void {
  for (const [tier, quantity] of cell.vendorByTier) {
    const surplus = quantity.minus(cell.ledgerByTier.get(tier) ?? ZERO)
    if (cell.restQuantity.lte(ZERO) || tier === 'default' || surplus.lte(ZERO)) continue
    explain(cell, tierCause(tier), smaller(cell.restQuantity, surplus), tierDetail(tier))
  }
}

function explainRounding(cell: Cell): void {
  if (cell.restQuantity.abs().gt(HALF.times(decimal(String(cell.vendorLines))))) return
  explain(cell, 'rounding', cell.restQuantity, 'Less than half a unit in each line of the vendor')
}

function unsureByModelAndDay(cells: readonly Cell[]): ReadonlyMap<string, Decimal> {
  const groups = Map.groupBy(cells, keyOf)
  return new Map([...groups].map(([key, group]) => [key, sumOf(group.map((cell) => cell.ledgerUnsure))]))
}

function explainAborted(cell: Cell, unsure: ReadonlyMap<string, Decimal>): void {
  const most = unsure.get(keyOf(cell)) ?? ZERO
  if (cell.restQuantity.abs().gt(most)) return
  explain(
    cell,
    'aborted_calls',
    cell.restQuantity,
    'Calls of this model were aborted or estimated that day: the vendor counts what came after',
  )
}

function keyOf(cell: Cell): string {
  return `${cell.day} ${cell.modelKey}`
}

function explainLateData(cell: Cell): void {
  const endMs = Date.parse(`${cell.day}T00:00:00Z`) + DAY_MS
  if (cell.importedAtMs === 0 || cell.importedAtMs >= endMs + LATE_MS || cell.restQuantity.gte(ZERO)) return
  explain(cell, 'late_data', cell.restQuantity, 'The figures were taken before the vendor had all of the day')
}

/** What remains of the cost when all units are explained. */
function explainCost(cell: Cell): void {
  const { vendorCostUsd } = cell
  if (vendorCostUsd === undefined) return
  const explained = sumOf(cell.causes.flatMap(({ costUsd }) => (costUsd === undefined ? [] : [costUsd])))
  const rest = vendorCostUsd.minus(cell.ledgerCostUsd).minus(explained)
  if (rest.abs().lte(DUST)) return
  const push = (cause: Cause, detail: string) =>
    cell.causes.push({ cause, quantity: ZERO, costUsd: rest, detail })
  const scale = Math.max(COST_SCALE_MIN, cell.vendorCostScale)
  const tolerance = HALF.times(decimal(`1e-${scale}`)).times(decimal(String(Math.max(1, cell.vendorLines))))
  const tier = movedTier(cell)
  if (cell.ledgerUnpriced.gt(ZERO)) push('unknown_model', 'The ledger has no price for it')
  else if (cell.vendorQuantity === undefined) {
    const isMore = rest.gt(ZERO)
    push(isMore ? 'unmetered_usage' : 'not_at_vendor', 'The vendor gives no quantities for this day')
  } else if (tier !== undefined) push(tierCause(tier), tierDetail(tier))
  else if (rest.abs().lte(tolerance)) push('rounding', 'Less than half of the last digit of each line')
  else
    push(
      'price_differs',
      `A unit costs ${shown(cell.vendorUnitUsd)} there and ${shown(cell.ledgerUnitUsd)} here`,
    )
}

/** The tier that the vendor has more on, when both sides have the same units but not on the same tiers. */
function movedTier(cell: Cell): string | undefined {
  let largest: { readonly tier: string; readonly surplus: Decimal } | undefined
  for (const [tier, quantity] of cell.vendorByTier) {
    const surplus = quantity.minus(cell.ledgerByTier.get(tier) ?? ZERO)
    const explained = sumOf(
      cell.causes.filter(({ detail }) => detail === tierDetail(tier)).map((cause) => cause.quantity),
    )
    if (surplus.minus(explained).lte(ZERO) || tier === 'default') continue
    if (largest === undefined || surplus.gt(largest.surplus)) largest = { tier, surplus }
  }
  if (
    largest !== undefined ||
    cell.vendorByTier.size === 0 ||
    !cell.causes.every(({ quantity }) => quantity.eq(ZERO))
  ) {
    return largest?.tier
  }
  // Ours on a tier that the vendor knows nothing of.
  return [...cell.ledgerByTier].find(
    ([tier, quantity]) => tier !== 'default' && quantity.gt(cell.vendorByTier.get(tier) ?? ZERO),
  )?.[0]
}

function tierCause(tier: string): Cause {
  return tier === 'batch' ? 'batch' : 'service_tier'
}

function tierDetail(tier: string): string {
  return `Counted on the tier ${tier} on one side alone`
}

function shown(price: Decimal | undefined): string {
  if (price === undefined) return 'nothing'
  return `$${decimalText(price.round(Math.max(0, SHOWN_DIGITS - price.e - 1), 2))}`
}
