import { type DailyMethod, sum } from './daily-methods.ts'

/**
 * What a method would have said in the past, held against what came: rolling origins, each seeing only the days
 * before it.
 */

/** What one origin got wrong: forecast less truth would be negative of these. */
export interface OriginErrors {
  /** Truth less forecast of the sum over the first k days, at index k − 1. */
  readonly sums: readonly number[]
  /** Truth less forecast of each day. */
  readonly days: readonly number[]
  /** The truth, day by day. */
  readonly truth: readonly number[]
  /** The mean day of the four weeks before the origin: what errors are relative to. */
  readonly level: number
}

const LEVEL_DAYS = 28

/**
 * @param origins how many days the method may see at each origin
 * @param horizonDays looks this far ahead, or to the end of what is known
 */
export function backTest(
  days: readonly number[],
  method: DailyMethod,
  { origins, horizonDays }: { readonly origins: readonly number[]; readonly horizonDays: number },
): readonly OriginErrors[] {
  return origins.flatMap((origin) => {
    const known = days.slice(0, origin)
    const truth = days.slice(origin, origin + horizonDays)
    const forecast = method(known, truth.length)
    if (forecast === undefined || truth.length === 0) return []
    let total = 0
    const errors = truth.map((value, index) => value - (forecast[index] ?? 0))
    const sums = errors.map((error) => {
      total += error
      return total
    })
    const recent = known.slice(-LEVEL_DAYS)
    return [{ sums, days: errors, truth, level: sum(recent) / Math.max(1, recent.length) }]
  })
}

/** The sums that methods are judged by: over one, two, three and four weeks. What people ask for is a sum. */
const JUDGED_DAYS = [7, 14, 21, 28] as const

/**
 * Weighted absolute percentage error of sums: all absolute errors by all truths.
 *
 * @returns undefined where nothing was to be forecast
 */
export function weightedError(errors: readonly OriginErrors[]): number | undefined {
  let wrong = 0
  let all = 0
  for (const { sums, truth } of errors) {
    for (const days of JUDGED_DAYS) {
      const error = sums[days - 1]
      if (error === undefined) continue
      // By the number of days: a week counts as much as four.
      wrong += Math.abs(error) / days
      all += sum(truth.slice(0, days)) / days
    }
  }
  return all > 0 ? wrong / all : undefined
}
