import { decimal } from '../money/decimal.ts'
import type { BudgetScope, BudgetStatus } from './budget.ts'
import type { BudgetDefinition } from './definition.ts'

/** What calls in a scope must do from now on. Whatever no decision is about goes on as it is. */
export interface Decision {
  readonly action: 'block' | 'rate_limit' | 'downgrade'
  readonly scope: BudgetScope
  readonly reason: 'budget_exceeded' | 'credit_exhausted'
  /** The budget that is used up; null for credit. */
  readonly budget: { readonly id: string; readonly name: string } | null
  /** One sentence for whoever is stopped. */
  readonly detail: string
  /** When the period ends, UTC milliseconds; null for credit. */
  readonly untilMs: number | null
  /** Only for `rate_limit`. */
  readonly requestsPerMinute: number | null
  /** Only for `downgrade`: cheaper models in order of preference. */
  readonly models: readonly string[] | null
}

/** What follows from how a budget stands; undefined while it has something left, and for `notify`. */
export function decisionOf(definition: BudgetDefinition, status: BudgetStatus): Decision | undefined {
  const { enforcement, period } = definition
  if (enforcement === 'notify' || decimal(status.spentUsd).lt(decimal(status.limitUsd))) return undefined
  const whose = status.scope.value === null ? '' : ` for ${status.scope.dimension} ${status.scope.value}`
  const when = typeof period === 'string' ? `this ${period}` : 'its period'
  return {
    action: enforcement,
    scope: status.scope,
    reason: 'budget_exceeded',
    budget: { id: status.budgetId, name: status.budgetName },
    detail: `The budget ${status.budgetName} of ${status.limitUsd} USD${whose} for ${when} is used up.`,
    untilMs: status.period.endMs,
    requestsPerMinute: enforcement === 'rate_limit' ? definition.requestsPerMinute : null,
    models: enforcement === 'downgrade' ? definition.downgradeTo : null,
  }
}

/** What follows from a customer's empty credit. */
export function creditDecision(customer: string): Decision {
  return {
    action: 'block',
    scope: { dimension: 'customer', value: customer },
    reason: 'credit_exhausted',
    budget: null,
    detail: `The prepaid credit of customer ${customer} is used up.`,
    untilMs: null,
    requestsPerMinute: null,
    models: null,
  }
}
