import {
  budgetDefinitionOf,
  budgetDefinitionSchema,
  budgetDefinitionToJson,
  decimalText,
  ZERO,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import { inOneSnapshot } from '../database/transaction.ts'
import type { App } from '../http/app.ts'
import { Problem } from '../http/problem.ts'
import {
  budgetJson,
  budgetToJson,
  statusJson,
  statusToJson,
  versionJson,
  versionToJson,
} from './budget-json.ts'
import { heldIn, heldScopeOf } from './holds/held-amounts.ts'
import { standingsOf } from './status.ts'
import {
  type Budget,
  budgetHistory,
  type Change,
  changeBudgets,
  deleteBudget,
  findBudget,
  insertBudget,
  listBudgets,
  replaceBudget,
} from './store.ts'

export interface BudgetRoutesDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

/** Each one is looked at whenever money is spent. */
const BUDGETS_MAX = 1_000
const TAGS = ['budgets']
const params = z.object({ id: z.uuid() })
const statuses = z.object({ statuses: z.array(statusJson) })

/** Registers everything under `/api/v1/budgets`. */
export function registerBudgetRoutes(app: App, { pool, now }: BudgetRoutesDependencies): void {
  const changeBy = (request: { readonly organizationId: string; readonly apiKeyId: string }): Change => ({
    organizationId: request.organizationId,
    apiKeyId: request.apiKeyId,
    source: 'api',
    at: now(),
  })
  const statusesOf = async (organizationId: string, budgets: readonly Budget[]) => {
    const { standings, held } = await inOneSnapshot(pool, async (client) => {
      const standings = await standingsOf(client, organizationId, budgets, now().getTime())
      const scopes = standings.map(({ status }) => heldScopeOf(status))
      return { standings, held: await heldIn(client, organizationId, now(), scopes) }
    })
    return {
      statuses: standings.map((standing, index) => statusToJson(standing, decimalText(held[index] ?? ZERO))),
    }
  }

  app.post(
    '/api/v1/budgets',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Create a budget',
        description: 'It is in force at once, and counts what its current period has cost already.',
        body: budgetDefinitionSchema,
        response: { 201: budgetJson },
      },
    },
    async (request, reply) => {
      const json = budgetDefinitionToJson(budgetDefinitionOf(request.body))
      const budget = await nameMustBeFree(json.name, () =>
        changeBudgets(pool, request.organizationId, async (client) => {
          const budgets = await listBudgets(client, request.organizationId)
          if (budgets.length >= BUDGETS_MAX) {
            throw new Problem({
              code: 'conflict',
              detail: `An organization has at most ${BUDGETS_MAX} budgets. One with the value * stands for many.`,
            })
          }
          return insertBudget(client, changeBy(request), json)
        }),
      )
      return reply.code(201).send(budgetToJson(budget))
    },
  )

  app.get(
    '/api/v1/budgets',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Budgets in force, by name',
        querystring: z.strictObject({}),
        response: { 200: z.object({ budgets: z.array(budgetJson) }) },
      },
    },
    async (request) => ({
      budgets: (await listBudgets(pool, request.organizationId)).map(budgetToJson),
    }),
  )

  app.get(
    '/api/v1/budgets/status',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'How all budgets stand in their current periods',
        description:
          'Complete up to the last acknowledged event. A budget with the value `*` has a line for every value that has spending; a budget that has not begun, or whose custom period is over, has none.',
        querystring: z.strictObject({}),
        response: { 200: statuses },
      },
    },
    async (request) => statusesOf(request.organizationId, await listBudgets(pool, request.organizationId)),
  )

  app.get(
    '/api/v1/budgets/:id',
    {
      config: { scope: 'read' },
      schema: { tags: TAGS, summary: 'One budget', params, response: { 200: budgetJson } },
    },
    async (request) => budgetToJson(await existing(request)),
  )

  app.get(
    '/api/v1/budgets/:id/status',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'How one budget stands in its current period',
        params,
        response: { 200: statuses },
      },
    },
    async (request) => statusesOf(request.organizationId, [await existing(request)]),
  )

  app.get(
    '/api/v1/budgets/:id/history',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Everything that a budget ever said, oldest first; also of a deleted one',
        params,
        response: { 200: z.object({ versions: z.array(versionJson) }) },
      },
    },
    async (request) => {
      const versions = await budgetHistory(pool, request.organizationId, request.params.id)
      if (versions.length === 0) throw noSuchBudget()
      return { versions: versions.map(versionToJson) }
    },
  )

  app.put(
    '/api/v1/budgets/:id',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Say anew what a budget is',
        description: 'All of it: what is left out has its default. The versions before stay in its history.',
        params,
        body: budgetDefinitionSchema,
        response: { 200: budgetJson },
      },
    },
    async (request) => {
      const json = budgetDefinitionToJson(budgetDefinitionOf(request.body))
      const budget = await nameMustBeFree(json.name, () =>
        changeBudgets(pool, request.organizationId, (client) =>
          replaceBudget(client, changeBy(request), request.params.id, json),
        ),
      )
      if (budget === undefined) throw noSuchBudget()
      return budgetToJson(budget)
    },
  )

  app.delete(
    '/api/v1/budgets/:id',
    {
      config: { scope: 'write' },
      schema: { tags: TAGS, summary: 'Delete a budget', params, response: { 204: z.null() } },
    },
    async (request, reply) => {
      const isDeleted = await changeBudgets(pool, request.organizationId, (client) =>
        deleteBudget(client, changeBy(request), request.params.id),
      )
      if (!isDeleted) throw noSuchBudget()
      return reply.code(204).send(null)
    },
  )

  async function existing(request: {
    readonly organizationId: string
    readonly params: { readonly id: string }
  }): Promise<Budget> {
    const budget = await findBudget(pool, request.organizationId, request.params.id)
    if (budget === undefined) throw noSuchBudget()
    return budget
  }
}

function noSuchBudget(): Problem {
  return new Problem({ code: 'not-found', detail: 'There is no budget with this id.' })
}

async function nameMustBeFree<T>(name: string, change: () => Promise<T>): Promise<T> {
  try {
    return await change()
  } catch (cause) {
    if (!(cause instanceof Error && 'constraint' in cause && cause.constraint === 'budget_name')) throw cause
    throw new Problem({
      code: 'conflict',
      detail: 'Another budget has this name.',
      errors: [{ path: 'name', message: `"${name}" is taken` }],
      cause,
    })
  }
}
