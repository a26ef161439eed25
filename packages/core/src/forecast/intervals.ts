import type { OriginErrors } from './back-test.ts'

/**
 * How far the truth lies from a forecast, learned from the errors of the back-test by how far ahead they looked:
 * half of an interval is `scale × days^power`. Errors of sums are measured on sums: they are not independent from
 * day to day, so quantiles of days do not add up.
 */
export interface Spread {
  /** US dollars (or whatever the series counts), of a one-day horizon. */
  readonly half80: number
  readonly half95: number
  readonly power: number
}

/** Half of the interval at a horizon, in days. */
export function halfAt(spread: Spread, days: number): { readonly half80: number; readonly half95: number } {
  const factor = Math.max(0, days) ** spread.power
  return { half80: spread.half80 * factor, half95: spread.half95 * factor }
}

const HORIZONS = [1, 2, 3, 5, 7, 10, 14, 18, 21, 25, 28] as const
/** Beyond these the scatter of few windows speaks. */
const POWER = { sums: { least: 0.6, most: 1.15 }, days: { least: 0, most: 0.5 } } as const
/** Windows that overlap are fewer than they look. */
const EFFECTIVE_LEAST = 2

/**
 * Fits how errors grow with the horizon.
 *
 * @param level the mean day now; errors are relative to that of their own origin
 * @returns undefined with too few origins
 */
export function fitSpread(
  errors: readonly OriginErrors[],
  kind: 'sums' | 'days',
  level: number,
): Spread | undefined {
  const points = HORIZONS.flatMap((days) => {
    const relative = errors.flatMap((origin) => {
      const error = origin[kind][days - 1]
      return error === undefined || origin.level <= 0 ? [] : [Math.abs(error) / origin.level]
    })
    if (relative.length < 3) return []
    const rms = Math.sqrt(relative.reduce((total, error) => total + error * error, 0) / relative.length)
    const windows = kind === 'sums' ? relative.length / days : relative.length / 2
    return rms > 0 ? [{ x: Math.log(days), y: Math.log(rms), weight: Math.sqrt(windows), windows }] : []
  })
  if (points.length === 0) return undefined
  const weights = points.reduce((total, { weight }) => total + weight, 0)
  const meanX = points.reduce((total, { x, weight }) => total + weight * x, 0) / weights
  const meanY = points.reduce((total, { y, weight }) => total + weight * y, 0) / weights
  const spreadX = points.reduce((total, { x, weight }) => total + weight * (x - meanX) ** 2, 0)
  const slope =
    spreadX === 0
      ? 0.75
      : points.reduce((total, { x, y, weight }) => total + weight * (x - meanX) * (y - meanY), 0) / spreadX
  const { least, most } = POWER[kind]
  const power = Math.min(most, Math.max(least, slope))
  const rms = Math.exp(meanY - power * meanX) * level
  const effective = Math.max(EFFECTIVE_LEAST, Math.min(...points.map(({ windows }) => windows)) + 3)
  return { half80: studentT(0.9, effective) * rms, half95: studentT(0.975, effective) * rms, power }
}

/**
 * Quantile of Student's distribution, by Cornish and Fisher's expansion around the normal one (Abramowitz and
 * Stegun, Handbook of Mathematical Functions, 26.7.5).
 */
export function studentT(probability: 0.9 | 0.975, degrees: number): number {
  const x = probability === 0.9 ? 1.2815515655 : 1.9599639845
  const x3 = x ** 3
  const x5 = x ** 5
  const x7 = x ** 7
  return (
    x +
    (x3 + x) / (4 * degrees) +
    (5 * x5 + 16 * x3 + 3 * x) / (96 * degrees ** 2) +
    (3 * x7 + 19 * x5 + 17 * x3 - 15 * x) / (384 * degrees ** 3)
  )
}
