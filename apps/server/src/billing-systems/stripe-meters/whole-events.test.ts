import { decimal, decimalText, ZERO } from '@tokentally/core'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type UncountedDay, wholeEvents } from './whole-events.ts'

const OLDEST_MS = Date.parse('2026-11-03T10:20:00Z')
const NOTHING = { counted: ZERO, sent: ZERO }
const at = (iso: string) => Date.parse(iso)

it('a fraction waits for the next event, also below zero', () => {
  const first = wholeEvents(NOTHING, [{ day: '2026-11-10', amount: decimal('1.75') }], OLDEST_MS, new Map())
  expect(first.events).toEqual([{ atMs: at('2026-11-10T00:00:00Z'), usageFrom: '2026-11-10', value: '1' }])
  const second = wholeEvents(
    first,
    [
      { day: '2026-11-11', amount: decimal('-2') },
      { day: '2026-11-10', amount: decimal('0.25') },
    ],
    OLDEST_MS,
    new Map([['2026-11-10', at('2026-11-10T00:00:00Z')]]),
  )
  expect(second.events).toEqual([
    { atMs: at('2026-11-10T00:01:00Z'), usageFrom: '2026-11-10', value: '1' },
    { atMs: at('2026-11-11T00:00:00Z'), usageFrom: '2026-11-11', value: '-2' },
  ])
})

it('what is older than Stripe takes is one event, at the oldest time that it takes', () => {
  const days = ['2026-09-01', '2026-10-30', '2026-11-03'].map((day) => ({ day, amount: decimal('2') }))
  expect(wholeEvents(NOTHING, days, OLDEST_MS, new Map()).events).toEqual([
    { atMs: OLDEST_MS, usageFrom: '2026-09-01', value: '6' },
  ])
  const taken = new Map([['2026-11-03', OLDEST_MS + 60_000]])
  expect(wholeEvents(NOTHING, days, OLDEST_MS, taken).events[0]?.atMs).toBe(OLDEST_MS + 120_000)
})

it('events add up to what was counted, rounded down, at minutes that differ', () => {
  const days = fc.array(
    fc.record({
      day: fc.constantFrom('2026-09-01', '2026-11-03', '2026-11-10', '2026-11-11'),
      amount: fc
        .integer({ min: -50_000, max: 90_000 })
        .map((n) => decimal(String(n)).times(decimal('0.001'))),
    }),
    { maxLength: 8 },
  )
  fc.assert(
    fc.property(fc.array(days, { maxLength: 8 }), (runs) => {
      let standing: { counted: typeof ZERO; sent: typeof ZERO } = NOTHING
      const lastAt = new Map<string, number>()
      const minutes: number[] = []
      let total = ZERO
      let exact = ZERO
      for (const run of runs) {
        const result = wholeEvents(standing, run satisfies readonly UncountedDay[], OLDEST_MS, lastAt)
        standing = result
        for (const { amount } of run) exact = exact.plus(amount)
        for (const { atMs, value } of result.events) {
          total = total.plus(decimal(value))
          minutes.push(atMs)
          lastAt.set(new Date(atMs).toISOString().slice(0, 10), atMs)
        }
      }
      const missing = exact.minus(total)
      expect(decimalText(standing.counted)).toBe(decimalText(exact))
      expect(missing.gte(ZERO) && missing.lt(decimal('1'))).toBe(true)
      expect(new Set(minutes).size).toBe(minutes.length)
    }),
  )
})
