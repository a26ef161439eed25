import { budgetDefinitionOf, budgetDefinitionToJson, percentOf, remainingOf } from '@tokentally/core'
import { z } from 'zod'
import type { Standing } from './status.ts'
import type { Budget, BudgetVersion } from './store.ts'

/** Budgets as the API shows them. The words of JSON and those of the code meet in this file. */

const money = z.string().describe('US dollars, exact decimal')
const scopeJson = z.object({ dimension: z.string(), value: z.string().nullable() })
const enforcement = z.enum(['notify', 'rate_limit', 'downgrade', 'block'])

const definitionJson = z.object({
  name: z.string(),
  amount: money,
  period: z.union([z.string(), z.object({ start: z.string(), end: z.string() })]),
  timezone: z.string(),
  scope: scopeJson,
  thresholds: z.array(z.number()),
  forecast_thresholds: z.array(z.number()),
  basis: z.enum(['list', 'sell']),
  rollover: z.boolean(),
  enforcement,
  downgrade_to: z.array(z.string()).nullable(),
  requests_per_minute: z.number().int().nullable(),
  starts_at: z.string().nullable(),
})

const source = z
  .enum(['api', 'policies'])
  .describe('What made it so: this API, or `tokentally policies apply`.')

export const budgetJson = definitionJson.extend({
  id: z.string(),
  version: z.number().int().describe('Grows by one with every change; see its history.'),
  source,
  created_at: z.string(),
  updated_at: z.string(),
})

export const versionJson = z.object({
  version: z.number().int(),
  budget: definitionJson.nullable().describe('Null: it was deleted.'),
  source,
  api_key_id: z.string().nullable().describe('The key that made the change.'),
  created_at: z.string(),
})

export const statusJson = z.object({
  budget_id: z.string(),
  budget_name: z.string(),
  scope: scopeJson.describe('With a value of its own where the budget has `*`.'),
  period: z.object({ start: z.string(), end: z.string() }),
  timezone: z.string(),
  basis: z.enum(['list', 'sell']),
  limit: money.describe('The amount, with what rolled over. US dollars, exact decimal'),
  spent: money.describe("The ledger's sum over the period. US dollars, exact decimal"),
  held: money.describe('Reserved for calls that are under way. US dollars, exact decimal'),
  remaining: money.describe('Limit less spent less held, never below zero. US dollars, exact decimal'),
  percent: z.number().describe('Spent, of the limit; rounded down to hundredths.'),
  thresholds: z.array(z.number()),
  enforcement,
  is_exceeded: z.boolean().describe('Whether spent has reached the limit.'),
})

export function budgetToJson(budget: Budget): z.input<typeof budgetJson> {
  return {
    id: budget.id,
    version: budget.version,
    ...definitionToJson(budget.json),
    source: budget.source,
    created_at: budget.createdAt.toISOString(),
    updated_at: budget.updatedAt.toISOString(),
  }
}

export function versionToJson(version: BudgetVersion): z.input<typeof versionJson> {
  return {
    version: version.version,
    budget: version.json === null ? null : definitionToJson(version.json),
    source: version.source,
    api_key_id: version.apiKeyId,
    created_at: version.createdAt.toISOString(),
  }
}

/** @param heldUsd what open holds reserve in the same scope, US dollars */
export function statusToJson({ status }: Standing, heldUsd: string): z.input<typeof statusJson> {
  const percent = percentOf(status.spentUsd, status.limitUsd)
  return {
    budget_id: status.budgetId,
    budget_name: status.budgetName,
    scope: { ...status.scope },
    period: {
      start: new Date(status.period.startMs).toISOString(),
      end: new Date(status.period.endMs).toISOString(),
    },
    timezone: status.timeZone,
    basis: status.basis,
    limit: status.limitUsd,
    spent: status.spentUsd,
    held: heldUsd,
    remaining: remainingOf(status.limitUsd, status.spentUsd, heldUsd),
    percent,
    thresholds: [...status.thresholds],
    enforcement: status.enforcement,
    is_exceeded: percent >= 100,
  }
}

function definitionToJson(json: Budget['json']): z.input<typeof definitionJson> {
  return definitionJson.parse(budgetDefinitionToJson(budgetDefinitionOf(json)))
}
