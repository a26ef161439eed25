import type { DailyMethod } from '@tokentally/core'
import Arima from 'arima'

/**
 * ARIMA on daily sums, by the npm package `arima` (the C library ctsa as WebAssembly). It computes on the thread that
 * calls it, so only worker threads and benches import this file.
 */

const WEEK = 7
/** A fit that explodes is none: some series drive the optimizer into models that are not stationary. */
const EXPLODED_FACTOR = 5

/**
 * The seasonal model (1,1,1)(0,1,1)₇, Box and Jenkins' airline model with an autoregressive term, fitted by
 * conditional least squares. Orders are fixed because the package's own search chose worse ones; see
 * docs/reference/forecasts.md.
 */
export const arima: DailyMethod = (days, horizonDays) =>
  fitted(days, horizonDays, { p: 1, d: 1, q: 1, P: 0, D: 1, Q: 1, s: WEEK, method: 1, optimizer: 6 })

/** The package's search for orders: auto-ARIMA. Twenty to fifty times slower. */
export const autoArima: DailyMethod = (days, horizonDays) =>
  fitted(days, horizonDays, { auto: true, p: 2, d: 1, q: 2, P: 1, D: 1, Q: 1, s: WEEK })

function fitted(
  days: readonly number[],
  horizonDays: number,
  options: ConstructorParameters<typeof Arima>[0],
): readonly number[] | undefined {
  const most = Math.max(...days)
  if (days.length < 4 * WEEK || most <= 0) return undefined
  const scale = most / 100
  const model = new Arima({ ...options, verbose: false })
  try {
    const [means] = model.train(days.map((value) => value / scale)).predict(horizonDays)
    const forecast = means.map((value) => Math.max(0, value * scale))
    return forecast.every((value) => Number.isFinite(value) && value <= most * EXPLODED_FACTOR)
      ? forecast
      : undefined
  } catch {
    // The caller counts it: a method without a forecast loses the contest.
    return undefined
  } finally {
    model.destroy()
  }
}
