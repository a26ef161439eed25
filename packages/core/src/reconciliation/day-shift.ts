import { type decimal, ZERO } from '../money/decimal.ts'
import { type Cell, explain } from './cell.ts'
import { dayOfMs, type Gathered } from './gather.ts'

/** Time zones lie between 12 hours behind UTC and 14 hours before it. */
const HOURS_BEHIND_MAX = -12
const HOURS_AHEAD_MAX = 14
const HOUR_MS = 3_600_000
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
  // What other causes took belongs to neither side here.
  const wanted = new Map(
    cells.map((cell) => [
      keyOf(cell.day, seriesOf(cell)),
      Number(cell.ledgerQuantity.plus(cell.restQuantity).toFixed()),
    ]),
  )
  const series = [...new Set(cells.map(seriesOf))].map(
    (name) =>
      [
        name,
        (gathered.hours.get(name) ?? []).map(([ms, quantity]) => [ms, Number(quantity.toFixed())] as const),
      ] as const,
  )
  const restAt = (offset: number): number => {
    const sums = new Map<string, number>()
    for (const [name, hours] of series) {
      for (const [ms, quantity] of hours) {
        const key = keyOf(dayOfMs(ms + offset * HOUR_MS), name)
        if (wanted.has(key)) sums.set(key, (sums.get(key) ?? 0) + quantity)
      }
    }
    let rest = 0
    for (const [key, quantity] of wanted) rest += Math.abs(quantity - (sums.get(key) ?? 0))
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
  const shifted = new Map<string, ReturnType<typeof decimal>>()
  for (const name of new Set(cells.map(seriesOf))) {
    for (const [ms, quantity] of hours.get(name) ?? []) {
      const key = keyOf(dayOfMs(ms + offset * HOUR_MS), name)
      shifted.set(key, (shifted.get(key) ?? ZERO).plus(quantity))
    }
  }
  for (const cell of cells) {
    const moved = (shifted.get(keyOf(cell.day, seriesOf(cell))) ?? ZERO).minus(cell.ledgerQuantity)
    explain(cell, 'time_zone', moved, `The vendor's days begin ${from} midnight UTC`)
  }
}

function seriesOf(cell: Cell): string {
  return JSON.stringify([cell.modelKey, cell.meter])
}

function keyOf(day: string, series: string): string {
  return `${day} ${series}`
}
