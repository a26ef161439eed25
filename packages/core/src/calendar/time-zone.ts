/**
 * Instants and the calendar of a time zone. Zones are IANA names; rules come from the runtime's ICU data.
 */

const DAY_MS = 24 * 3_600_000

/** Whether the runtime knows the zone. */
export function isTimeZone(name: string): boolean {
  try {
    formatterOf(name)
    return true
  } catch {
    return false
  }
}

/**
 * The zone's distance from UTC at an instant, in minutes: east of Greenwich is positive.
 *
 * @throws RangeError when the zone is unknown
 */
export function offsetMinutes(instantMs: number, timeZone: string): number {
  const parts: Record<string, number> = {}
  for (const { type, value } of formatterOf(timeZone).formatToParts(instantMs)) {
    if (type !== 'literal') parts[type] = Number(value)
  }
  const localMs = Date.UTC(
    parts['year'] ?? 0,
    (parts['month'] ?? 1) - 1,
    parts['day'] ?? 1,
    parts['hour'] ?? 0,
    parts['minute'] ?? 0,
    parts['second'] ?? 0,
  )
  return Math.round((localMs - Math.floor(instantMs / 1000) * 1000) / 60_000)
}

/**
 * The first instant of a calendar day in a zone. Where the clock skips midnight, the day begins when it
 * resumes; where it shows midnight twice, at the first.
 *
 * @param date `YYYY-MM-DD`
 */
export function startOfDayMs(date: string, timeZone: string): number {
  const midnightUtcMs = Date.parse(`${date}T00:00:00Z`)
  // The offsets before and after: they differ when the clock changes around that midnight.
  const candidates = [midnightUtcMs - DAY_MS, midnightUtcMs + DAY_MS].map(
    (nearMs) => midnightUtcMs - offsetMinutes(nearMs, timeZone) * 60_000,
  )
  const midnights = candidates.filter(
    (instantMs) => instantMs + offsetMinutes(instantMs, timeZone) * 60_000 === midnightUtcMs,
  )
  return midnights.length > 0 ? Math.min(...midnights) : Math.max(...candidates)
}

/** RFC 3339 with the zone's offset at that instant; `Z` in UTC. */
export function formatInstant(instantMs: number, timeZone: string): string {
  const offset = offsetMinutes(instantMs, timeZone)
  if (offset === 0) return new Date(instantMs).toISOString().replace('.000Z', 'Z')
  const local = new Date(instantMs + offset * 60_000).toISOString().replace(/(\.000)?Z$/, '')
  const minutes = Math.abs(offset)
  const hh = String(Math.floor(minutes / 60)).padStart(2, '0')
  const mm = String(minutes % 60).padStart(2, '0')
  return `${local}${offset < 0 ? '-' : '+'}${hh}:${mm}`
}

const formatters = new Map<string, Intl.DateTimeFormat>()

function formatterOf(timeZone: string): Intl.DateTimeFormat {
  let formatter = formatters.get(timeZone)
  if (formatter === undefined) {
    formatter = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
    formatters.set(timeZone, formatter)
  }
  return formatter
}
