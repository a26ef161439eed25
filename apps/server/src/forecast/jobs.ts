import type { BudgetScope } from '@tokentally/core'
import { scopeText } from '@tokentally/core'
import type { Pool } from 'pg'
import { budgetStatuses } from '../budgets/index.ts'
import type { Jobs } from '../queue/jobs.ts'
import { aggregate, dimensionOf } from '../reports/index.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { type Basis, refreshHistory, trimHistory } from './history.ts'
import { type MakeDependencies, makeForecast } from './make.ts'
import { scoreForecasts } from './store.ts'

const FORECAST = 'forecast'
const FORECAST_EVERY_MS = 3_600_000
const DAY_MS = 24 * 3_600_000
/** Dimensions of which the values that spend most are forecast, beside what budgets are about. */
const DIMENSIONS = ['customer', 'team', 'feature', 'model'] as const

export interface ForecastJobDependencies extends MakeDependencies {
  readonly logger: Logger
  readonly metrics: Pick<Metrics, 'forecasts' | 'forecastsScored' | 'forecastRunSeconds'>
  /** Values of each dimension that are forecast: those that spent most in the last 30 days. */
  readonly scopesMax: number
}

/** Names the hourly job. It may run twice or late: a forecast of the same hour replaces itself. */
export function defineForecastJobs(jobs: Pick<Jobs, 'define'>, dependencies: ForecastJobDependencies): void {
  jobs.define(FORECAST, () => forecastAll(dependencies), { everyMs: FORECAST_EVERY_MS, isChore: true })
}

/** Forecasts every organization. One scope that fails does not keep the others from theirs. */
export async function forecastAll(dependencies: ForecastJobDependencies): Promise<void> {
  const { pool, now, logger, metrics } = dependencies
  const done = metrics.forecastRunSeconds.startTimer()
  const { rows } = await pool.query<{ id: string }>('select id from organization order by id')
  for (const { id } of rows) {
    const targets = await listTargets(dependencies, id)
    const scopes = new Map(targets.map(({ scope }) => [scopeText(scope), scope]))
    await refreshHistory(pool, id, [...scopes.values()], now().getTime())
    for (const target of targets) {
      // A stop does not wait for thousands of scopes; the next run takes them up.
      if (dependencies.thread.isClosed) return
      try {
        const { forecast } = await makeForecast(dependencies, id, target)
        metrics.forecasts.inc({ method: forecast.method })
      } catch (error) {
        metrics.forecasts.inc({ method: 'failed' })
        logger.error({ err: error, scope: scopeText(target.scope) }, 'a scope could not be forecast')
      }
    }
    metrics.forecastsScored.inc(await scoreForecasts(pool, id, now()))
    await trimHistory(pool, id, now().getTime())
  }
  done()
}

interface Target {
  readonly scope: BudgetScope
  readonly basis: Basis
  readonly timeZone: string
}

/** What is forecast: everything together, what spends most in each dimension, and what budgets are about. */
async function listTargets(
  { pool, now, scopesMax }: ForecastJobDependencies,
  organizationId: string,
): Promise<readonly Target[]> {
  const nowMs = now().getTime()
  const targets = new Map<string, Target>()
  const add = (target: Target) => {
    const key = `${target.basis} ${scopeText(target.scope)}`
    if (!targets.has(key)) targets.set(key, target)
  }
  // Budgets first: the month that their forecasts are scored by is that of their own zone.
  for (const { scope, basis, timeZone } of await budgetStatuses(pool, { organizationId, nowMs })) {
    add({ scope, basis, timeZone })
  }
  add({ scope: { dimension: 'organization', value: null }, basis: 'sell', timeZone: 'UTC' })
  for (const dimension of DIMENSIONS) {
    for (const value of await biggest(pool, organizationId, dimension, nowMs, scopesMax)) {
      add({ scope: { dimension, value }, basis: 'sell', timeZone: 'UTC' })
    }
  }
  return [...targets.values()]
}

async function biggest(
  pool: Pool,
  organizationId: string,
  dimension: (typeof DIMENSIONS)[number],
  nowMs: number,
  most: number,
): Promise<readonly string[]> {
  const reported = dimensionOf(dimension)
  if (reported === undefined || most === 0) return []
  const endMs = Math.ceil(nowMs / DAY_MS) * DAY_MS
  const { groups } = await aggregate(pool, {
    organizationId,
    startMs: endMs - 30 * DAY_MS,
    endMs,
    groupBy: [reported],
    granularity: undefined,
    timeZone: 'UTC',
    filters: [],
    withTotals: false,
  })
  return groups
    .flatMap(({ keys, total_cost }) => {
      const value = keys[dimension]
      return value === null || value === undefined ? [] : [{ value, spent: Number(total_cost) }]
    })
    .sort((one, other) => other.spent - one.spent)
    .slice(0, most)
    .map(({ value }) => value)
}
