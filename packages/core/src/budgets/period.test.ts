import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CalendarPeriod, periodAt, periodBefore } from './period.ts'

const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'America/Sao_Paulo',
  'America/Havana',
  'America/St_Johns',
  'Asia/Kolkata',
  'Asia/Kathmandu',
  'Africa/Casablanca',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Pacific/Chatham',
]
const KINDS: readonly CalendarPeriod[] = ['hour', 'day', 'week', 'month', 'quarter']
const at = (kind: CalendarPeriod, zone: string, instant: string) => {
  const period = periodAt(kind, zone, Date.parse(instant))
  return (
    period &&
    [new Date(period.startMs).toISOString(), new Date(period.endMs).toISOString()].map((text) =>
      text.slice(0, 16),
    )
  )
}

describe('periods', () => {
  it('tile time without a gap or an overlap, in every zone', () => {
    const instants = fc.oneof(
      fc.integer({ min: Date.UTC(2008, 0, 1), max: Date.UTC(2035, 0, 1) }),
      // Around the days on which clocks change, and the day that Samoa left out.
      fc
        .tuple(
          fc.constantFrom(
            '2011-12-30',
            '2018-02-18',
            '2018-11-04',
            '2026-03-29',
            '2026-04-05',
            '2026-10-04',
            '2026-10-25',
            '2026-11-01',
          ),
          fc.integer({ min: -40 * 3_600_000, max: 40 * 3_600_000 }),
        )
        .map(([day, distance]) => Date.parse(day) + distance),
    )
    fc.assert(
      fc.property(instants, fc.constantFrom(...ZONES), fc.constantFrom(...KINDS), (instant, zone, kind) => {
        const period = periodAt(kind, zone, instant)
        if (period === undefined) throw new Error('there is no period')
        expect(period.startMs).toBeLessThanOrEqual(instant)
        expect(period.endMs).toBeGreaterThan(instant)
        expect(periodAt(kind, zone, period.startMs)).toEqual(period)
        expect(periodAt(kind, zone, period.endMs - 1)).toEqual(period)
        expect(periodAt(kind, zone, period.endMs)?.startMs).toBe(period.endMs)
        expect(periodBefore(kind, zone, period.startMs)?.endMs).toBe(period.startMs)
      }),
      { numRuns: 2_000 },
    )
  })

  const cases: readonly [CalendarPeriod, string, string, string, string][] = [
    ['month', 'Europe/Berlin', '2026-03-31T21:59:59Z', '2026-02-28T23:00', '2026-03-31T22:00'],
    ['month', 'Europe/Berlin', '2026-03-31T22:00:00Z', '2026-03-31T22:00', '2026-04-30T22:00'],
    ['day', 'Europe/Berlin', '2026-03-29T12:00:00Z', '2026-03-28T23:00', '2026-03-29T22:00'],
    ['day', 'America/New_York', '2026-11-01T12:00:00Z', '2026-11-01T04:00', '2026-11-02T05:00'],
    ['week', 'UTC', '2026-01-01T12:00:00Z', '2025-12-29T00:00', '2026-01-05T00:00'],
    ['week', 'UTC', '2026-11-29T23:59:59Z', '2026-11-23T00:00', '2026-11-30T00:00'],
    ['quarter', 'UTC', '2026-11-24T00:00:00Z', '2026-10-01T00:00', '2027-01-01T00:00'],
    ['hour', 'Asia/Kolkata', '2026-11-24T12:00:00Z', '2026-11-24T11:30', '2026-11-24T12:30'],
    ['hour', 'Asia/Kathmandu', '2026-11-24T12:00:00Z', '2026-11-24T11:15', '2026-11-24T12:15'],
    // 02:00 becomes 02:30: what was half an hour until then is an hour of its own.
    ['hour', 'Australia/Lord_Howe', '2026-10-03T15:40:00Z', '2026-10-03T15:30', '2026-10-03T16:00'],
  ]
  it.each(cases)('%s in %s at %s begins at %s and ends at %s', (kind, zone, instant, start, end) => {
    expect(at(kind, zone, instant)).toEqual([start, end])
  })

  it('a custom period is one range with nothing before or after', () => {
    const rule = { startMs: 1_000, endMs: 2_000 }
    expect([999, 1_000, 1_999, 2_000].map((ms) => periodAt(rule, 'UTC', ms))).toEqual([
      undefined,
      rule,
      rule,
      undefined,
    ])
    expect(periodBefore(rule, 'UTC', 1_000)).toBeUndefined()
  })
})
