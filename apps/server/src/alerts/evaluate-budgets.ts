import {
  type BudgetStatus,
  expectedThresholds,
  type KnownForecast,
  type Projection,
  percentSpent,
  projectBudget,
  reachedThresholds,
  scopeText,
  straightLine,
} from '@tokentally/core'
import { readForecasts, type StoredForecast } from '../forecast/index.ts'
import type { AlertCandidate } from './alert.ts'
import { resolveEnded, withoutFired } from './alert-store.ts'
import { type FireDependencies, fire, remind } from './fire.ts'

/** How budgets stand now, of all organizations or of one. */
export type BudgetStatuses = (request: {
  readonly organizationId?: string
  readonly nowMs: number
}) => Promise<readonly BudgetStatus[]>

export interface EvaluateDependencies extends FireDependencies {
  readonly budgetStatuses: BudgetStatuses
}

/**
 * Fires what budgets have reached, and lets time pass for the alerts that are there. Safe to run twice or on
 * every replica at once.
 *
 * @param lookBackMs judge the periods of that long ago, too: one that ended since may have reached a threshold in
 *   its last moments, when nobody looked any more
 */
export async function evaluateAlerts(dependencies: EvaluateDependencies, lookBackMs = 0): Promise<void> {
  const { pool, now } = dependencies
  await resolveEnded(pool, now())
  await remind(dependencies)
  const nowMs = now().getTime()
  await evaluateAt(dependencies, nowMs)
  if (lookBackMs > 0) await evaluateAt(dependencies, nowMs - lookBackMs)
}

async function evaluateAt(dependencies: EvaluateDependencies, atMs: number): Promise<void> {
  const { pool, now, budgetStatuses } = dependencies
  const nowMs = now().getTime()
  const statuses = await budgetStatuses({ nowMs: atMs })
  for (const [organizationId, own] of Map.groupBy(statuses, (status) => status.organizationId)) {
    const forecasts = new Map(
      (
        await readForecasts(
          pool,
          organizationId,
          own.map(({ scope }) => scopeText(scope)),
        )
      ).map((forecast) => [`${forecast.basis} ${forecast.scope}`, forecast]),
    )
    const candidates = own.flatMap((status) => {
      const forecast = forecasts.get(`${status.basis} ${scopeText(status.scope)}`)
      return budgetCandidates(
        status,
        nowMs,
        forecast === undefined || !isFounded(forecast) ? undefined : forecast,
      )
    })
    const open = await withoutFired(pool, organizationId, candidates)
    for (const group of Map.groupBy(
      open,
      ({ subjectKey, period, details }) => `${details.kind} ${period.startMs} ${subjectKey}`,
    ).values()) {
      await fire(dependencies, organizationId, group)
    }
  }
}

/** Hours of history from which on a forecast is worth an alert. */
const FOUNDED_HOURS = 48

function isFounded({ historyHours }: StoredForecast): boolean {
  return historyHours >= FOUNDED_HOURS
}

/**
 * The alerts that a budget's state and its forecast call for, lower thresholds first.
 *
 * @param forecast of the budget's scope, if there is one that is worth it
 */
export function budgetCandidates(
  status: BudgetStatus,
  nowMs: number,
  forecast?: KnownForecast,
): readonly (AlertCandidate & { readonly organizationId: string })[] {
  const scope = scopeText(status.scope)
  const projection = forecast === undefined ? undefined : projectBudget(status, forecast, nowMs)
  const common = {
    organizationId: status.organizationId,
    subjectKey: `${status.budgetId}/${scope}`,
    period: status.period,
    budgetId: status.budgetId,
  }
  const said = {
    budget_name: status.budgetName,
    scope,
    time_zone: status.timeZone,
    basis: status.basis,
    enforcement: status.enforcement,
    limit_usd: status.limitUsd,
    spent_usd: status.spentUsd,
    percent: percentSpent(status),
  }
  const reached = reachedThresholds(status).map((threshold) => ({
    ...common,
    threshold,
    details: { kind: 'budget_threshold' as const, ...said, forecast: forecastOf(status, projection, nowMs) },
  }))
  if (projection === undefined) return reached
  const expected = expectedThresholds(status, projection).map((threshold) => ({
    ...common,
    threshold,
    details: {
      kind: 'budget_forecast' as const,
      ...said,
      method: projection.method,
      end_usd: projection.endUsd,
      end_lo95_usd: projection.lo95Usd,
      end_hi95_usd: projection.hi95Usd,
      limit_reached_at: instantOf(projection.limitReachedMs),
    },
  }))
  return [...reached, ...expected]
}

/** What a reached threshold says of the period's end: the forecast, or a straight line until there is one. */
function forecastOf(status: BudgetStatus, projection: Projection | undefined, nowMs: number) {
  if (projection !== undefined) {
    return {
      basis: 'forecast' as const,
      end_usd: projection.endUsd,
      limit_reached_at: instantOf(projection.limitReachedMs),
    }
  }
  const line = straightLine(status, nowMs)
  return line === undefined
    ? null
    : {
        basis: 'straight_line' as const,
        end_usd: line.endUsd,
        limit_reached_at: instantOf(line.limitReachedMs),
      }
}

function instantOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
