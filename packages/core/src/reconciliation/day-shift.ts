import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import { type Cell, explain, sumOf } from './cell.ts'
import { dayOfMs, type Gathered, type LedgerHour, seriesOf } from './gather.ts'

/** Time zones lie between 12 hours behind UTC and 14 hours before it. */
const HOURS_BEHIND_MAX = -12
const HOURS_AHEAD_MAX = 14
const HOUR_MS = 3_600_000
const HOURS_A_DAY = 24
/** As much of the differences may remain when the days are cut elsewhere. */
const REST_MAX = 0.25

/**
 * Finds whether the vendor's days begin at another hour than ours, and lets the shift explain what it explains.
 *
 * The ledger's hours are cut into days at every offset of a time zone, and that is believed which leaves the least
 * difference, if it leaves at most a quarter and differences stand on two days or more. Zones with half
 * hours are not found. The search is by floating-point sums of units, as it only chooses; what is explained is exact.
 *
 * @returns hours that the vendor's days begin before ours; 0: they begin as ours do
 */
export function explainDayShift(gathered: Gathered): number {
  const cells = gathered.cells.filter(
    (cell) => cell.vendorQuantity !== undefined && gathered.hours.has(seriesOf(cell)),
  )
  if (new Set(cells.filter((cell) => !cell.restQuantity.eq(ZERO)).map(({ day }) => day)).size < 2) return 0
  const series = [...Map.groupBy(cells, seriesOf)].map(([name, ofSeries]) => ({
    // What other causes took belongs to neither side here.
    wanted: ofSeries.map(
      (cell) => [dayIndex(cell.day), numberOf(cell.ledgerQuantity.plus(cell.restQuantity))] as const,
    ),
    hours: (gathered.hours.get(name) ?? []).map(
      ({ hourMs, quantity }) => [hourMs / HOUR_MS, Number(quantity)] as const,
    ),
  }))
  const restAt = (offset: number): number => {
    let rest = 0
    for (const { wanted, hours } of series) {
      const sums = new Map<number, number>()
      for (const [hour, quantity] of hours) {
        const day = Math.floor((hour + offset) / HOURS_A_DAY)
        sums.set(day, (sums.get(day) ?? 0) + quantity)
      }
      for (const [day, quantity] of wanted) rest += Math.abs(quantity - (sums.get(day) ?? 0))
    }
    return rest
  }
  const unshifted = restAt(0)
  let best = { offset: 0, rest: unshifted }
  for (let offset = HOURS_BEHIND_MAX; offset <= HOURS_AHEAD_MAX; offset++) {
    const rest = offset === 0 ? unshifted : restAt(offset)
    if (rest < best.rest) best = { offset, rest }
  }
  if (best.offset === 0 || best.rest > unshifted * REST_MAX) return 0
  shift(cells, gathered, best.offset)
  return best.offset
}

function shift(cells: readonly Cell[], { hours }: Gathered, offset: number): void {
  const from = offset > 0 ? `${offset} hours before` : `${-offset} hours after`
  const shifted = new Map<string, LedgerHour[]>()
  for (const name of new Set(cells.map(seriesOf))) {
    for (const hour of hours.get(name) ?? []) {
      const key = keyOf(dayOfMs(hour.hourMs + offset * HOUR_MS), name)
      const ofDay = shifted.get(key) ?? []
      ofDay.push(hour)
      shifted.set(key, ofDay)
    }
  }
  for (const cell of cells) {
    const ofDay = shifted.get(keyOf(cell.day, seriesOf(cell))) ?? []
    const quantity = sumOf(ofDay.map((hour) => decimal(hour.quantity)))
    const cost = sumOf(ofDay.map((hour) => decimal(hour.costUsd)))
    explain(
      cell,
      'time_zone',
      quantity.minus(cell.ledgerQuantity),
      `The vendor's days begin ${from} midnight UTC`,
      cell.vendorCostUsd === undefined ? undefined : cost.minus(cell.ledgerCostUsd),
    )
    // Tiers are compared within the vendor's days.
    cell.ledgerByTier.clear()
    for (const hour of ofDay) {
      const sum = cell.ledgerByTier.get(hour.serviceTier) ?? ZERO
      cell.ledgerByTier.set(hour.serviceTier, sum.plus(decimal(hour.quantity)))
    }
  }
}

function dayIndex(day: string): number {
  return Date.parse(`${day}T00:00:00Z`) / HOUR_MS / HOURS_A_DAY
}

function numberOf(quantity: Decimal): number {
  return Number(quantity.toFixed())
}

function keyOf(day: string, series: string): string {
  return `${day} ${series}`
}
