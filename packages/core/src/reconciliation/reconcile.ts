import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import { CAUSES, type Cause, type Cell, sumOf } from './cell.ts'
import { type ExplainOptions, explainDifferences } from './explain.ts'
import { type GatherInput, gather, unitPrice, type VendorFigure } from './gather.ts'

/** What rows are kept apart by. */
export const RECONCILIATION_GROUPS = ['day', 'model', 'meter'] as const
export type ReconciliationGroup = (typeof RECONCILIATION_GROUPS)[number]

/** A part of a difference: the vendor's minus ours. */
export interface ExplainedPart {
  readonly cause: Cause
  readonly quantity: Decimal
  /** US dollars; undefined: nobody says a price. */
  readonly costUsd: Decimal | undefined
  /** One sentence for each thing found; at most `DETAILS_MAX`. */
  readonly details: readonly string[]
}

/** Both sides of a group. */
export interface Comparison {
  readonly day: string | null
  readonly model: string | null
  readonly meter: string | null
  /** Undefined: the vendor gives no quantities, or the group has several meters beside tokens. */
  readonly vendorQuantity: Decimal | undefined
  readonly ledgerQuantity: Decimal
  /** Undefined: the vendor gives no costs. */
  readonly vendorCostUsd: Decimal | undefined
  readonly ledgerCostUsd: Decimal
  readonly vendorUnitUsd: Decimal | undefined
  readonly ledgerUnitUsd: Decimal | undefined
  /** Whether both sides agree within the tolerance. */
  readonly isMatch: boolean
  readonly causes: readonly ExplainedPart[]
}

export interface Coverage {
  /** Tokens of the vendor, and those of them that were metered. */
  readonly vendorTokens: Decimal
  readonly meteredTokens: Decimal
  /** Costs of the vendor's usage, and those of them that the ledger has; undefined: no costs. */
  readonly vendorCostUsd: Decimal | undefined
  readonly meteredCostUsd: Decimal | undefined
}

export interface Reconciliation {
  /** The days that are compared. */
  readonly days: readonly string[]
  readonly rows: readonly Comparison[]
  readonly totals: Comparison
  readonly coverage: Coverage
}

export interface ReconcileInput extends GatherInput, ExplainOptions {
  readonly groupBy: readonly ReconciliationGroup[]
  /** A share of the vendor's figure up to which a difference counts as none, exact decimal. */
  readonly tolerance: Decimal
}

const DETAILS_MAX = 5

/**
 * Compares what a vendor says with the ledger, and names the likely cause of each difference.
 *
 * Differences are explained by day, model and meter, whatever the groups are, so that one that another day makes up
 * for is still seen. Each unit has one cause, the first of `CAUSES` that applies; causes add up to the difference.
 */
export function reconcile(input: ReconcileInput): Reconciliation {
  const gathered = gather(input)
  explainDifferences(gathered, input)
  const nameOf = (cell: Cell) => gathered.modelNames.get(cell.modelKey) ?? cell.modelKey
  const keyOf = (day: string, model: string, meter: string) =>
    JSON.stringify([
      input.groupBy.includes('day') ? day : null,
      input.groupBy.includes('model') ? model : null,
      input.groupBy.includes('meter') ? meter : null,
    ])
  const cells = Map.groupBy(gathered.cells, (cell) => keyOf(cell.day, nameOf(cell), cell.meter))
  const charges = Map.groupBy(gathered.charges, (charge) =>
    keyOf(charge.day, charge.model ?? '', charge.kind),
  )
  const rows = [...new Set([...cells.keys(), ...charges.keys()])].toSorted().map((key) => ({
    ...labelsOf(key),
    ...comparisonOf(cells.get(key) ?? [], charges.get(key) ?? [], input.tolerance),
  }))
  return {
    days: gathered.days,
    rows,
    totals: {
      day: null,
      model: null,
      meter: null,
      ...comparisonOf(gathered.cells, gathered.charges, input.tolerance),
    },
    coverage: coverageOf(gathered.cells),
  }
}

function labelsOf(key: string): Pick<Comparison, 'day' | 'model' | 'meter'> {
  const labels: unknown = JSON.parse(key)
  const [day, model, meter] = Array.isArray(labels) ? labels : []
  const textOf = (label: unknown) => (typeof label === 'string' ? label : null)
  return { day: textOf(day), model: textOf(model), meter: textOf(meter) }
}

