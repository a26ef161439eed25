/**
 * Instants and the calendar of a time zone. Zones are IANA names; rules come from the runtime's ICU data.
 */

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
 * resumes.
 *
 * @param date `YYYY-MM-DD`
 */
export function startOfDayMs(date: string, timeZone: string): number {
  const midnightUtcMs = Date.parse(`${date}T00:00:00Z`)
  // The offset depends on the instant that is looked for; the second look settles it across a change.
  const guessMs = midnightUtcMs - offsetMinutes(midnightUtcMs, timeZone) * 60_000
  return midnightUtcMs - offsetMinutes(guessMs, timeZone) * 60_000
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
