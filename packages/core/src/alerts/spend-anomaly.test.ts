import { describe, expect, test } from 'vitest'
import { ANOMALY_DEFAULTS, HISTORY_HOURS, spendBaseline } from './spend-anomaly.ts'

/** The stated rates, on simulated histories that are the same in every run. */

const DAY = 24
const WEEK = 7 * DAY
const MONTH = 30 * DAY
/** Every other hour of a month is judged: hours are alike, and the month counts double. */
const STEP = 2

/** Mulberry32: small, seeded, good enough to draw histories with. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

type Random = () => number
const normal = (random: Random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
/** Student's t with four degrees of freedom: one hour in a thousand is seven deviations out. */
function heavyTailed(random: Random): number {
  const squares = [1, 2, 3, 4].reduce((sum) => sum + normal(random) ** 2, 0)
  return normal(random) / Math.sqrt(squares / 4)
}

interface Pattern {
  /** US dollars an hour, on average at the beginning. */
  readonly level: number
  /** From one week to the next. */
  readonly growth: number
  /** Logarithm of what an hour is off by. */
  readonly noise: (random: Random) => number
}

const PATTERNS: Readonly<Record<string, Pattern>> = {
  steady: { level: 40, growth: 1.03, noise: (random) => 0.25 * normal(random) },
  'heavy-tailed': { level: 40, growth: 1.03, noise: (random) => 0.2 * heavyTailed(random) },
  'fast-growing': { level: 40, growth: 1.15, noise: (random) => 0.2 * normal(random) },
  'small and wild': { level: 2, growth: 1.02, noise: (random) => 0.6 * normal(random) },
  // Seven of ten hours are idle.
  sporadic: { level: 6, growth: 1, noise: (random) => (random() < 0.7 ? -50 : normal(random)) },
}

/** What an hour costs without noise: by day and night, workdays and weekends, week by week. */
function seasonal({ level, growth }: Pattern, hour: number): number {
  const day = 1 + 0.8 * Math.sin((2 * Math.PI * ((hour % DAY) - 8)) / DAY)
  const week = Math.floor(hour / DAY) % 7 >= 5 ? 0.4 : 1
  return level * day * week * growth ** (hour / WEEK)
}

function simulate(pattern: Pattern, hours: number, seed: number): readonly number[] {
  const random = randomOf(seed)
  return Array.from({ length: hours }, (_, hour) => seasonal(pattern, hour) * Math.exp(pattern.noise(random)))
}

/** False alarms a month, and the share of hours at five times their usual cost that is found. */
function judge(pattern: Pattern, historyWeeks: number, seeds: readonly number[]) {
  let alarms = 0
  let spikes = 0
  let found = 0
  for (const seed of seeds) {
    const from = historyWeeks * WEEK
    const amounts = simulate(pattern, from + MONTH, seed)
    for (let hour = from; hour < from + MONTH; hour += STEP) {
      const baseline = spendBaseline(amounts.slice(Math.max(0, hour - HISTORY_HOURS), hour))
      if (baseline === undefined) continue
      if ((amounts[hour] ?? 0) >= baseline.limitUsd) alarms += STEP
      const usual = seasonal(pattern, hour)
      if (usual < pattern.level / 2) continue
      spikes++
      if (5 * usual >= baseline.limitUsd) found++
    }
  }
  return { alarms: alarms / seeds.length, found: found / spikes }
}

describe('at the default sensitivity', () => {
  const seeds = [1, 2, 3, 4]

  test.each(Object.entries(PATTERNS))('%s: at most one false alarm per scope and month', (name, pattern) => {
    const { alarms, found } = judge(pattern, 8, seeds)
    expect(alarms).toBeLessThanOrEqual(1)
    // What costs two dollars an hour or comes sporadically may do five times that by itself.
    if (pattern.level > 10) expect(found, name).toBeGreaterThan(0.9)
  })

  test('with ten days of history: as few, though fewer spikes are found', () => {
    const steady = PATTERNS['steady']
    if (steady === undefined) throw new Error('the pattern is gone')
    const { alarms, found } = judge(steady, 10 / 7, seeds.slice(0, 3))
    expect(alarms).toBeLessThanOrEqual(1)
    expect(found).toBeGreaterThan(0.5)
  })
})

describe('what is usual', () => {
  test('is the same hour of the week, from four weeks on', () => {
    const history = Array.from({ length: 5 * WEEK }, (_, hour) => (hour % WEEK === 0 ? 90 : 10))
    expect(spendBaseline(history)).toMatchObject({ method: 'weekly', usualUsd: 90, hours: 5 * WEEK })
  })

  test('is the same hour of the day, from seven days on', () => {
    const history = Array.from({ length: 8 * DAY }, (_, hour) => (hour % DAY === 0 ? 90 : 10))
    expect(spendBaseline(history)).toMatchObject({ method: 'daily', usualUsd: 90 })
  })

  test('is unknown before that', () => {
    expect(spendBaseline(new Array<number>(7 * DAY - 1).fill(10))).toBeUndefined()
  })

  test('is not moved by a past spike, and the next one is found', () => {
    const quiet = { level: 40, growth: 1, noise: () => 0 }
    const noon = 8 * WEEK + 14
    const history = [...simulate(quiet, noon, 1)]
    history[noon - WEEK] = 4000
    const baseline = spendBaseline(history)
    const usual = seasonal(quiet, noon)
    expect(baseline?.usualUsd).toBeCloseTo(usual)
    expect(baseline?.limitUsd).toBeLessThan(5 * usual)
  })
})

test('small amounts are no anomaly, whatever their factor', () => {
  const baseline = spendBaseline(new Array<number>(5 * WEEK).fill(0))
  expect(baseline?.limitUsd).toBeCloseTo(ANOMALY_DEFAULTS.minUsd)
  expect(spendBaseline(new Array<number>(5 * WEEK).fill(0.1))?.limitUsd).toBeGreaterThan(5)
})
