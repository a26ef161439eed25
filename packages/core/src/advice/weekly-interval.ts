import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import { MONTH_DAYS, type SavingInterval, studentQuantile } from './saving-interval.ts'

/** Fewer weeks say nothing about the next ones. */
export const WEEKS_MIN = 4
const WEEK_DAYS = 7

/**
 * The saving of 30 days from what each week would have saved: the mean, and the interval that the mean of as many weeks
 * as 30 days are lies in 95 times of 100 (`t · s · sqrt(1/n + 7/30)`), scaled to 30 days.
 *
 * @param weekly savings of weeks in a row; undefined when there are fewer than `WEEKS_MIN`
 */
export function weeklyInterval(weekly: readonly Decimal[]): SavingInterval | undefined {
  const weeks = weekly.length
  if (weeks < WEEKS_MIN) return undefined
  const count = decimal(String(weeks))
  const mean = weekly.reduce((sum, saving) => sum.plus(saving), ZERO).div(count)
  const squares = weekly.reduce((sum, saving) => sum.plus(saving.minus(mean).times(saving.minus(mean))), ZERO)
  const variance = squares.div(decimal(String(weeks - 1)))
  const perMonth = decimal(String(MONTH_DAYS)).div(decimal(String(WEEK_DAYS)))
  const half = variance
    .times(decimal('1').div(count).plus(decimal('1').div(perMonth)))
    .sqrt()
    .times(decimal(studentQuantile(weeks - 1)))
  const round = (value: Decimal) => decimal(value.times(perMonth).round(6))
  return { usd: round(mean), lowUsd: round(mean.minus(half)), highUsd: round(mean.plus(half)) }
}
