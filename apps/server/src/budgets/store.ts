import { randomUUID } from 'node:crypto'
import {
  type BudgetDefinition,
  type BudgetDefinitionJson,
  budgetDefinitionOf,
  budgetDefinitionSchema,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { inTransaction } from '../database/transaction.ts'

/** A budget in force. */
export interface Budget {
  readonly organizationId: string
  readonly id: string
  readonly version: number
  readonly json: BudgetDefinitionJson
  readonly definition: BudgetDefinition
  /** Whether the API or a file of policies made it what it is. */
  readonly source: BudgetSource
  readonly createdAt: Date
  readonly updatedAt: Date
}

export type BudgetSource = 'api' | 'policies'

/** One state of a budget. */
export interface BudgetVersion {
  readonly version: number
  /** Null: the budget was deleted. */
  readonly json: BudgetDefinitionJson | null
  readonly source: BudgetSource
  readonly apiKeyId: string | null
  readonly createdAt: Date
}

/** Who changes budgets, when. */
export interface Change {
  readonly organizationId: string
  readonly apiKeyId: string
  readonly source: BudgetSource
  readonly at: Date
}

const source = z.enum(['api', 'policies'])
const budgetRow = z.object({
  organization_id: z.string(),
  budget_id: z.string(),
  version: z.number(),
  definition: budgetDefinitionSchema,
  source,
  created_at: z.date(),
  updated_at: z.date(),
})
const versionRow = z.object({
  version: z.number(),
  definition: budgetDefinitionSchema.nullable(),
  source,
  api_key_id: z.string().nullable(),
  created_at: z.date(),
})

/** All budgets in force, of one or of all organizations, by name. */
export async function listBudgets(
  database: Pool | PoolClient,
  organizationId?: string,
): Promise<readonly Budget[]> {
  const { rows } = await database.query(
    `select * from budget
     where ($1::uuid is null or organization_id = $1) and deleted_at is null
     order by organization_id, name`,
    [organizationId ?? null],
  )
  return rows.map(budgetOf)
}

/** A budget in force; undefined when there is none of this id. */
export async function findBudget(
  database: Pool | PoolClient,
  organizationId: string,
  id: string,
): Promise<Budget | undefined> {
  const { rows } = await database.query(
    'select * from budget where organization_id = $1 and budget_id = $2 and deleted_at is null',
    [organizationId, id],
  )
  return rows.length === 0 ? undefined : budgetOf(rows[0])
}

/** Everything that a budget ever said, oldest first; empty when there never was one of this id. */
export async function budgetHistory(
  pool: Pool,
  organizationId: string,
  id: string,
): Promise<readonly BudgetVersion[]> {
  const { rows } = await pool.query(
    'select * from budget_version where organization_id = $1 and budget_id = $2 order by version',
    [organizationId, id],
  )
  return rows.map((row) => {
    const { definition, api_key_id, created_at, ...rest } = versionRow.parse(row)
    return { ...rest, json: definition, apiKeyId: api_key_id, createdAt: created_at }
  })
}

/** Enters a budget. @throws the database's unique violation when the name is taken */
export async function insertBudget(
  client: PoolClient,
  change: Change,
  json: BudgetDefinitionJson,
): Promise<Budget> {
  const { rows } = await client.query(
    `insert into budget (organization_id, budget_id, name, version, definition, source, created_at, updated_at)
     values ($1, $2, $3, 1, $4, $5, $6, $6) returning *`,
    [change.organizationId, randomUUID(), json.name, json, change.source, change.at],
  )
  const budget = budgetOf(rows[0])
  await noteVersion(client, change, budget.id, budget.version, json)
  return budget
}

/** Says anew what a budget is. @returns undefined when there is none of this id */
export async function replaceBudget(
  client: PoolClient,
  change: Change,
  id: string,
  json: BudgetDefinitionJson,
): Promise<Budget | undefined> {
  const { rows } = await client.query(
    `update budget
     set name = $3, definition = $4, source = $5, version = version + 1, updated_at = $6
     where organization_id = $1 and budget_id = $2 and deleted_at is null
     returning *`,
    [change.organizationId, id, json.name, json, change.source, change.at],
  )
  if (rows.length === 0) return undefined
  const budget = budgetOf(rows[0])
  await noteVersion(client, change, id, budget.version, json)
  return budget
}

/** Takes a budget out of force. @returns whether there was one */
export async function deleteBudget(client: PoolClient, change: Change, id: string): Promise<boolean> {
  const { rows } = await client.query<{ version: number }>(
    `update budget
     set deleted_at = $3, version = version + 1, updated_at = $3
     where organization_id = $1 and budget_id = $2 and deleted_at is null
     returning version`,
    [change.organizationId, id, change.at],
  )
  const version = rows[0]?.version
  if (version === undefined) return false
  await noteVersion(client, change, id, version, null)
  return true
}

async function noteVersion(
  client: PoolClient,
  change: Change,
  id: string,
  version: number,
  json: BudgetDefinitionJson | null,
): Promise<void> {
  await client.query(
    `insert into budget_version (organization_id, budget_id, version, definition, source, api_key_id, created_at)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [change.organizationId, id, version, json, change.source, change.apiKeyId, change.at],
  )
}

/**
 * Changes budgets, policies or credit of an organization, one change after the other, all of it or nothing.
 * Whoever hands out decisions sees by the revision that there is something new.
 */
export function changeBudgets<T>(
  pool: Pool,
  organizationId: string,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return inTransaction(pool, async (client) => {
    await client.query(
      `insert into budget_revision (organization_id, revision) values ($1, 1)
       on conflict (organization_id) do update set revision = budget_revision.revision + 1`,
      [organizationId],
    )
    return work(client)
  })
}

/** What budgets said at given instants, by budget; those that were not in force then are missing. */
export async function definitionsAt(
  database: Pool | PoolClient,
  organizationId: string,
  asked: readonly { readonly budgetId: string; readonly beforeMs: number }[],
): Promise<ReadonlyMap<string, BudgetDefinition>> {
  if (asked.length === 0) return new Map()
  const { rows } = await database.query<{ budget_id: string; definition: unknown }>(
    `select asked.budget_id, version.definition
     from unnest($2::uuid[], $3::timestamptz[]) as asked (budget_id, before)
     cross join lateral (
       select definition from budget_version
       where organization_id = $1 and budget_version.budget_id = asked.budget_id and created_at < asked.before
       order by version desc
       limit 1
     ) as version
     where version.definition is not null`,
    [organizationId, asked.map(({ budgetId }) => budgetId), asked.map(({ beforeMs }) => new Date(beforeMs))],
  )
  return new Map(
    rows.map((row) => [row.budget_id, budgetDefinitionOf(budgetDefinitionSchema.parse(row.definition))]),
  )
}

function budgetOf(row: unknown): Budget {
  const { organization_id, budget_id, definition, created_at, updated_at, ...rest } = budgetRow.parse(row)
  return {
    ...rest,
    organizationId: organization_id,
    id: budget_id,
    json: definition,
    definition: budgetDefinitionOf(definition),
    createdAt: created_at,
    updatedAt: updated_at,
  }
}
