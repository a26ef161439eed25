import { ADVICE_KINDS, ADVICE_SCOPES, modelAlternativesSchema, plainText, priceText } from '@tokentally/core'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { type AdviceDependencies, adviseOrganization } from './advise.ts'
import {
  alternativeSchema,
  computationSchema,
  dismissRecommendation,
  findRecommendation,
  lastRunAt,
  listRecommendations,
  type Recommendation,
  reopenRecommendation,
} from './recommendation-store.ts'
import { writeSetting } from './setting-store.ts'
import { readAlternatives } from './settings.ts'

const TAGS = ['recommendations']
const params = z.object({ id: z.uuid() })
const position = z.tuple([z.string().regex(/^\d{1,30}(\.\d{1,30})?$/), z.uuid()])
const recommendationJson = z.object({
  id: z.string(),
  kind: z.enum(ADVICE_KINDS),
  scope: z.object({ dimension: z.enum(ADVICE_SCOPES), value: z.string().nullable() }),
  subject: z.object({ provider: z.string(), model: z.string(), service_tier: z.string().nullable() }),
  alternative: alternativeSchema,
  saving_per_month: z
    .object({ usd: z.string(), low_usd: z.string(), high_usd: z.string() })
    .describe('US dollars of 30 days; in 95 of 100 cases the next 30 days lie between low and high.'),
  confidence: z.enum(['high', 'medium']),
  events: z.number().int().describe('Calls that it rests on.'),
  state: z.enum(['open', 'dismissed', 'gone']).describe('gone: the last run did not find it again.'),
  first_seen_at: z.string(),
  computed_at: z.string(),
  dismissed_at: z.string().nullable(),
  dismissed_reason: z.string().nullable(),
})
const detailJson = recommendationJson.extend({
  computation: computationSchema,
  sample_event_ids: z.array(z.string()).describe('The last calls of this scope and model.'),
})
const alternativesJson = z.object({
  model_alternatives: modelAlternativesSchema,
  updated_at: z.string().nullable().describe('Null: the table that every organization begins with.'),
})
const runJson = z.object({ recommendations: z.number().int(), computed_at: z.string() })

