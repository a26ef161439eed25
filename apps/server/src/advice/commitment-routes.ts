import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { adviseOnCommitments } from './commitment-advice.ts'
import { writeSetting } from './setting-store.ts'
import { commitmentsSchema, offersSchema, readCommitments, readOffers } from './settings.ts'

const TAGS = ['commitments']
const money = z.string().describe('US dollars for 30 days')
const updatedAt = z.string().nullable().describe('Null: nobody has set it.')
const offersJson = z.object({ offers: offersSchema, updated_at: updatedAt })
const commitmentsJson = z.object({ commitments: commitmentsSchema, updated_at: updatedAt })
const historyJson = z.object({
  start: z.string(),
  end: z.string(),
  weeks: z.number().int().describe('Whole weeks of history, 13 at most; fewer than 4 give no interval.'),
  stretch_minutes: z.number().int(),
  requests: z.number().int(),
})
const savingJson = z
  .object({ usd: z.string(), low_usd: z.string(), high_usd: z.string() })
  .nullable()
  .describe('For 30 days, with the interval of 95 % by weeks; null: nothing to save, or too few weeks.')
const adviceJson = z.object({
  models: z.array(
    z.object({
      provider: z.string(),
      model: z.string(),
      history: historyJson,
      on_demand_usd_per_month: money,
      best: z.object({
        offer_id: z.string().nullable(),
        units: z.number().int(),
        total_usd_per_month: money,
      }),
      saving_per_month: savingJson,
      offers: z.array(
        z.object({
          offer_id: z.string(),
          units: z.number().int().describe('The cheapest number of units of this offer; 0: none.'),
          reserved_usd_per_month: money,
          overflow_usd_per_month: money,
          total_usd_per_month: money,
          break_even_utilization: z
            .string()
            .nullable()
            .describe('From this share of its capacity on a unit pays; above 1: never.'),
          tokens_per_minute: z
            .record(z.string(), z.string())
            .describe('Quantiles of demand, in tokens of input.'),
        }),
      ),
    }),
  ),
  providers: z.array(
    z.object({
      provider: z.string(),
      history: historyJson,
      on_demand_usd_per_month: money,
      best: z.object({ offer_id: z.string().nullable(), total_usd_per_month: money }),
      saving_per_month: savingJson,
      offers: z.array(
        z.object({
          offer_id: z.string(),
          total_usd_per_month: money,
          break_even_usd_per_month: z.string().nullable(),
        }),
      ),
    }),
  ),
  owned: z.array(
    z.object({
      id: z.string(),
      history: historyJson,
      idle_share: z.string(),
      idle_usd_per_month: money,
      units: z.number().int().nullable(),
      cheapest_units: z.number().int().nullable(),
      saving_per_month: savingJson,
    }),
  ),
})

/** Registers everything under `/api/v1/commitments`. */
export function registerCommitmentRoutes(
  app: App,
  { pool, now }: { readonly pool: Pool; readonly now: () => Date },
): void {
  app.get(
    '/api/v1/commitments/offers',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'What capacity and spend can be committed to',
        response: { 200: offersJson },
      },
    },
    async ({ organizationId }) => {
      const { definition, updatedAt: at } = await readOffers(pool, organizationId)
      return { offers: [...definition], updated_at: at?.toISOString() ?? null }
    },
  )

  app.put(
    '/api/v1/commitments/offers',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Say what capacity and spend can be committed to',
        description: 'All of it: what is left out is gone.',
        body: z.strictObject({ offers: offersSchema }),
        response: { 200: offersJson, 400: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, body }) => {
      mustBeUnique('offers', body.offers)
      const at = now()
      await writeSetting(pool, { organizationId, apiKeyId, at }, 'commitment_offers', body.offers)
      return { offers: body.offers, updated_at: at.toISOString() }
    },
  )

  app.get(
    '/api/v1/commitments',
    {
      config: { scope: 'read' },
      schema: { tags: TAGS, summary: 'What has been committed to', response: { 200: commitmentsJson } },
    },
    async ({ organizationId }) => {
      const { definition, updatedAt: at } = await readCommitments(pool, organizationId)
      return { commitments: [...definition], updated_at: at?.toISOString() ?? null }
    },
  )

  app.put(
    '/api/v1/commitments',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Say what has been committed to',
        description: 'All of it: what is left out is gone.',
        body: z.strictObject({ commitments: commitmentsSchema }),
        response: { 200: commitmentsJson, 400: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, body }) => {
      mustBeUnique('commitments', body.commitments)
      const at = now()
      await writeSetting(pool, { organizationId, apiKeyId, at }, 'commitments', body.commitments)
      return { commitments: body.commitments, updated_at: at.toISOString() }
    },
  )

  app.get(
    '/api/v1/commitments/advice',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Which commitments would have been cheapest, and how well the owned ones are used',
        description:
          'From the sums of quarters of an hour of the last 13 whole weeks: every number of units of every offer is tried against every quarter of an hour.',
        response: { 200: adviceJson },
      },
    },
    async ({ organizationId }) => {
      const [offers, owned] = await Promise.all([
        readOffers(pool, organizationId),
        readCommitments(pool, organizationId),
      ])
      const settings = { offers: offers.definition, owned: owned.definition }
      return adviseOnCommitments(pool, organizationId, settings, now().getTime())
    },
  )
}

function mustBeUnique(list: string, entries: readonly { readonly id: string }[]): void {
  const twice = entries.findIndex(({ id }, index) => entries.findIndex((other) => other.id === id) < index)
  if (twice === -1) return
  throw new Problem({
    code: 'invalid-request',
    detail: 'Every id stands once.',
    errors: [{ path: `${list}.${twice}.id`, message: 'stands twice' }],
  })
}