function comparisonOf(
  cells: readonly Cell[],
  charges: readonly VendorFigure[],
  tolerance: Decimal,
): Omit<Comparison, 'day' | 'model' | 'meter'> {
  // Tokens and searches do not add up; a group of several meters counts its tokens.
  const isMixed = new Set(cells.map(({ meter }) => meter)).size > 1
  const counted = isMixed ? cells.filter(isOfTokens) : cells
  const withQuantity = counted.filter((cell) => cell.vendorQuantity !== undefined)
  const vendorQuantity =
    withQuantity.length === 0 ? undefined : sumOf(withQuantity.map((cell) => cell.vendorQuantity ?? ZERO))
  const ledgerQuantity = sumOf(counted.map((cell) => cell.ledgerQuantity))
  const chargedUsd = charges.flatMap(({ costUsd }) => (costUsd === null ? [] : [decimal(costUsd)]))
  const costs = [...cells.flatMap(({ vendorCostUsd }) => vendorCostUsd ?? []), ...chargedUsd]
  const vendorCostUsd = costs.length === 0 ? undefined : sumOf(costs)
  const ledgerCostUsd = sumOf(cells.map((cell) => cell.ledgerCostUsd))
  const isWithin = (difference: Decimal, whole: Decimal) => difference.abs().lte(whole.abs().times(tolerance))
  return {
    vendorQuantity,
    ledgerQuantity,
    vendorCostUsd,
    ledgerCostUsd,
    vendorUnitUsd: isMixed ? undefined : unitPrice(vendorCostUsd, vendorQuantity),
    ledgerUnitUsd: isMixed ? undefined : unitPrice(ledgerCostUsd, ledgerQuantity),
    isMatch:
      (vendorQuantity === undefined || isWithin(vendorQuantity.minus(ledgerQuantity), vendorQuantity)) &&
      (vendorCostUsd === undefined || isWithin(vendorCostUsd.minus(ledgerCostUsd), vendorCostUsd)),
    causes: partsOf(cells, counted, charges),
  }
}

function partsOf(
  cells: readonly Cell[],
  counted: readonly Cell[],
  charges: readonly VendorFigure[],
): readonly ExplainedPart[] {
  const isCounted = new Set(counted)
  const found = [
    ...charges.map((charge) => ({
      cause: chargeCause(charge),
      quantity: ZERO,
      costUsd: charge.costUsd === null ? undefined : decimal(charge.costUsd),
      detail: charge.model ?? 'The vendor charges or gives it back beside usage',
    })),
    ...cells.flatMap((cell) =>
      cell.causes.map((part) => (isCounted.has(cell) ? part : { ...part, quantity: ZERO })),
    ),
  ]
  return CAUSES.flatMap((cause) => {
    const parts = found.filter((part) => part.cause === cause)
    if (parts.length === 0) return []
    const costs = parts.flatMap(({ costUsd }) => costUsd ?? [])
    return [
      {
        cause,
        quantity: sumOf(parts.map(({ quantity }) => quantity)),
        costUsd: costs.length === 0 ? undefined : sumOf(costs),
        details: [...new Set(parts.map(({ detail }) => detail))].slice(0, DETAILS_MAX),
      },
    ]
  })
}

function chargeCause({ kind }: VendorFigure): Cause {
  return kind === 'usage' || kind === 'other' ? 'other_charge' : kind
}

function isOfTokens(cell: Cell): boolean {
  return cell.meter.endsWith('_tokens')
}

/** Of each cell, no more counts as metered than the vendor has: what was metered twice makes up for nothing. */
function coverageOf(cells: readonly Cell[]): Coverage {
  let [vendorTokens, meteredTokens, vendorCost, meteredCost] = [ZERO, ZERO, ZERO, ZERO]
  let hasCosts = false
  for (const cell of cells) {
    // Days that are cut elsewhere are no gap.
    const moved = cell.causes.filter(({ cause }) => cause === 'time_zone')
    if (isOfTokens(cell) && cell.vendorQuantity !== undefined) {
      const ledger = cell.ledgerQuantity.plus(sumOf(moved.map((part) => part.quantity)))
      vendorTokens = vendorTokens.plus(cell.vendorQuantity)
      meteredTokens = meteredTokens.plus(ledger.lt(cell.vendorQuantity) ? ledger : cell.vendorQuantity)
    }
    if (cell.vendorCostUsd?.gte(ZERO)) {
      hasCosts = true
      const ledger = cell.ledgerCostUsd.plus(sumOf(moved.map((part) => part.costUsd ?? ZERO)))
      vendorCost = vendorCost.plus(cell.vendorCostUsd)
      meteredCost = meteredCost.plus(ledger.lt(cell.vendorCostUsd) ? ledger : cell.vendorCostUsd)
    }
  }
  return {
    vendorTokens,
    meteredTokens,
    vendorCostUsd: hasCosts ? vendorCost : undefined,
    meteredCostUsd: hasCosts ? meteredCost : undefined,
  }
}
