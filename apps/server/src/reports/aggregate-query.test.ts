import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { segmentsOf } from './aggregate-query.ts'

const QUARTER_MS = 15 * 60_000
const DAY_MS = 24 * 3_600_000

describe('cutting a range into rollup buckets', () => {
  it('covers every instant of the range exactly once, with whole buckets', () => {
    const instants = fc.integer({ min: Date.UTC(2020, 0, 1), max: Date.UTC(2030, 0, 1) })
    const lengths = fc.oneof(
      fc.integer({ min: 1, max: 3 * QUARTER_MS }),
      fc.integer({ min: 1, max: 90 * DAY_MS }),
    )
    fc.assert(
      fc.property(instants, lengths, fc.boolean(), (startMs, lengthMs, mayUseDays) => {
        const endMs = startMs + lengthMs
        const { days, quarters, ragged } = segmentsOf(startMs, endMs, mayUseDays)
        const parts = [...(days === undefined ? [] : [days]), ...quarters, ...ragged].sort(
          (a, b) => a.startMs - b.startMs,
        )
        let reachedMs = startMs
        for (const part of parts) {
          expect(part.startMs).toBe(reachedMs)
          expect(part.endMs).toBeGreaterThan(part.startMs)
          reachedMs = part.endMs
        }
        expect(reachedMs).toBe(endMs)
        for (const part of quarters) {
          expect(part.startMs % QUARTER_MS).toBe(0)
          expect(part.endMs % QUARTER_MS).toBe(0)
        }
        if (days !== undefined) {
          expect(mayUseDays).toBe(true)
          expect([days.startMs % DAY_MS, days.endMs % DAY_MS]).toEqual([0, 0])
        }
      }),
    )
  })
})