/** Registers `/api/v1/recommendations` and the table of alternatives. */
export function registerRecommendationRoutes(app: App, dependencies: AdviceDependencies): void {
  const { pool, now } = dependencies

  app.get(
    '/api/v1/recommendations',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'What would save money, the most first',
        description: 'As computed last: once a day, and by `POST /api/v1/recommendations/refresh`.',
        querystring: z.strictObject({
          kind: z.enum(ADVICE_KINDS).optional(),
          scope: z
            .string()
            .max(600)
            .optional()
            .describe('`feature`, `team`, `customer` or `organization`, or one of them: `feature:/chat`.'),
          min_saving: priceText.optional().describe('US dollars of 30 days.'),
          state: z.enum(['open', 'dismissed', 'all']).default('open'),
          limit: z.coerce.number().int().min(1).max(200).default(50),
          cursor: z.string().max(500).optional(),
        }),
        response: {
          200: z.object({
            recommendations: z.array(recommendationJson),
            computed_at: z.string().nullable().describe('Null: not yet.'),
            next_cursor: z.string().nullable(),
          }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, position)
      const filter = {
        kind: query.kind,
        scope: query.scope === undefined ? undefined : readScope(query.scope),
        minSavingUsd: query.min_saving,
        state: query.state,
      }
      const found = await listRecommendations(pool, organizationId, filter, { after, limit: query.limit + 1 })
      const { page, nextCursor } = pageOf(found, query.limit, ({ savingUsd, id }) => [savingUsd, id])
      return {
        recommendations: page.map(recommendationToJson),
        computed_at: (await lastRunAt(pool, organizationId))?.toISOString() ?? null,
        next_cursor: nextCursor,
      }
    },
  )

  app.post(
    '/api/v1/recommendations/refresh',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Compute the recommendations now',
        description: 'From the last 28 whole days, UTC. Reads the ledger of these days.',
        response: { 200: runJson },
      },
    },
    async ({ organizationId }) => {
      const { found, at } = await adviseOrganization(dependencies, organizationId)
      return { recommendations: found, computed_at: at.toISOString() }
    },
  )

  app.get(
    '/api/v1/recommendations/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'One recommendation with its computation in full',
        params,
        response: { 200: detailJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params: { id } }) =>
      detailToJson(existing(await findRecommendation(pool, organizationId, id))),
  )

  app.post(
    '/api/v1/recommendations/:id/dismiss',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Put a recommendation aside',
        description: 'It stays aside when it is found again. The first dismissal stands.',
        params,
        body: z.strictObject({ reason: plainText(1000).optional() }),
        response: { 200: detailJson, 400: problemSchema, 404: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, params: { id }, body }) => {
      const by = { organizationId, apiKeyId, at: now() }
      return detailToJson(existing(await dismissRecommendation(pool, by, id, body.reason)))
    },
  )

  app.post(
    '/api/v1/recommendations/:id/reopen',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Take a dismissal back',
        params,
        response: { 200: detailJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params: { id } }) =>
      detailToJson(existing(await reopenRecommendation(pool, organizationId, id))),
  )

  app.get(
    '/api/v1/advice/model-alternatives',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Which cheaper models may be proposed instead of which',
        response: { 200: alternativesJson },
      },
    },
    async ({ organizationId }) => {
      const { definition, updatedAt } = await readAlternatives(pool, organizationId)
      return { model_alternatives: definition, updated_at: updatedAt?.toISOString() ?? null }
    },
  )

  app.put(
    '/api/v1/advice/model-alternatives',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Say which cheaper models may be proposed instead of which',
        description: 'All of it: what is left out is proposed no more.',
        body: z.strictObject({ model_alternatives: modelAlternativesSchema }),
        response: { 200: alternativesJson, 400: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, body }) => {
      const at = now()
      await writeSetting(
        pool,
        { organizationId, apiKeyId, at },
        'model_alternatives',
        body.model_alternatives,
      )
      return { model_alternatives: body.model_alternatives, updated_at: at.toISOString() }
    },
  )
}

function readScope(text: string): { readonly dimension: string; readonly value?: string } {
  const colon = text.indexOf(':')
  const dimension = colon === -1 ? text : text.slice(0, colon)
  if (!ADVICE_SCOPES.some((known) => known === dimension) || text.includes('\0')) {
    throw new Problem({
      code: 'invalid-request',
      errors: [{ path: 'scope', message: `must begin with one of ${ADVICE_SCOPES.join(', ')}` }],
    })
  }
  return { dimension, ...(colon !== -1 && { value: text.slice(colon + 1) }) }
}

function existing(recommendation: Recommendation | undefined): Recommendation {
  if (recommendation !== undefined) return recommendation
  throw new Problem({ code: 'not-found', detail: 'There is no recommendation with this id.' })
}

function recommendationToJson(one: Recommendation): z.input<typeof recommendationJson> {
  return {
    id: one.id,
    kind: one.kind,
    scope: one.scope,
    subject: one.subject,
    alternative: one.alternative,
    saving_per_month: { usd: one.savingUsd, low_usd: one.savingLowUsd, high_usd: one.savingHighUsd },
    confidence: one.confidence,
    events: one.events,
    state: one.dismissedAt !== null ? 'dismissed' : one.isCurrent ? 'open' : 'gone',
    first_seen_at: one.firstSeenAt.toISOString(),
    computed_at: one.computedAt.toISOString(),
    dismissed_at: one.dismissedAt?.toISOString() ?? null,
    dismissed_reason: one.dismissedReason,
  }
}

function detailToJson(one: Recommendation): z.input<typeof detailJson> {
  return {
    ...recommendationToJson(one),
    computation: one.computation,
    sample_event_ids: [...one.sampleEventIds],
  }
}
