import { type Decimal, decimal, decimalFromLiteral, decimalText, ZERO } from '../money/decimal.ts'

/** Days of the month that savings are stated for. */
export const MONTH_DAYS = 30
/** A shorter history says nothing. */
export const HISTORY_DAYS_MIN = 7
const WEEK_DAYS = 7
/** Beyond this, days resemble each other too much to be told from a drift. */
const AUTOCORRELATION_MAX = 0.8

/** A saving of 30 days, US dollars, with the interval that the next 30 days lie in 95 times of 100. */
export interface SavingInterval {
  readonly usd: Decimal
  readonly lowUsd: Decimal
  readonly highUsd: Decimal
}

/**
 * The saving of the next 30 days, from what each day would have saved: 30 times the mean, and a prediction interval
 * of 95 %.
 *
 * With s² the variance of days around the mean of their weekday (from two weeks on; else around the mean of all), ρ
 * their correlation with the day before, n days of history and m = 30 days to come:
 * `half = m · t · sqrt(s² · (1 + ρ)/(1 − ρ) · (1/n + 1/m) + w² · (2/m)²)`,
 * t the quantile 0.975 of Student's distribution, and w the spread of the weekdays: 30 days are four weeks and two
 * days more, of which nobody knows now which ones. (A prediction interval for a mean, with the effective number of
 * independent days of an AR(1) series; Wilks, Statistical Methods in the Atmospheric Sciences, 5.2.4.)
 *
 * @param daily savings of days in a row, at least `HISTORY_DAYS_MIN`
 */
export function savingInterval(daily: readonly Decimal[]): SavingInterval | undefined {
  const days = daily.length
  if (days < HISTORY_DAYS_MIN) return undefined
  const mean = meanOf(daily)
  const hasWeekdays = days >= 2 * WEEK_DAYS
  const weekdays = Array.from({ length: WEEK_DAYS }, (_, weekday) =>
    hasWeekdays ? meanOf(daily.filter((_, day) => day % WEEK_DAYS === weekday)) : mean,
  )
  const residuals = daily.map((saving, day) => saving.minus(weekdays[day % WEEK_DAYS] ?? mean))
  const freedom = hasWeekdays ? days - WEEK_DAYS : days - 1
  const variance = sumOfSquares(residuals).div(whole(freedom))
  const spread = sumOfSquares(weekdays.map((weekday) => weekday.minus(mean))).div(whole(WEEK_DAYS))
  const month = whole(MONTH_DAYS)
  const ofMean = variance
    .times(decimalFromLiteral(persistence(residuals)))
    .times(decimal('1').div(whole(days)).plus(decimal('1').div(month)))
    .plus(spread.times(decimal('4').div(month.times(month))))
  const half = rounded(
    ofMean
      .sqrt()
      .times(decimal(studentQuantile(freedom)))
      .times(month),
  )
  const usd = rounded(mean.times(month))
  return { usd, lowUsd: usd.minus(half), highUsd: usd.plus(half) }
}

/** (1 + ρ)/(1 − ρ): how many days say as much as one that is independent. At least 1. A ratio, no money. */
function persistence(residuals: readonly Decimal[]): number {
  const squares = sumOfSquares(residuals)
  if (squares.eq(ZERO)) return 1
  let products = ZERO
  for (let day = 1; day < residuals.length; day++) {
    products = products.plus((residuals[day] ?? ZERO).times(residuals[day - 1] ?? ZERO))
  }
  const correlation = Math.min(AUTOCORRELATION_MAX, Math.max(0, Number(decimalText(products.div(squares)))))
  return (1 + correlation) / (1 - correlation)
}

/** The quantile 0.975 of Student's t distribution, as in any table of it; for many degrees of freedom the next lower entry. */
export function studentQuantile(freedom: number): string {
  return (STUDENT.findLast(([from]) => from <= freedom) ?? STUDENT[0])[1]
}

const STUDENT: readonly [readonly [number, string], ...(readonly [number, string])[]] = [
  [1, '12.706'],
  [2, '4.303'],
  [3, '3.182'],
  [4, '2.776'],
  [5, '2.571'],
  [6, '2.447'],
  [7, '2.365'],
  [8, '2.306'],
  [9, '2.262'],
  [10, '2.228'],
  [11, '2.201'],
  [12, '2.179'],
  [13, '2.160'],
  [14, '2.145'],
  [15, '2.131'],
  [16, '2.120'],
  [17, '2.110'],
  [18, '2.101'],
  [19, '2.093'],
  [20, '2.086'],
  [21, '2.080'],
  [22, '2.074'],
  [23, '2.069'],
  [24, '2.064'],
  [25, '2.060'],
  [26, '2.056'],
  [27, '2.052'],
  [28, '2.048'],
  [29, '2.045'],
  [30, '2.042'],
  [40, '2.021'],
  [60, '2.000'],
  [120, '1.980'],
]

function meanOf(values: readonly Decimal[]): Decimal {
  return values.reduce((sum, value) => sum.plus(value), ZERO).div(whole(values.length))
}

function sumOfSquares(values: readonly Decimal[]): Decimal {
  return values.reduce((sum, value) => sum.plus(value.times(value)), ZERO)
}

function whole(value: number): Decimal {
  return decimal(String(value))
}

/** To a millionth of a dollar: more digits of an estimate would say nothing. */
function rounded(value: Decimal): Decimal {
  return decimal(value.round(6))
}
