import { expect, it } from 'vitest'
import { isSampled } from './token-sample.ts'
import { uuidV7 } from './uuid-v7.ts'

it.each([
  ['0197a000-0000-7000-8000-000000000000', 0.0001, true],
  ['0197a000-0000-7000-8000-000002000000', 0.01, true],
  ['0197a000-0000-7000-8000-000003000000', 0.01, false],
  ['0197a000-0000-7000-8000-0000ffffffff', 1, true],
  ['0197a000-0000-7000-8000-0000ffffffff', 0.9999, false],
  ['0197a000-0000-7000-8000-000000000000', 0, false],
])('%s in a sample of %d: %s', (eventId, fraction, expected) => {
  expect(isSampled(eventId, fraction)).toBe(expected)
})

it('a sample has about its share of the calls', () => {
  const ids = Array.from({ length: 20_000 }, () => uuidV7(1_764_000_000_000))
  const share = ids.filter((id) => isSampled(id, 0.1)).length / ids.length
  // Seven times the standard deviation.
  expect(Math.abs(share - 0.1)).toBeLessThan(0.015)
})
