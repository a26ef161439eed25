import { isTimeZone, startOfDayMs } from '@tokentally/core'
import { WrongUsage } from './terminal.ts'

/** A range of time as the flags give it. */
export interface RangeFlags {
  readonly last?: string
  readonly from?: string
  readonly to?: string
  readonly timeZone: string
}

export interface Range {
  /** Included, UTC milliseconds. */
  readonly startMs: number
  /** Excluded, UTC milliseconds. */
  readonly endMs: number
}

const HOUR_MS = 3_600_000
const LENGTHS_MS = { hour: HOUR_MS, day: 24 * HOUR_MS, week: 7 * 24 * HOUR_MS, month: 30 * 24 * HOUR_MS }
export const LENGTHS: readonly string[] = Object.keys(LENGTHS_MS)

/**
 * Reads `--last`, or `--from` and `--to`. A date is the beginning of that day in the time zone. Without an end
 * the range reaches to now, without a start it begins where `beginning` says.
 *
 * @param beginning given the end, UTC milliseconds
 * @throws WrongUsage
 */
export function readRange(flags: RangeFlags, nowMs: number, beginning: (endMs: number) => number): Range {
  if (!isTimeZone(flags.timeZone)) {
    throw new WrongUsage(`--time-zone "${flags.timeZone}" is no IANA time zone, such as Europe/Paris`)
  }
  const now = nowMs + 1
  if (flags.last !== undefined) {
    if (flags.from !== undefined || flags.to !== undefined) {
      throw new WrongUsage('--last goes without --from and --to')
    }
    return { startMs: now - lengthMs(flags.last), endMs: now }
  }
  const endMs = flags.to === undefined ? now : readInstant('--to', flags.to, flags.timeZone)
  const startMs =
    flags.from === undefined ? beginning(endMs) : readInstant('--from', flags.from, flags.timeZone)
  if (startMs >= endMs) throw new WrongUsage('--to must lie after --from')
  return { startMs, endMs }
}

/** 30 days. */
export function monthBefore(endMs: number): number {
  return endMs - LENGTHS_MS.month
}

function lengthMs(last: string): number {
  for (const [name, length] of Object.entries(LENGTHS_MS)) if (name === last) return length
  throw new WrongUsage(`--last takes ${LENGTHS.join(', ')}`)
}

const DATE = /^\d{4}-\d{2}-\d{2}$/
const INSTANT = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})$/

function readInstant(flag: string, text: string, timeZone: string): number {
  const ms = !isDate(text.slice(0, 10))
    ? Number.NaN
    : DATE.test(text)
      ? startOfDayMs(text, timeZone)
      : INSTANT.test(text)
        ? Date.parse(text.replace(' ', 'T'))
        : Number.NaN
  if (Number.isNaN(ms)) {
    throw new WrongUsage(`${flag} "${text}" must be a date (2026-11-01) or an instant (2026-11-01T00:00:00Z)`)
  }
  return ms
}

/** Rules out dates that JavaScript would quietly move on, such as 30 February. */
function isDate(text: string): boolean {
  const ms = Date.parse(`${text}T00:00:00Z`)
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text)
}
