import { type FieldIssue, isTimeZone, startOfDayMs } from '@tokentally/core'
import { z } from 'zod'
import { Problem } from '../http/problem.ts'

/** What every report over a range may be asked; `readPeriod` reads it. */
export const rangeParameters = {
  start: z
    .string()
    .optional()
    .describe('Included. A date, or an RFC 3339 instant. Default: 30 days before `end`.'),
  end: z.string().optional().describe('Excluded. A date, or an RFC 3339 instant. Default: now.'),
  timezone: z
    .string()
    .optional()
    .describe('IANA name; default UTC. Where days begin, and how buckets are cut.'),
}

/** A report's range: `startMs` included, `endMs` excluded, UTC milliseconds. */
export interface Period {
  readonly startMs: number
  readonly endMs: number
  readonly timeZone: string
}

const DEFAULT_DAYS = 30
const DAY_MS = 24 * 3_600_000
/** Twenty years: more is a typing mistake, and every bucket of it would be computed. */
const LONGEST_MS = 20 * 366 * DAY_MS

/**
 * Reads `start`, `end` and `timezone` of a report. A date is the beginning of that day in the zone. Without
 * an end the range reaches to now (and includes events that are being sent: one minute more), without a start
 * it is 30 days long.
 *
 * @throws Problem naming every field that is wrong
 */
export function readPeriod(
  query: {
    readonly start?: string | undefined
    readonly end?: string | undefined
    readonly timezone?: string | undefined
  },
  nowMs: number,
): Period {
  const issues: FieldIssue[] = []
  const named = zoneOf(query.timezone ?? 'UTC')
  if (named === undefined)
    issues.push({ path: 'timezone', message: 'is no IANA time zone, such as Europe/Paris' })
  const timeZone = named ?? 'UTC'
  const end = readInstant('end', query.end, timeZone, issues) ?? nowMs + 60_000
  const start = readInstant('start', query.start, timeZone, issues) ?? end - DEFAULT_DAYS * DAY_MS
  if (issues.length === 0 && start >= end) issues.push({ path: 'end', message: 'must lie after start' })
  if (issues.length === 0 && end - start > LONGEST_MS) {
    issues.push({ path: 'start', message: 'lies more than 20 years before end' })
  }
  if (issues.length > 0)
    throw new Problem({ code: 'invalid-request', detail: 'The range is not valid.', errors: issues })
  return { startMs: start, endMs: end, timeZone }
}

/** The three-letter names of the IANA database. All others, such as BST or IST, are different places to different people. */
const SHORT_ZONES: ReadonlySet<string> = new Set([
  'CET',
  'EET',
  'EST',
  'GMT',
  'HST',
  'MET',
  'MST',
  'PRC',
  'ROC',
  'ROK',
  'UCT',
  'UTC',
  'WET',
])

/**
 * The zone as both the runtime and PostgreSQL understand it. PostgreSQL reads a name without a slash as an
 * abbreviation first (CET without its summer), and an offset with the sign turned round.
 *
 * @returns undefined when there is no such zone
 */
export function zoneOf(name: string): string | undefined {
  if (!/^[A-Za-z]/.test(name) || (name.length === 3 && !SHORT_ZONES.has(name.toUpperCase()))) return undefined
  if (!isTimeZone(name)) return undefined
  if (name.includes('/')) return name
  return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone
}

const DATE = /^\d{4}-\d{2}-\d{2}$/
const INSTANT = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})$/

function readInstant(
  path: string,
  text: string | undefined,
  timeZone: string,
  issues: FieldIssue[],
): number | undefined {
  if (text === undefined) return undefined
  // A "+" of an offset that was not percent-encoded arrives as a blank.
  const instant = text.trim().replace(/ (\d{2}:\d{2})$/, '+$1')
  const ms = !isDate(instant.slice(0, 10))
    ? Number.NaN
    : DATE.test(instant)
      ? startOfDayMs(instant, timeZone)
      : INSTANT.test(instant)
        ? Date.parse(instant.replace(' ', 'T'))
        : Number.NaN
  if (Number.isNaN(ms)) {
    issues.push({ path, message: 'must be a date (2026-11-01) or an instant (2026-11-01T00:00:00Z)' })
    return undefined
  }
  return ms
}

/** Rules out dates that JavaScript would quietly move on, such as 30 February. */
function isDate(text: string): boolean {
  const ms = Date.parse(`${text}T00:00:00Z`)
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text)
}
