import { type Decimal, decimal, decimalText, ZERO } from '@tokentally/core'

/**
 * What of a customer's usage becomes events of a meter at Stripe.
 *
 * - Stripe takes whole numbers. An event is what the sum of all that was counted, rounded down, is more than all events
 *   before: a fraction is carried to the next event, and never more than one unit is missing.
 * - One event for each UTC day of usage, at a minute of its own, which later tells whether it came. What is older than Stripe
 *   takes is sent with the oldest time that it takes.
 * - What was taken back is a negative event of its day.
 */

const DAY_MS = 86_400_000
const MINUTE_MS = 60_000
const ROUND_DOWN = 0

export interface UncountedDay {
  /** `YYYY-MM-DD`, UTC. */
  readonly day: string
  readonly amount: Decimal
}

export interface WholeEvent {
  /** UTC milliseconds, a whole minute. */
  readonly atMs: number
  /** The earliest day that it counts. */
  readonly usageFrom: string
  /** Whole, not zero; decimal text. */
  readonly value: string
}

export interface WholeEvents {
  readonly events: readonly WholeEvent[]
  /** Exact. */
  readonly counted: Decimal
  /** Whole. */
  readonly sent: Decimal
}

/**
 * @param before all that was counted, and the sum of all events
 * @param days what came to it
 * @param oldestMs the oldest time that Stripe takes, a whole minute
 * @param lastAt by day, the last minute of it that an event stands at
 */
export function wholeEvents(
  before: { readonly counted: Decimal; readonly sent: Decimal },
  days: readonly UncountedDay[],
  oldestMs: number,
  lastAt: ReadonlyMap<string, number>,
): WholeEvents {
  const oldestDay = dayOf(oldestMs)
  const byDay = new Map<string, { usageFrom: string; amount: Decimal }>()
  for (const { day, amount } of days.toSorted((a, b) => (a.day < b.day ? -1 : 1))) {
    const told = toldDay(day, oldestMs)
    const known = byDay.get(told)
    if (known === undefined) byDay.set(told, { usageFrom: day, amount })
    else known.amount = known.amount.plus(amount)
  }
  let { counted, sent } = before
  const events: WholeEvent[] = []
  for (const [day, { usageFrom, amount }] of byDay) {
    counted = counted.plus(amount)
    const value = floor(counted).minus(sent)
    if (value.eq(ZERO)) continue
    sent = sent.plus(value)
    const startMs = Date.parse(day)
    const last = lastAt.get(day)
    const nextMs = last === undefined ? startMs : last + MINUTE_MS
    // Beyond 1,440 events they share the last minute; there, the identifier alone keeps one from coming twice.
    const atMs = Math.min(
      Math.max(nextMs, day === oldestDay ? oldestMs : startMs),
      startMs + DAY_MS - MINUTE_MS,
    )
    events.push({ atMs, usageFrom, value: decimalText(value) })
  }
  return { events, counted, sent }
}

/** The day that usage of a day is told Stripe for. */
export function toldDay(day: string, oldestMs: number): string {
  const oldestDay = dayOf(oldestMs)
  return day < oldestDay ? oldestDay : day
}

/** Towards minus infinity. */
function floor(amount: Decimal): Decimal {
  const whole = amount.round(0, ROUND_DOWN)
  return whole.gt(amount) ? whole.minus(decimal('1')) : whole
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
