import type { BudgetStatus } from '../budgets/budget.ts'
import { type Decimal, decimal, decimalFromLiteral } from '../money/decimal.ts'
import type { ForecastMethod } from './forecast.ts'
import { halfAt, type Spread } from './intervals.ts'

/** The forecast of a scope, as far as budgets need it. */
export interface KnownForecast {
  readonly method: ForecastMethod
  /** The first moment that is forecast, UTC milliseconds. */
  readonly startMs: number
  /** Means of each 24 hours from then on, US dollars. */
  readonly days: readonly number[]
  readonly sums: Spread
}

/** What a budget's period is expected to end with. */
export interface Projection {
  readonly method: ForecastMethod
  /** US dollars at the period's end: what is spent, exactly, and what is forecast, to the cent. */
  readonly endUsd: string
  readonly lo95Usd: string
  readonly hi95Usd: string
  /** When the limit is reached, UTC milliseconds; null: not within the period, or it is already reached. */
  readonly limitReachedMs: number | null
}

const DAY_MS = 24 * 3_600_000
/** A forecast that is older says nothing. */
const AGE_MAX_MS = 2 * DAY_MS

/** The sum of a forecast from its start until an instant; within a day in proportion. US dollars. */
export function forecastUntil({ startMs, days }: KnownForecast, instantMs: number): number {
  const ahead = Math.max(0, (instantMs - startMs) / DAY_MS)
  const whole = Math.floor(ahead)
  let total = 0
  for (let day = 0; day < Math.min(whole, days.length); day++) total += days[day] ?? 0
  return total + (ahead - whole) * (days[whole] ?? 0)
}

/**
 * Adds what is forecast to what is spent.
 *
 * @returns undefined when the forecast is too old, does not reach to the period's end, or the period is over
 */
export function projectBudget(
  { period, spentUsd, limitUsd }: Pick<BudgetStatus, 'period' | 'spentUsd' | 'limitUsd'>,
  forecast: KnownForecast,
  nowMs: number,
): Projection | undefined {
  const reachMs = forecast.startMs + forecast.days.length * DAY_MS
  if (nowMs >= period.endMs || period.endMs > reachMs || nowMs - forecast.startMs > AGE_MAX_MS)
    return undefined
  const already = forecastUntil(forecast, nowMs)
  const rest = forecastUntil(forecast, period.endMs) - already
  const { half95 } = halfAt(forecast.sums, (period.endMs - nowMs) / DAY_MS)
  const spent = decimal(spentUsd)
  const limit = decimal(limitUsd)
  const left = Number(limit.minus(spent).toFixed())
  return {
    method: forecast.method,
    endUsd: spentAnd(spent, rest),
    lo95Usd: spentAnd(spent, Math.max(0, rest - half95)),
    hi95Usd: spentAnd(spent, rest + half95),
    limitReachedMs: left > 0 && rest >= left ? crossingMs(forecast, already + left, period.endMs) : null,
  }
}

/** An exact amount and a forecast one; the forecast in cents, because it knows no more. */
export function spentAnd(spent: Decimal, forecastUsd: number): string {
  return spent.plus(decimalFromLiteral(Number(forecastUsd.toFixed(2)))).toFixed()
}

/** When a forecast's sum reaches an amount. */
export function crossingMs(forecast: KnownForecast, amount: number, latestMs: number): number | null {
  let total = 0
  for (const [day, mean] of forecast.days.entries()) {
    if (total + mean >= amount && mean > 0) {
      const at = forecast.startMs + (day + Math.max(0, amount - total) / mean) * DAY_MS
      return at <= latestMs ? Math.ceil(at) : null
    }
    total += mean
  }
  return null
}

/** The forecast thresholds that a budget's period will reach, and has not yet: percentages, ascending. */
export function expectedThresholds(
  {
    limitUsd,
    spentUsd,
    forecastThresholds,
  }: Pick<BudgetStatus, 'limitUsd' | 'spentUsd' | 'forecastThresholds'>,
  { endUsd }: Projection,
): readonly number[] {
  const hundredfold = (amount: string) => decimal(amount).times('100')
  const limit = decimal(limitUsd)
  if (limit.lte('0')) return []
  return forecastThresholds
    .filter((threshold) => {
      const reached = limit.times(decimalFromLiteral(threshold))
      return hundredfold(endUsd).gte(reached) && hundredfold(spentUsd).lt(reached)
    })
    .toSorted((one, other) => one - other)
}
