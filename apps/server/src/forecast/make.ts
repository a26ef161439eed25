import {
  type BudgetScope,
  HOUR_MS,
  halfAt,
  periodAt,
  type SeriesForecast,
  scopeText,
  seasonalNaive,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { type Basis, HISTORY_DAYS, readHistory } from './history.ts'
import { type Expectation, readForecasts, writeForecast } from './store.ts'
import type { ForecastThread } from './worker/forecast-thread.ts'

/** Makes the forecast of one scope from its kept history, in the thread, and keeps it. */

const DAY_MS = 24 * HOUR_MS
/** Reaches over the longest calendar period of a budget, a quarter. */
export const HORIZON_DAYS = 93
/** A method stays chosen this long: a contest costs many times what a forecast does. */
const CONTEST_EVERY_MS = 7 * DAY_MS

export interface MakeDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly thread: Pick<ForecastThread, 'forecast' | 'isClosed'>
}

/** A forecast with the numbers that it was made from. */
export interface MadeForecast {
  readonly scope: string
  readonly basis: Basis
  /** The first hour that is forecast. */
  readonly startMs: number
  readonly history: Float64Array
  readonly forecast: SeriesForecast
  /** Means of each 24 hours ahead. */
  readonly days: readonly number[]
}

/**
 * Forecasts from the beginning of the current hour on; what the hour has brought so far is left out, because a
 * part of an hour is none.
 *
 * @param timeZone of the month whose end is expected
 */
export async function makeForecast(
  { pool, now, thread }: MakeDependencies,
  organizationId: string,
  {
    scope,
    basis,
    timeZone,
  }: { readonly scope: BudgetScope; readonly basis: Basis; readonly timeZone: string },
): Promise<MadeForecast> {
  const subject = { organizationId, scope: scopeText(scope), basis }
  const madeAt = now()
  const startMs = Math.floor(madeAt.getTime() / HOUR_MS) * HOUR_MS
  const history = await readHistory(pool, subject, startMs - HISTORY_DAYS * DAY_MS, startMs)
  const before = (await readForecasts(pool, organizationId, [subject.scope])).find(
    (one) => one.basis === basis,
  )
  const isChosen =
    before !== undefined &&
    before.contest.length > 0 &&
    madeAt.getTime() - before.contestAt.getTime() < CONTEST_EVERY_MS
  const forecast = await thread.forecast({
    hours: history,
    horizonHours: HORIZON_DAYS * 24,
    chosen: isChosen ? before.method : undefined,
  })
  const days = daySums(forecast.hours)
  const made = { scope: subject.scope, basis, startMs, history, forecast, days }
  if (forecast.method === 'none' && before === undefined) return made
  await writeForecast(pool, subject, {
    forecast: isChosen ? { ...forecast, contest: before.contest } : forecast,
    startMs,
    madeAt,
    contestAt: isChosen ? before.contestAt : madeAt,
    days,
    expectations: expectationsOf(forecast, history, startMs, timeZone),
  })
  return made
}

/** What is scored later: the next day, the next week, the rest of the month. */
function expectationsOf(
  forecast: SeriesForecast,
  history: Float64Array,
  startMs: number,
  timeZone: string,
): readonly Expectation[] {
  if (forecast.method === 'none') return []
  const month = periodAt('month', timeZone, startMs)
  const naive = seasonalNaive(daySums([...history]), HORIZON_DAYS) ?? []
  const expectation = (target: Expectation['target'], endMs: number): Expectation => {
    const hours = Math.floor((endMs - startMs) / HOUR_MS)
    const { half80, half95 } = halfAt(forecast.sums, hours / 24)
    return {
      target,
      startMs,
      endMs,
      meanUsd: sum(forecast.hours.slice(0, hours)),
      half80Usd: half80,
      half95Usd: half95,
      naiveUsd:
        sum(naive.slice(0, Math.floor(hours / 24))) +
        ((hours % 24) / 24) * (naive[Math.floor(hours / 24)] ?? 0),
    }
  }
  return [
    expectation('day', startMs + DAY_MS),
    expectation('week', startMs + 7 * DAY_MS),
    // Zones that lie off full hours: up to their last full hour.
    ...(month === undefined || month.endMs - startMs < HOUR_MS
      ? []
      : [expectation('month_end', startMs + Math.floor((month.endMs - startMs) / HOUR_MS) * HOUR_MS)]),
  ]
}

export function daySums(hours: readonly number[]): readonly number[] {
  return Array.from({ length: Math.floor(hours.length / 24) }, (_, day) =>
    sum(hours.slice(day * 24, day * 24 + 24)),
  )
}

export function sum(values: readonly number[]): number {
  let total = 0
  for (const value of values) total += value
  return total
}
