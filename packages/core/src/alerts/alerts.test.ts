import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { statesBefore } from './alert-state.ts'
import { DELIVERY_WINDOW_MS, nextAttemptMs, retryAfterMs } from './back-off.ts'
import { straightLine } from './forecast.ts'
import { percentSpent, reachedThresholds, scopeText } from './threshold.ts'

describe('thresholds', () => {
  const status = (spentUsd: string, limitUsd = '500') => ({
    spentUsd,
    limitUsd,
    thresholds: [50, 75, 90, 100],
  })

  test.each([
    ['249.999999999999', []],
    ['250', [50]],
    ['449.999999999999', [50, 75]],
    ['450', [50, 75, 90]],
    ['500', [50, 75, 90, 100]],
    ['-1', []],
  ])('%s of 500', (spent, reached) => {
    expect(reachedThresholds(status(spent))).toEqual(reached)
  })

  test('a limit of zero is passed by the first cost, and not by none', () => {
    expect(reachedThresholds(status('0', '0'))).toEqual([])
    expect(reachedThresholds(status('0.000000001', '0'))).toEqual([50, 75, 90, 100])
    expect(percentSpent(status('1', '0'))).toBeNull()
  })

  test('a percentage never rounds up to a threshold that is not reached', () => {
    expect(percentSpent(status('499.9999'))).toBe('99.9')
    expect(percentSpent(status('455.10'))).toBe('91')
  })

  test('more spending never takes a threshold back', () => {
    const micros = fc.bigInt({ min: 0n, max: 10n ** 12n })
    fc.assert(
      fc.property(micros, micros, (spent, more) => {
        const less = reachedThresholds(status(`${spent}`))
        expect(reachedThresholds(status(`${spent + more}`)).slice(0, less.length)).toEqual(less)
      }),
    )
  })

  test('scopes are written as people write them', () => {
    expect(scopeText({ dimension: 'team', value: 'engineering' })).toBe('team:engineering')
    expect(scopeText({ dimension: 'organization', value: null })).toBe('organization')
  })
})

describe('the straight line', () => {
  const period = { startMs: 0, endMs: 100_000 }

  test('ends where spending goes on as it went', () => {
    expect(straightLine({ period, spentUsd: '450', limitUsd: '500' }, 60_000)).toEqual({
      endUsd: '750.00',
      limitReachedMs: 66_667,
    })
  })

  test('reaches no limit that it does not reach, or that is passed', () => {
    expect(straightLine({ period, spentUsd: '100', limitUsd: '500' }, 50_000)?.limitReachedMs).toBeNull()
    expect(straightLine({ period, spentUsd: '501', limitUsd: '500' }, 50_000)?.limitReachedMs).toBeNull()
  })

  test('is not drawn from next to nothing, or after the end', () => {
    expect(straightLine({ period, spentUsd: '1', limitUsd: '500' }, 999)).toBeUndefined()
    expect(straightLine({ period, spentUsd: '1', limitUsd: '500' }, 100_000)).toBeUndefined()
  })
})

test('an alert ends from any state, is seen from any open one, and comes back from a snooze alone', () => {
  expect(statesBefore('resolved')).toEqual(['fired', 'acknowledged', 'snoozed'])
  expect(statesBefore('acknowledged')).toEqual(['fired', 'acknowledged', 'snoozed'])
  expect(statesBefore('snoozed')).toEqual(['fired', 'snoozed'])
  expect(statesBefore('fired')).toEqual(['snoozed'])
})

describe('back-off', () => {
  test('a receiver that fails for good is tried twelve times within a day', () => {
    const seconds: number[] = []
    let nowMs = 0
    for (let attempts = 1; ; attempts++) {
      const next = nextAttemptMs({ attempts, createdMs: 0, nowMs, retryAfterMs: undefined, random: 0.5 })
      if (next === undefined) break
      seconds.push((next - nowMs) / 1000)
      nowMs = next
    }
    expect(seconds).toEqual([1, 5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800])
    expect(nowMs).toBeLessThan(DELIVERY_WINDOW_MS)
  })

  test('the receiver may ask for a longer wait, not for a shorter one, and not beyond the day', () => {
    const failed = { attempts: 2, createdMs: 0, nowMs: 10_000, random: 0.5 }
    expect(nextAttemptMs({ ...failed, retryAfterMs: 60_000 })).toBe(70_000)
    expect(nextAttemptMs({ ...failed, retryAfterMs: 1 })).toBe(15_000)
    expect(nextAttemptMs({ ...failed, retryAfterMs: DELIVERY_WINDOW_MS })).toBeUndefined()
  })

  test('waits are spread by a tenth', () => {
    const failed = { attempts: 3, createdMs: 0, nowMs: 0, retryAfterMs: undefined }
    expect(nextAttemptMs({ ...failed, random: 0 })).toBe(27_000)
    expect(nextAttemptMs({ ...failed, random: 1 })).toBe(33_000)
  })

  test('Retry-After is seconds or a date', () => {
    const nowMs = Date.parse('2026-11-24T18:00:00Z')
    expect(retryAfterMs('120', nowMs)).toBe(120_000)
    expect(retryAfterMs('Tue, 24 Nov 2026 18:01:00 GMT', nowMs)).toBe(60_000)
    expect(retryAfterMs('Tue, 24 Nov 2026 17:00:00 GMT', nowMs)).toBe(0)
    expect(retryAfterMs('soon', nowMs)).toBeUndefined()
    expect(retryAfterMs(undefined, nowMs)).toBeUndefined()
  })
})
