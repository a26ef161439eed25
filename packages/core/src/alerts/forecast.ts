import type { BudgetStatus } from '../budgets/budget.ts'
import { decimal } from '../money/decimal.ts'

/** Less of a period than this says nothing about the rest of it. */
const ELAPSED_MIN_SHARE = 0.01

/** What a budget's period ends with if spending goes on as it went on average until now: an extrapolation. */
export interface StraightLine {
  /** US dollars at the period's end, rounded to whole cents. */
  readonly endUsd: string
  /** When the limit is reached, UTC milliseconds; null: not within the period, or it is already reached. */
  readonly limitReachedMs: number | null
}

/**
 * Draws a straight line from the period's start through what is spent now to the period's end.
 *
 * @returns undefined when too little of the period has passed, or all of it
 */
export function straightLine(
  { period, spentUsd, limitUsd }: Pick<BudgetStatus, 'period' | 'spentUsd' | 'limitUsd'>,
  nowMs: number,
): StraightLine | undefined {
  const lengthMs = period.endMs - period.startMs
  const elapsedMs = nowMs - period.startMs
  if (elapsedMs >= lengthMs || elapsedMs < lengthMs * ELAPSED_MIN_SHARE) return undefined
  const elapsed = decimal(BigInt(Math.round(elapsedMs)))
  const spent = decimal(spentUsd)
  const limit = decimal(limitUsd)
  const end = spent.times(decimal(BigInt(Math.round(lengthMs)))).div(elapsed)
  const reachesLimit = spent.gt('0') && spent.lt(limit) && end.gte(limit)
  return {
    endUsd: end.round(2).toFixed(2),
    limitReachedMs: reachesLimit
      ? period.startMs + Number(elapsed.times(limit).div(spent).round(0).toFixed())
      : null,
  }
}
