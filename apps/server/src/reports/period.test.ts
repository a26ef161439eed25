import { describe, expect, it } from 'vitest'
import { Problem } from '../http/problem.ts'
import { readPeriod } from './period.ts'

const NOW_MS = Date.UTC(2026, 10, 23, 12)

describe('the range of a report', () => {
  it('reads dates as the beginning of that day in the zone', () => {
    const period = readPeriod(
      { start: '2026-11-01', end: '2026-11-02', timezone: 'America/New_York' },
      NOW_MS,
    )
    // 25 hours: the clocks go back on that day.
    expect(period.endMs - period.startMs).toBe(25 * 3_600_000)
  })

  it('accepts offsets, also where "+" arrived as a blank', () => {
    const expected = Date.UTC(2026, 10, 1, 10)
    expect(readPeriod({ start: '2026-11-01T12:00:00+02:00' }, NOW_MS).startMs).toBe(expected)
    expect(readPeriod({ start: '2026-11-01T12:00:00 02:00' }, NOW_MS).startMs).toBe(expected)
  })

  it('is 30 days long and reaches to now where nothing is said', () => {
    const period = readPeriod({}, NOW_MS)
    expect(period.endMs).toBeGreaterThan(NOW_MS)
    expect(period.endMs - period.startMs).toBe(30 * 24 * 3_600_000)
  })

  it.each([
    [{ start: 'yesterday' }, 'start'],
    [{ start: '2026-02-30' }, 'start'],
    [{ start: '2026-11-02', end: '2026-11-01' }, 'end'],
    [{ timezone: 'Mars/Olympus' }, 'timezone'],
  ])('%j is refused and names %s', (query, path) => {
    const problem = problemOf(() => readPeriod(query, NOW_MS))
    expect(problem).toBeInstanceOf(Problem)
    expect(problem instanceof Problem && problem.errors?.map((issue) => issue.path)).toEqual([path])
  })
})

function problemOf(act: () => unknown): unknown {
  try {
    return act()
  } catch (error) {
    return error
  }
}
