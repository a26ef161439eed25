import { isDeepStrictEqual } from 'node:util'
import { budgetDefinitionToJson, type Policy } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import {
  type Budget,
  type Change,
  changeBudgets,
  deleteBudget,
  insertBudget,
  listBudgets,
  replaceBudget,
} from '../store.ts'
import { listPolicies, putPolicies, removePolicies } from './store.ts'

/** What applying a policy does to a budget or a preference of its name. */
export interface PolicyChange {
  readonly name: string
  readonly kind: 'budget' | 'preference'
  readonly action: 'create' | 'update' | 'unchanged' | 'delete'
}

/** Nothing is to be kept of what was done. */
class DryRun extends Error {
  override readonly name = 'DryRun'
}

/**
 * Makes budgets and preferences what the policies say, all of it or nothing.
 *
 * A budget of the same name is taken over, whoever made it. With `prune`, policies that were applied before and are
 * not among these are removed with their budgets; budgets that the API made stay in any case.
 *
 * @returns what was done, or with `isDryRun` would be, in the order of the policies
 */
export async function applyPolicies(
  pool: Pool,
  policies: readonly Policy[],
  change: Change,
  { prune, isDryRun }: { readonly prune: boolean; readonly isDryRun: boolean },
): Promise<readonly PolicyChange[]> {
  let changes: readonly PolicyChange[] = []
  try {
    await changeBudgets(pool, change.organizationId, async (client) => {
      changes = await apply(client, policies, change, prune)
      if (isDryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw error
  }
  return changes
}

async function apply(
  client: PoolClient,
  policies: readonly Policy[],
  change: Change,
  prune: boolean,
): Promise<readonly PolicyChange[]> {
  const { organizationId } = change
  const budgets = new Map(
    (await listBudgets(client, organizationId)).map((budget) => [budget.definition.name, budget]),
  )
  const before = new Map(
    (await listPolicies(client, organizationId)).map(({ policy }) => [policy.name, policy]),
  )
  const changes: PolicyChange[] = []
  for (const policy of policies) {
    const budget = budgets.get(policy.name)
    const action = await applyBudget(client, policy, budget, change)
    if (action !== undefined) changes.push({ name: policy.name, kind: 'budget', action })
    const preference = actionOn(before.get(policy.name)?.preference ?? null, policy.preference)
    if (preference !== undefined) changes.push({ name: policy.name, kind: 'preference', action: preference })
  }
  await putPolicies(client, organizationId, policies, change.at)
  if (!prune) return changes

  const named = new Set(policies.map((policy) => policy.name))
  for (const budget of budgets.values()) {
    if (budget.source !== 'policies' || named.has(budget.definition.name)) continue
    await deleteBudget(client, change, budget.id)
    changes.push({ name: budget.definition.name, kind: 'budget', action: 'delete' })
  }
  const gone = [...before.values()].filter((policy) => !named.has(policy.name))
  for (const { name, preference } of gone) {
    if (preference !== null) changes.push({ name, kind: 'preference', action: 'delete' })
  }
  await removePolicies(
    client,
    organizationId,
    gone.map((policy) => policy.name),
  )
  return changes
}

async function applyBudget(
  client: PoolClient,
  policy: Policy,
  budget: Budget | undefined,
  change: Change,
): Promise<PolicyChange['action'] | undefined> {
  if (policy.budget === null) {
    // The policy has lost its limit. A budget that the API made under its name is another matter.
    if (budget?.source !== 'policies') return undefined
    await deleteBudget(client, change, budget.id)
    return 'delete'
  }
  const json = budgetDefinitionToJson(policy.budget)
  if (budget === undefined) {
    await insertBudget(client, change, json)
    return 'create'
  }
  if (budget.source === 'policies' && isDeepStrictEqual(budgetDefinitionToJson(budget.definition), json)) {
    return 'unchanged'
  }
  await replaceBudget(client, change, budget.id, json)
  return 'update'
}

function actionOn(before: object | null, after: object | null): PolicyChange['action'] | undefined {
  if (after === null) return before === null ? undefined : 'delete'
  if (before === null) return 'create'
  return isDeepStrictEqual(before, after) ? 'unchanged' : 'update'
}
