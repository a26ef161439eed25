import {
  type BudgetScope,
  creditDecision,
  type Decision,
  decisionOf,
  type ModelPreference,
  ZERO,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { creditAccounts } from '../credit/balance.ts'
import { listPolicies } from '../policies/store.ts'
import { currentPeriod, standingsOf } from '../status.ts'
import { type Budget, listBudgets } from '../store.ts'

/** Everything that is decided for an organization at one moment. */
export interface Evaluation {
  readonly decisions: readonly Decision[]
  readonly preferences: readonly ModelPreference[]
  /** When time alone changes something: a period ends, a budget starts. UTC milliseconds. */
  readonly nextChangeMs: number
}

/** Decides from the ledger, the budgets, the credit and the policies as they are committed. */
export async function evaluate(pool: Pool, organizationId: string, nowMs: number): Promise<Evaluation> {
  const budgets = (await listBudgets(pool, organizationId)).filter(
    (budget) => budget.definition.enforcement !== 'notify',
  )
  const standings = await standingsOf(pool, organizationId, budgets, nowMs)
  const accounts = await creditAccounts(pool, organizationId)
  const policies = await listPolicies(pool, organizationId)
  return {
    decisions: [
      ...standings.flatMap(({ budget, status }) => decisionOf(budget.definition, status) ?? []),
      ...accounts
        .filter((account) => account.balanceUsd.lte(ZERO))
        .map((account) => creditDecision(account.customer)),
    ],
    preferences: policies.flatMap(({ policy }) => policy.preference ?? []),
    nextChangeMs: Math.min(...budgets.map((budget) => nextChangeOf(budget, nowMs))),
  }
}

function nextChangeOf(budget: Budget, nowMs: number): number {
  const current = currentPeriod(budget, nowMs)
  if (current !== undefined) return current.endMs
  const { period, startsAtMs } = budget.definition
  const starts = [startsAtMs, typeof period === 'object' ? period.startMs : null]
  const ahead = starts.filter((ms): ms is number => ms !== null && ms > nowMs)
  return ahead.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...ahead)
}

/**
 * What one key is told, as JSON without its time: the same text for the same decisions. A decision about an API
 * key is one about everything for that key, and none for all others.
 */
export function contentFor(evaluation: Evaluation, apiKeyId: string): string {
  return JSON.stringify({
    decisions: evaluation.decisions.flatMap((decision) => {
      const { scope } = decision
      if (scope.dimension !== 'api_key') return [decisionToJson(decision, scopeToJson(scope))]
      return scope.value === apiKeyId ? [decisionToJson(decision, {})] : []
    }),
    preferences: evaluation.preferences
      .filter((preference) => preference.scope.dimension !== 'api_key' || preference.scope.value === apiKeyId)
      .map(({ scope, prefer, fallback }) => ({
        scope: scope.dimension === 'api_key' ? {} : scopeToJson(scope),
        prefer,
        fallback,
      })),
  })
}

/** A whole snapshot. @param content what `contentFor` made */
export function snapshotJson(content: string, asOf: Date): string {
  return `{"as_of":"${asOf.toISOString()}",${content.slice(1)}`
}

function scopeToJson({ dimension, value }: BudgetScope): Record<string, string> {
  return dimension === 'organization' || value === null ? {} : { [dimension]: value }
}

function decisionToJson(decision: Decision, scope: Record<string, string>) {
  const { action, reason, budget, detail, untilMs, requestsPerMinute, models } = decision
  return {
    action,
    scope,
    reason,
    budget,
    detail,
    until: untilMs === null ? null : new Date(untilMs).toISOString(),
    ...(requestsPerMinute !== null && { requests_per_minute: requestsPerMinute }),
    ...(models !== null && { models }),
  }
}
