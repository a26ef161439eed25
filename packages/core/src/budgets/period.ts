import { offsetMinutes, startOfDayMs } from '../calendar/time-zone.ts'
import type { BudgetPeriod } from './budget.ts'

/**
 * The periods that a budget is cut into. They tile time: each instant lies in exactly one of them, also where
 * clocks change, and nothing is reset between them.
 *
 * - Days, weeks (ISO 8601: from Monday), months and quarters begin with a day of the zone's calendar.
 * - Hours are cut in local time, so that half-hour zones have their own full hours. An hour that a clock change
 *   repeats is two periods; where the clock changes within an hour (Lord Howe Island, by half an hour), the
 *   change ends one period and begins the next.
 * - A custom period is one range; there is none before and none after it.
 */
export type CalendarPeriod = 'hour' | 'day' | 'week' | 'month' | 'quarter'
export type PeriodRule = CalendarPeriod | BudgetPeriod

/** The period that an instant lies in; undefined outside of a custom one. */
export function periodAt(rule: PeriodRule, timeZone: string, instantMs: number): BudgetPeriod | undefined {
  if (typeof rule === 'object') {
    return instantMs >= rule.startMs && instantMs < rule.endMs ? rule : undefined
  }
  return rule === 'hour' ? hourAt(instantMs, timeZone) : calendarPeriodAt(rule, timeZone, instantMs)
}

/** The period before the one that begins at `startMs`; undefined for a custom one. */
export function periodBefore(rule: PeriodRule, timeZone: string, startMs: number): BudgetPeriod | undefined {
  return typeof rule === 'object' ? undefined : periodAt(rule, timeZone, startMs - 1)
}

const HOUR_MS = 3_600_000
const MINUTE_MS = 60_000
const DAY_MS = 24 * HOUR_MS

function hourAt(instantMs: number, timeZone: string): BudgetPeriod {
  const offset = offsetMinutes(instantMs, timeZone)
  const localMs = instantMs + offset * MINUTE_MS
  const nominalMs = instantMs - (((localMs % HOUR_MS) + HOUR_MS) % HOUR_MS)
  const hasOffset = (ms: number) => offsetMinutes(ms, timeZone) === offset
  // Clocks change at most once within an hour, and at a full second.
  const startMs = hasOffset(nominalMs) ? nominalMs : firstSecond(nominalMs, instantMs, hasOffset)
  const nominalEndMs = nominalMs + HOUR_MS
  const endMs = hasOffset(nominalEndMs - 1)
    ? nominalEndMs
    : firstSecond(instantMs, nominalEndMs - 1, (ms) => !hasOffset(ms))
  return { startMs, endMs }
}

/** The first full second after `fromMs` at which `holds`, given that it does not hold there and does at `toMs`. */
function firstSecond(fromMs: number, toMs: number, holds: (ms: number) => boolean): number {
  let before = Math.floor(fromMs / 1000)
  let after = Math.floor(toMs / 1000)
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2)
    if (holds(middle * 1000)) after = middle
    else before = middle
  }
  return after * 1000
}

function calendarPeriodAt(
  rule: Exclude<CalendarPeriod, 'hour'>,
  timeZone: string,
  instantMs: number,
): BudgetPeriod {
  const localMs = instantMs + offsetMinutes(instantMs, timeZone) * MINUTE_MS
  let first = firstDayMs(rule, localMs)
  // Around a midnight that is skipped or repeated the local date can be another than that of the day that has
  // begun.
  if (instantMs < startMsOf(first, timeZone)) first = firstDayMs(rule, first - DAY_MS)
  let next = nextFirstDayMs(rule, first)
  while (instantMs >= startMsOf(next, timeZone)) {
    first = next
    next = nextFirstDayMs(rule, first)
  }
  return { startMs: startMsOf(first, timeZone), endMs: startMsOf(next, timeZone) }
}

/** The first day of the period that a local date lies in, as midnight of UTC. */
function firstDayMs(rule: Exclude<CalendarPeriod, 'hour'>, localMs: number): number {
  const date = new Date(localMs)
  const dayMs = Math.floor(localMs / DAY_MS) * DAY_MS
  switch (rule) {
    case 'day':
      return dayMs
    case 'week':
      return dayMs - ((date.getUTCDay() + 6) % 7) * DAY_MS
    case 'month':
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1)
    case 'quarter':
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - (date.getUTCMonth() % 3), 1)
  }
}

function nextFirstDayMs(rule: Exclude<CalendarPeriod, 'hour'>, firstMs: number): number {
  const date = new Date(firstMs)
  switch (rule) {
    case 'day':
      return firstMs + DAY_MS
    case 'week':
      return firstMs + 7 * DAY_MS
    case 'month':
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1)
    case 'quarter':
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 3, 1)
  }
}

function startMsOf(dayMs: number, timeZone: string): number {
  return startOfDayMs(new Date(dayMs).toISOString().slice(0, 10), timeZone)
}
