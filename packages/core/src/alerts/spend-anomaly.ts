/**
 * Spending that is far above what is usual for this hour of the week.
 *
 * What is usual is a median, so that a few odd hours of the past do not move it:
 *
 * 1. `weekly`, from four whole weeks on: the median of the same hour of the week in the last eight weeks, each
 *    week brought to the level of the coming one (by the median of its days and the usual growth from one week to
 *    the next), so that growth is no anomaly.
 * 2. `daily`, from seven whole days on: the median of the same hour of the day in the last 28 days.
 * 3. Less than that: no verdict.
 *
 * How far is far, by what the past itself did: each past hour's logarithmic distance from what is usual there is
 * a residual. An hour is an anomaly when its own residual passes all of these:
 * - `sensitivity` robust standard deviations (1.4826 × the median absolute deviation),
 * - the largest residual of the past, as far as that is no anomaly itself: if hours are alike, one of N + 1 is the
 *   largest by chance, which bounds false alarms whatever the distribution looks like,
 * - `minFactor` times what is usual,
 * and when it costs at least `minUsd` more than usual.
 *
 * Statistics, not money: amounts are numbers here and are never added to a bill.
 */

export const HOUR_MS = 3_600_000
const DAY_HOURS = 24
const WEEK_HOURS = 168

/** Hours of history that are looked at. */
export const HISTORY_HOURS = 8 * WEEK_HOURS
const WEEKLY_MIN_HOURS = 4 * WEEK_HOURS
const DAILY_MIN_HOURS = 7 * DAY_HOURS
const DAILY_MAX_HOURS = 4 * WEEK_HOURS
/** Hours that usually cost less than one of these parts of the mean hour are looked at as if they cost that. */
const FLOOR_PARTS = 10
/** A level is corrected by at most this factor: a week of holidays must not make the next one look like a crash. */
const LEVEL_FACTOR_MAX = 4
/** From one week to the next, at most. */
const GROWTH_FACTOR_MAX = 1.5
/**
 * Past hours raise the bar to this factor at most, or to twice what one hour in fifty reaches,
 * whichever is more: those beyond were anomalies themselves, and must not hide the next one.
 */
const FACTOR_CAP = 4
const TAIL_SHARE = 0.98
const TAIL_STRETCH = 2

export interface AnomalySettings {
  /** Robust standard deviations. */
  readonly sensitivity: number
  /** Times what is usual. */
  readonly minFactor: number
  /** US dollars an hour above what is usual. */
  readonly minUsd: number
}

/** At most one false alarm per scope and month on the simulated histories of spend-anomaly.test.ts. */
export const ANOMALY_DEFAULTS: AnomalySettings = { sensitivity: 5, minFactor: 2, minUsd: 5 }

/** What is usual for one hour of one scope. */
export interface SpendBaseline {
  readonly method: 'weekly' | 'daily'
  /** US dollars an hour. */
  readonly usualUsd: number
  /** US dollars an hour: this much and more is an anomaly. */
  readonly limitUsd: number
  /** Hours of history behind it. */
  readonly hours: number
}

/**
 * @param history amounts of the hours directly before the one in question, oldest first, one for every hour (0
 *   where nothing was spent), from the scope's first hour on; only the last `HISTORY_HOURS` count
 * @returns undefined when the history is too short for a verdict
 */
export function spendBaseline(
  history: readonly number[],
  settings: AnomalySettings = ANOMALY_DEFAULTS,
): SpendBaseline | undefined {
  const hours = history.slice(-HISTORY_HOURS)
  if (hours.length < DAILY_MIN_HOURS) return undefined
  const method = hours.length >= WEEKLY_MIN_HOURS ? 'weekly' : 'daily'
  // Only whole seasons: the last hour of the past is one before the same hour of the season.
  const season = method === 'weekly' ? WEEK_HOURS : DAY_HOURS
  const usable = method === 'weekly' ? hours : hours.slice(-DAILY_MAX_HOURS)
  const cycles = Math.floor(usable.length / season)
  const whole = usable.slice(-cycles * season)
  const levelled = method === 'weekly' ? atComingLevel(whole, cycles) : whole
  const usual = Array.from({ length: season }, (_, slot) =>
    median(Array.from({ length: cycles }, (_, cycle) => levelled[cycle * season + slot] ?? 0)),
  )
  // Below this nothing matters, so that a cent beside a tenth of one is no tenfold.
  const floor = Math.max(settings.minUsd, mean(usual) / FLOOR_PARTS)
  const residuals = Float64Array.from(levelled, (amount, index) =>
    Math.log((amount + floor) / ((usual[index % season] ?? 0) + floor)),
  ).sort()
  const deviation = 1.4826 * median(residuals.map(Math.abs))
  const tail = TAIL_STRETCH * (residuals[Math.floor(residuals.length * TAIL_SHARE)] ?? 0)
  // A median is nearer to the few hours that it is made of than to one to come.
  const unseen = Math.sqrt((cycles + 1) / Math.max(1, cycles - 1))
  const largest = Math.min(Math.max(Math.log(FACTOR_CAP), tail), unseen * (residuals.at(-1) ?? 0))
  const expected = usual[0] ?? 0
  const bar = Math.exp(Math.max(settings.sensitivity * deviation, largest))
  return {
    method,
    usualUsd: expected,
    limitUsd: Math.max(
      (expected + floor) * bar - floor,
      expected * settings.minFactor,
      expected + settings.minUsd,
    ),
    hours: whole.length,
  }
}

/** Brings each week to the level of the one that comes. */
function atComingLevel(hours: readonly number[], weeks: number): readonly number[] {
  const levels = Array.from({ length: weeks }, (_, week) =>
    median(
      Array.from({ length: 7 }, (_, day) => {
        const from = week * WEEK_HOURS + day * DAY_HOURS
        return sum(hours.slice(from, from + DAY_HOURS))
      }),
    ),
  )
  const growths = levels.slice(1).flatMap((level, index) => {
    const before = levels[index] ?? 0
    return before > 0 && level > 0 ? [level / before] : []
  })
  const growth = growths.length === 0 ? 1 : within(GROWTH_FACTOR_MAX, median(growths))
  const coming = growth * (levels.at(-1) ?? 0)
  return hours.map((amount, index) => {
    const level = levels[Math.floor(index / WEEK_HOURS)] ?? 0
    if (level <= 0 || coming <= 0) return amount
    return amount * within(LEVEL_FACTOR_MAX, coming / level)
  })
}

/** A factor, at most `most` and at least one `most`th. */
function within(most: number, factor: number): number {
  return Math.min(most, Math.max(1 / most, factor))
}

function median(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort()
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : sum(values) / values.length
}
