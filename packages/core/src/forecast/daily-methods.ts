/**
 * Forecasts of daily sums. A "day" is any 24 hours: series are cut backwards from the moment of the forecast, so
 * that the last day is always whole. Statistics, hence floats; nothing here is an amount that somebody owes.
 */

/** Forecasts the days that follow; undefined where the method has nothing to say of such a series. */
export type DailyMethod = (days: readonly number[], horizonDays: number) => readonly number[] | undefined

const WEEK = 7
/** Weeks that the shape of a week is learned from. */
const SHAPE_WEEKS = 8
/** Weights of the newest day that are tried. */
const ALPHAS = [0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8] as const
/** Days that have less than this share of the mean day say nothing about the level. */
const SHARE_LEAST = 0.1
/** The weight of the steady level. */
const STEADY_ALPHA = 0.2
/** How much of the recent slope goes on. */
const SLOPE_SHARE = 0.25
/** A day further from its week's median than this many deviations is a spike, and is cut to there. */
const SPIKE_DEVIATIONS = 5
/** Median absolute deviation to standard deviation, for normal scatter. */
const MAD_TO_SIGMA = 1.4826

/** The same day of last week, over and over; with less than a week, the last day. The baseline. */
export const seasonalNaive: DailyMethod = (days, horizonDays) => {
  const season = days.length >= WEEK ? WEEK : 1
  return Array.from({ length: horizonDays }, (_, ahead) => days[days.length - season + (ahead % season)] ?? 0)
}

/**
 * A level, smoothed exponentially and carried on with a quarter of the recent slope, times the shape of the week.
 *
 * Its parts were chosen by the back-test in bench/forecast: a full slope, or Holt's damped trend, overshoots the
 * ends of months (the theta method takes half of the slope for the same reason: Assimakopoulos and Nikolopoulos,
 * International Journal of Forecasting 16 (2000), 521–530). The level is mostly the one whose weight did best on
 * the series, and partly a quicker or slower one: a mean of such is steadier than the best (Makridakis and others,
 * The M4 Competition, International Journal of Forecasting 36 (2020), 54–74). Half of what lone spikes spent
 * counts: they come again, but less than they did.
 */
export const combined: DailyMethod = (days, horizonDays) => {
  if (days.length === 0) return undefined
  const clipped = withoutSpikes(days)
  const kept = sum(clipped.slice(-SHAPE_WEEKS * WEEK))
  const spikes = kept > 0 ? (1 + sum(days.slice(-SHAPE_WEEKS * WEEK)) / kept) / 2 : 1
  const shape = shapeOfWeek(clipped)
  const level = clipped.map((value, index) => (value * spikes) / shapeAt(shape, index - clipped.length))
  const best = smoothed(level, bestAlpha(level)).at(-1) ?? 0
  const steady = smoothed(level, STEADY_ALPHA).at(-1) ?? 0
  const end = (2 * best + steady) / 3
  const slope = slopeOf(level) * SLOPE_SHARE
  return Array.from({ length: horizonDays }, (_, ahead) =>
    Math.max(0, (end + slope * (ahead + 1)) * shapeAt(shape, ahead)),
  )
}

/** Shares of the days of a week, each relative to the mean day; day 0 is the first that is forecast. */
function shapeOfWeek(days: readonly number[]): readonly number[] {
  const neutral = new Array<number>(WEEK).fill(1)
  const from = Math.max(0, days.length - SHAPE_WEEKS * WEEK)
  const sums = runningSums(days)
  const ratios: number[][] = neutral.map(() => [])
  for (let index = from; index < days.length; index++) {
    // The week around a day; at both ends the nearest whole one.
    const start = Math.min(Math.max(0, index - 3), Math.max(0, days.length - WEEK))
    const mean = ((sums[start + WEEK] ?? 0) - (sums[start] ?? 0)) / WEEK
    if (mean > 0) ratios[mod(index - days.length, WEEK)]?.push((days[index] ?? 0) / mean)
  }
  if (ratios.some((list) => list.length < 2)) return neutral
  const means = ratios.map((list) => sum(list) / list.length)
  const within = sum(ratios.map((list) => variance(list) / list.length)) / WEEK
  const between = variance(means)
  // What sampling alone would make of a week without a shape is taken off.
  const weight = between <= within ? 0 : 1 - within / between
  const shape = means.map((mean) => Math.max(SHARE_LEAST, 1 + weight * (mean - 1)))
  const total = sum(shape) / WEEK
  return shape.map((share) => share / total)
}

function shapeAt(shape: readonly number[], index: number): number {
  return shape[mod(index, WEEK)] ?? 1
}

/** Lone spikes are cut; a level that stays elsewhere is its own median and is not. */
function withoutSpikes(days: readonly number[]): readonly number[] {
  if (days.length < 2 * WEEK) return days
  const centres = days.map((_, index) => {
    const start = Math.min(Math.max(0, index - WEEK), days.length - 2 * WEEK)
    return median(days.slice(start, start + 2 * WEEK))
  })
  const deviation = MAD_TO_SIGMA * median(days.map((value, index) => Math.abs(value - (centres[index] ?? 0))))
  if (deviation === 0) return days
  return days.map((value, index) => Math.min(value, (centres[index] ?? 0) + SPIKE_DEVIATIONS * deviation))
}

/** The weight whose level was nearest to the mean of the week that followed. */
function bestAlpha(level: readonly number[]): number {
  let best: number = ALPHAS[2]
  let least = Number.POSITIVE_INFINITY
  const sums = runningSums(level)
  for (const alpha of ALPHAS) {
    const smooth = smoothed(level, alpha)
    let error = 0
    for (let index = WEEK; index + WEEK < level.length; index++) {
      const ahead = ((sums[index + 1 + WEEK] ?? 0) - (sums[index + 1] ?? 0)) / WEEK
      error += Math.abs(ahead - (smooth[index] ?? 0))
    }
    if (error < least && level.length > 2 * WEEK) {
      least = error
      best = alpha
    }
  }
  return best
}

function smoothed(level: readonly number[], alpha: number): readonly number[] {
  let state = sum(level.slice(0, WEEK)) / Math.max(1, Math.min(WEEK, level.length))
  return level.map((value) => {
    state += alpha * (value - state)
    return state
  })
}

/** Least squares. */
function slopeOf(values: readonly number[]): number {
  const count = values.length
  if (count < 2 * WEEK) return 0
  const middle = (count - 1) / 2
  const mean = sum(values) / count
  let above = 0
  let below = 0
  values.forEach((value, index) => {
    above += (index - middle) * (value - mean)
    below += (index - middle) ** 2
  })
  return above / below
}

export function sum(values: readonly number[]): number {
  let total = 0
  for (const value of values) total += value
  return total
}

/** Sums of the values before each index, and of all. */
function runningSums(values: readonly number[]): readonly number[] {
  let total = 0
  return [0, ...values.map((value) => (total += value))]
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[half] ?? 0) : ((sorted[half - 1] ?? 0) + (sorted[half] ?? 0)) / 2
}

function variance(values: readonly number[]): number {
  const mean = sum(values) / values.length
  return values.length < 2 ? 0 : sum(values.map((value) => (value - mean) ** 2)) / (values.length - 1)
}

export function mod(value: number, by: number): number {
  return ((value % by) + by) % by
}
