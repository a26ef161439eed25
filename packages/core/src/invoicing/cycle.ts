import { offsetMinutes, startOfDayMs } from '../calendar/time-zone.ts'
import type { BillingProfile } from './billing-profile.ts'

/**
 * The cycles of a billing profile. They tile time from `starts_on` to `ends_on`: each begins where the one before
 * ended, and ends at the next anchor day of the profile's calendar. So the first and the last may be shorter, and so
 * is one after the profile's cycle was changed. A shorter cycle has its allowance and its minimum in full.
 */
export interface Cycle {
  /** UTC milliseconds; the end is excluded. */
  readonly startMs: number
  readonly endMs: number
}

type Calendar = Pick<BillingProfile, 'cycle' | 'timezone' | 'starts_on' | 'ends_on'>

const DAY_MS = 24 * 3_600_000
const HOUR_MS = 3_600_000

/** When the customer's first cycle begins, UTC milliseconds. */
export function firstCycleStartMs({ starts_on, timezone }: Calendar): number {
  return startOfDayMs(starts_on, timezone)
}

/** The cycle that begins at an instant: at `starts_on`, or where one ended; undefined when no usage is invoiced from then on. */
export function cycleFrom(calendar: Calendar, startMs: number): Cycle | undefined {
  const { timezone, ends_on } = calendar
  const lastMs =
    ends_on === undefined || ends_on === null ? Number.POSITIVE_INFINITY : startOfDayMs(ends_on, timezone)
  if (startMs >= lastMs) return undefined
  return { startMs, endMs: Math.min(lastMs, nextAnchorMs(calendar, startMs)) }
}

/**
 * Cycles that can be closed: those that ended, and whose grace for late events is over, the earliest first.
 *
 * @param lastEndMs where the customer's last closed cycle ended; undefined: none was closed
 * @param max how many at most
 */
export function closableCycles(
  profile: Calendar & Pick<BillingProfile, 'grace_hours'>,
  {
    lastEndMs,
    nowMs,
    max,
  }: { readonly lastEndMs: number | undefined; readonly nowMs: number; readonly max: number },
): readonly Cycle[] {
  const cycles: Cycle[] = []
  let startMs = lastEndMs ?? firstCycleStartMs(profile)
  while (cycles.length < max) {
    const cycle = cycleFrom(profile, startMs)
    if (cycle === undefined || cycle.endMs + profile.grace_hours * HOUR_MS > nowMs) break
    cycles.push(cycle)
    startMs = cycle.endMs
  }
  return cycles
}

/** The day of an instant in a zone, `YYYY-MM-DD`. */
export function localDate(instantMs: number, timeZone: string): string {
  return new Date(instantMs + offsetMinutes(instantMs, timeZone) * 60_000).toISOString().slice(0, 10)
}

/** The first instant after `instantMs` at which an anchor day begins. */
function nextAnchorMs({ cycle, timezone }: Calendar, instantMs: number): number {
  const localMs = Date.parse(`${localDate(instantMs, timezone)}T00:00:00Z`)
  for (let step = 0; ; step++) {
    const dayMs =
      cycle.interval === 'month'
        ? monthAnchorMs(localMs, step, cycle.anchor_day)
        : weekAnchorMs(localMs, step, cycle.anchor_weekday)
    const anchorMs = startOfDayMs(new Date(dayMs).toISOString().slice(0, 10), timezone)
    if (anchorMs > instantMs) return anchorMs
  }
}

/** The anchor day of the month `step` months later, its last day where it is shorter; as midnight of UTC. */
function monthAnchorMs(localMs: number, step: number, anchorDay: number): number {
  const date = new Date(localMs)
  const month = date.getUTCMonth() + step
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), month + 1, 0)).getUTCDate()
  return Date.UTC(date.getUTCFullYear(), month, Math.min(anchorDay, lastDay))
}

/** The anchor weekday of the ISO week `step` weeks later; as midnight of UTC. */
function weekAnchorMs(localMs: number, step: number, anchorWeekday: number): number {
  const mondayMs = localMs - ((new Date(localMs).getUTCDay() + 6) % 7) * DAY_MS
  return mondayMs + (7 * step + anchorWeekday - 1) * DAY_MS
}
