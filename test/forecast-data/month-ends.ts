import { type ForecastRequest, forecastSeries, halfAt, seasonalNaive } from '@tokentally/core'

/** Estimates of the ends of months on a series, held against what came. */
export interface MonthEnds {
  /** Absolute errors, summed. */
  readonly wrong: number
  readonly naiveWrong: number
  /** What the months came to, summed. */
  readonly truth: number
  readonly estimates: number
  readonly inside80: number
  readonly inside95: number
}

const DAY_HOURS = 24
const HISTORY_DAYS = 90
const MONTH_DAYS = 30
/** Estimates are made on these days of each month. */
const MADE_ON_DAYS = [1, 6, 11, 16, 21, 26] as const

/**
 * Estimates the end of every month of 30 days after the first three, several times within it, from the 90 days
 * before, as the service does.
 */
export function monthEnds(
  hours: readonly number[],
  further: NonNullable<ForecastRequest['further']>,
): MonthEnds {
  const days = Math.floor(hours.length / DAY_HOURS)
  let [wrong, naiveWrong, truth, estimates, inside80, inside95] = [0, 0, 0, 0, 0, 0]
  for (let month = HISTORY_DAYS; month + MONTH_DAYS <= days; month += MONTH_DAYS) {
    for (const day of MADE_ON_DAYS) {
      const now = (month + day) * DAY_HOURS
      const end = (month + MONTH_DAYS) * DAY_HOURS
      const history = hours.slice(Math.max(0, now - HISTORY_DAYS * DAY_HOURS), now)
      const rest = sum(hours.slice(now, end))
      const forecast = forecastSeries({ hours: history, horizonHours: end - now, further })
      const error = Math.abs(sum(forecast.hours) - rest)
      const half = halfAt(forecast.sums, (end - now) / DAY_HOURS)
      const dailyHistory = Array.from({ length: history.length / DAY_HOURS }, (_, index) =>
        sum(history.slice(index * DAY_HOURS, (index + 1) * DAY_HOURS)),
      )
      wrong += error
      naiveWrong += Math.abs(sum(seasonalNaive(dailyHistory, MONTH_DAYS - day) ?? []) - rest)
      truth += sum(hours.slice(month * DAY_HOURS, end))
      estimates++
      if (error <= half.half80) inside80++
      if (error <= half.half95) inside95++
    }
  }
  return { wrong, naiveWrong, truth, estimates, inside80, inside95 }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
