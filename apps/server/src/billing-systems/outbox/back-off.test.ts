import { expect, test } from 'vitest'
import { nextTryMs } from './back-off.ts'

const failed = { nowMs: 0, retryAfterMs: undefined, random: 0.5 }

test('waits double from a second to an hour and stay there', () => {
  expect([1, 2, 3, 12, 13, 500].map((attempts) => nextTryMs({ ...failed, attempts }) / 1000)).toEqual([
    1, 2, 4, 2048, 3600, 3600,
  ])
})

test('waits are spread by a quarter, and the other system may ask for a longer one', () => {
  expect(nextTryMs({ ...failed, attempts: 4, random: 0 })).toBe(6_000)
  expect(nextTryMs({ ...failed, attempts: 4, random: 0.999999 })).toBe(10_000)
  expect(nextTryMs({ ...failed, attempts: 1, retryAfterMs: 90_000 })).toBe(90_000)
  expect(nextTryMs({ ...failed, attempts: 5, retryAfterMs: 10 })).toBe(16_000)
})
