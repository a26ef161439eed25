import { type BudgetStatus, percentSpent, reachedThresholds, scopeText, straightLine } from '@tokentally/core'
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
  const byOrganization = Map.groupBy(
    (await budgetStatuses({ nowMs: atMs })).flatMap((status) => budgetCandidates(status, nowMs)),
    ({ organizationId }) => organizationId,
  )
  for (const [organizationId, candidates] of byOrganization) {
    const open = await withoutFired(pool, organizationId, candidates)
    for (const group of Map.groupBy(
      open,
      ({ subjectKey, period }) => `${period.startMs} ${subjectKey}`,
    ).values()) {
      await fire(dependencies, organizationId, group)
    }
  }
}

/** The alerts that a budget's state calls for, lower thresholds first. */
export function budgetCandidates(
  status: BudgetStatus,
  nowMs: number,
): readonly (AlertCandidate & { readonly organizationId: string })[] {
  const scope = scopeText(status.scope)
  const line = straightLine(status, nowMs)
  return reachedThresholds(status).map((threshold) => ({
    organizationId: status.organizationId,
    subjectKey: `${status.budgetId}/${scope}`,
    period: status.period,
    threshold,
    budgetId: status.budgetId,
    details: {
      kind: 'budget_threshold',
      budget_name: status.budgetName,
      scope,
      time_zone: status.timeZone,
      basis: status.basis,
      enforcement: status.enforcement,
      limit_usd: status.limitUsd,
      spent_usd: status.spentUsd,
      percent: percentSpent(status),
      forecast:
        line === undefined
          ? null
          : {
              basis: 'straight_line',
              end_usd: line.endUsd,
              limit_reached_at:
                line.limitReachedMs === null ? null : new Date(line.limitReachedMs).toISOString(),
            },
    },
  }))
}
