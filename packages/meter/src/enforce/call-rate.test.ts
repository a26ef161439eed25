import fc from 'fast-check'
import { expect, it } from 'vitest'
import { CallRate } from './call-rate.ts'

it('lets no more calls through in any 60 seconds than allowed, and none fewer', () => {
  const gaps = fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 200 })
  fc.assert(
    fc.property(gaps, fc.integer({ min: 1, max: 12 }), (waits, callsMax) => {
      const rate = new CallRate()
      const allowed: number[] = []
      let elapsed = 0
      for (const wait of waits) {
        elapsed += wait
        const inWindow = allowed.filter((at) => at + 60_000 > elapsed)
        const waitMs = rate.waitMs(elapsed, callsMax)
        expect(waitMs > 0).toBe(inWindow.length >= callsMax)
        if (waitMs > 0) {
          // It is the truth: a moment before, another one would be too many.
          expect(elapsed + waitMs).toBe((inWindow.at(-callsMax) ?? 0) + 60_000)
          continue
        }
        rate.count(elapsed)
        allowed.push(elapsed)
      }
    }),
  )
})

it('lets none through where none is allowed, or only a part of one', () => {
  for (const none of [0, 0.5]) expect(new CallRate().waitMs(0, none)).toBe(60_000)
})
