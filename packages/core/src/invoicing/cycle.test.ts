import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type BillingProfile, billingProfileSchema } from './billing-profile.ts'
import { closableCycles, cycleFrom, firstCycleStartMs } from './cycle.ts'

const ZONES = [
  'UTC',
  'Europe/Paris',
  'America/Havana',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Asia/Kathmandu',
]

const profileOf = (fields: object): BillingProfile =>
  billingProfileSchema.parse({ starts_on: '2026-01-01', ...fields })

/** The first cycles, as instants. */
const cyclesOf = (profile: BillingProfile, count: number) =>
  closableCycles(profile, { lastEndMs: undefined, nowMs: Number.POSITIVE_INFINITY, max: count }).map(
    ({ startMs, endMs }) => [new Date(startMs).toISOString(), new Date(endMs).toISOString()],
  )

describe('cycles', () => {
  it('are calendar months of the zone, also where clocks change', () => {
    expect(cyclesOf(profileOf({ timezone: 'Europe/Paris', starts_on: '2026-03-01' }), 2)).toEqual([
      ['2026-02-28T23:00:00.000Z', '2026-03-31T22:00:00.000Z'],
      ['2026-03-31T22:00:00.000Z', '2026-04-30T22:00:00.000Z'],
    ])
  })

  it('begin on the last day of months that have no anchor day', () => {
    const profile = profileOf({ cycle: { interval: 'month', anchor_day: 31 }, starts_on: '2026-01-31' })
    expect(cyclesOf(profile, 3).map(([start]) => start?.slice(0, 10))).toEqual([
      '2026-01-31',
      '2026-02-28',
      '2026-03-31',
    ])
  })

  it('are shorter at the beginning and at the end', () => {
    const profile = profileOf({
      cycle: { interval: 'week', anchor_weekday: 1 },
      starts_on: '2026-11-04',
      ends_on: '2026-11-12',
    })
    expect(cyclesOf(profile, 9).map(([, end]) => end?.slice(0, 10))).toEqual(['2026-11-09', '2026-11-12'])
  })

  it('wait for their grace', () => {
    const profile = profileOf({ grace_hours: 24 })
    const at = (now: string) =>
      closableCycles(profile, { lastEndMs: undefined, nowMs: Date.parse(now), max: 9 }).length
    expect([at('2026-02-01T23:59:59Z'), at('2026-02-02T00:00:00Z')]).toEqual([0, 1])
  })

  it('go on where the last one ended when the profile is changed', () => {
    const weekly = profileOf({ cycle: { interval: 'week', anchor_weekday: 1 } })
    expect(cycleFrom(weekly, Date.parse('2026-02-01T00:00:00Z'))?.endMs).toBe(
      Date.parse('2026-02-02T00:00:00Z'),
    )
  })

  it('tile time', () => {
    const cycle = fc.oneof(
      fc.record({ interval: fc.constant('month'), anchor_day: fc.integer({ min: 1, max: 31 }) }),
      fc.record({ interval: fc.constant('week'), anchor_weekday: fc.integer({ min: 1, max: 7 }) }),
    )
    const day = fc
      .integer({ min: Date.UTC(2005, 0, 1) / 86_400_000, max: Date.UTC(2040, 0, 1) / 86_400_000 })
      .map((days) => new Date(days * 86_400_000).toISOString().slice(0, 10))
    fc.assert(
      fc.property(cycle, fc.constantFrom(...ZONES), day, (anchors, timezone, starts_on) => {
        const profile = profileOf({ cycle: anchors, timezone, starts_on })
        let startMs = firstCycleStartMs(profile)
        for (let count = 0; count < 15; count++) {
          const next = cycleFrom(profile, startMs)
          if (next === undefined) throw new Error('it never ends')
          expect(next.startMs).toBe(startMs)
          const days = (next.endMs - next.startMs) / 86_400_000
          expect(days).toBeGreaterThan(0)
          expect(days).toBeLessThan(anchors.interval === 'month' ? 32 : 8)
          if (count > 0) expect(days).toBeGreaterThan(anchors.interval === 'month' ? 26 : 5)
          startMs = next.endMs
        }
      }),
      { numRuns: 200 },
    )
  })
})
