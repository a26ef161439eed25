import {
  ADVICE_KINDS,
  ADVICE_SCOPES,
  type Advice,
  type AdviceKind,
  type AdviceScope,
  decimalText,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { inTransaction } from '../database/transaction.ts'
import { type AdviceWindow, alternativeJson, computationJson, recommendationId } from './recommendation.ts'

/** A recommendation as it is kept. */
export interface Recommendation {
  readonly id: string
  readonly kind: AdviceKind
  readonly scope: AdviceScope
  readonly subject: {
    readonly provider: string
    readonly model: string
    readonly service_tier: string | null
  }
  readonly alternative: z.output<typeof alternativeSchema>
  readonly savingUsd: string
  readonly savingLowUsd: string
  readonly savingHighUsd: string
  readonly confidence: 'high' | 'medium'
  readonly events: number
  readonly computation: z.output<typeof computationSchema>
  readonly sampleEventIds: readonly string[]
  readonly firstSeenAt: Date
  readonly computedAt: Date
  readonly isCurrent: boolean
  readonly dismissedAt: Date | null
  readonly dismissedReason: string | null
}

export const alternativeSchema = z.object({
  provider: z.string().nullable(),
  model: z.string().nullable(),
  service_tier: z.string().nullable(),
  note: z.string().nullable(),
})
const subjectSchema = z.object({
  provider: z.string(),
  model: z.string(),
  service_tier: z.string().nullable(),
})
const money = z.string().describe('US dollars')
export const computationSchema = z.object({
  window: z.object({ start: z.string(), end: z.string() }),
  prices_at: z.string().describe('Both sides are at the prices of this moment.'),
  formula: z.string(),
  current_usd: money,
  alternative_usd: money,
  saved_usd: money.describe('In the whole window.'),
  month_days: z.number().int(),
  interval: z.string(),
  history: z.object({ every: z.enum(['day', 'week']), saved_usd: z.array(money) }),
  price_version_ids: z.array(z.string()),
  assumption: z.string().nullable(),
  others: z.array(z.object({ alternative: alternativeSchema, saving_usd: money })),
  query: z.string().describe('The request that lists the calls of this scope and model.'),
})

const rowSchema = z.object({
  recommendation_id: z.string(),
  kind: z.enum(ADVICE_KINDS),
  scope_dimension: z.enum(ADVICE_SCOPES),
  scope_value: z.string().nullable(),
  subject: subjectSchema,
  alternative: alternativeSchema,
  saving_usd: z.string(),
  saving_low_usd: z.string(),
  saving_high_usd: z.string(),
  confidence: z.enum(['high', 'medium']),
  events: z.coerce.number(),
  computation: computationSchema,
  sample_event_ids: z.array(z.string()),
  first_seen_at: z.date(),
  computed_at: z.date(),
  is_current: z.boolean(),
  dismissed_at: z.date().nullable(),
  dismissed_reason: z.string().nullable(),
})

function recommendationOf(row: unknown): Recommendation {
  const read = rowSchema.parse(row)
  return {
    id: read.recommendation_id,
    kind: read.kind,
    scope: { dimension: read.scope_dimension, value: read.scope_value },
    subject: read.subject,
    alternative: read.alternative,
    savingUsd: read.saving_usd,
    savingLowUsd: read.saving_low_usd,
    savingHighUsd: read.saving_high_usd,
    confidence: read.confidence,
    events: read.events,
    computation: read.computation,
    sampleEventIds: read.sample_event_ids,
    firstSeenAt: read.first_seen_at,
    computedAt: read.computed_at,
    isCurrent: read.is_current,
    dismissedAt: read.dismissed_at,
    dismissedReason: read.dismissed_reason,
  }
}

/** What one run found. */
export interface AdviceRun {
  readonly organizationId: string
  readonly at: Date
  readonly window: AdviceWindow
  readonly advice: readonly Advice[]
}

const UPSERT = `
  insert into recommendation (organization_id, recommendation_id, kind, scope_dimension, scope_value, subject, alternative,
    saving_usd, saving_low_usd, saving_high_usd, confidence, events, computation, sample_event_ids, first_seen_at,
    computed_at, is_current)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, true)
  on conflict (organization_id, recommendation_id) do update
  set alternative = excluded.alternative, saving_usd = excluded.saving_usd, saving_low_usd = excluded.saving_low_usd,
    saving_high_usd = excluded.saving_high_usd, confidence = excluded.confidence, events = excluded.events,
    computation = excluded.computation, sample_event_ids = excluded.sample_event_ids,
    computed_at = excluded.computed_at, is_current = true`

/**
 * Puts what a run found in the place of what the last one found; what was dismissed stays so. A run that is older than
 * what is kept changes nothing.
 */
export async function storeRun(pool: Pool, { organizationId, at, window, advice }: AdviceRun): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rowCount } = await client.query(
      `insert into advice_run (organization_id, computed_at, window_start, window_end) values ($1, $2, $3, $4)
       on conflict (organization_id) do update
       set computed_at = excluded.computed_at, window_start = excluded.window_start, window_end = excluded.window_end
       where advice_run.computed_at <= excluded.computed_at`,
      [organizationId, at, new Date(window.startMs), new Date(window.endMs)],
    )
    if (rowCount === 0) return
    await client.query(
      'update recommendation set is_current = false where organization_id = $1 and is_current',
      [organizationId],
    )
    for (const one of advice) {
      const { kind, scope, subject, saving } = one
      await client.query(UPSERT, [
        organizationId,
        recommendationId(organizationId, one),
        kind,
        scope.dimension,
        scope.value,
        JSON.stringify({
          provider: subject.provider,
          model: subject.model,
          service_tier: subject.serviceTier ?? null,
        }),
        JSON.stringify(alternativeJson(one.alternative)),
        decimalText(saving.usd),
        decimalText(saving.lowUsd),
        decimalText(saving.highUsd),
        one.confidence,
        one.events,
        JSON.stringify(computationJson(one, window)),
        await sampleEvents(client, organizationId, one, window),
        at,
      ])
    }
  })
}

const SAMPLES = 5
const SCOPE_COLUMNS = { feature: 'feature', team: 'team_id', customer: 'customer_id' } as const

/** The last few calls of a scope with a model. */
async function sampleEvents(
  client: PoolClient,
  organizationId: string,
  { scope, calledAs }: Advice,
  window: AdviceWindow,
): Promise<readonly string[]> {
  const condition =
    scope.dimension === 'organization' ? 'true or $4::text is null' : `${SCOPE_COLUMNS[scope.dimension]} = $4`
  const { rows } = await client.query<{ event_id: string }>(
    `select event_id from usage_event
     where organization_id = $1 and ts >= $2 and ts < $3 and (${condition}) and status <> 'error'
       and (provider, coalesce(model, '')) in (select * from unnest($5::text[], $6::text[]))
     order by ts desc, event_id limit ${SAMPLES}`,
    [
      organizationId,
      new Date(window.startMs),
      new Date(window.endMs),
      scope.value,
      calledAs.map(({ provider }) => provider),
      calledAs.map(({ model }) => model ?? ''),
    ],
  )
  return rows.map((row) => row.event_id)
}

export interface RecommendationFilter {
  readonly kind?: AdviceKind | undefined
  readonly scope?: { readonly dimension: string; readonly value?: string | undefined } | undefined
  /** Exact decimal text. */
  readonly minSavingUsd?: string | undefined
  readonly state: 'open' | 'dismissed' | 'all'
}
/** Where a page ended: the saving and the id. */
export type RecommendationPosition = readonly [savingUsd: string, id: string]

/** Recommendations of the last run, the largest saving first. */
export async function listRecommendations(
  pool: Pool,
  organizationId: string,
  filter: RecommendationFilter,
  page: { readonly after: RecommendationPosition | undefined; readonly limit: number },
): Promise<readonly Recommendation[]> {
  const { rows } = await pool.query(
    `select * from recommendation
     where organization_id = $1 and is_current
       and ($2::text is null or kind = $2)
       and ($3::text is null or scope_dimension = $3)
       and ($4::text is null or scope_value = $4)
       and ($5::numeric is null or saving_usd >= $5)
       and ($6 = 'all' or (dismissed_at is null) = ($6 = 'open'))
       and ($7::numeric is null or saving_usd < $7 or (saving_usd = $7 and recommendation_id > $8::uuid))
     order by saving_usd desc, recommendation_id
     limit $9`,
    [
      organizationId,
      filter.kind ?? null,
      filter.scope?.dimension ?? null,
      filter.scope?.value ?? null,
      filter.minSavingUsd ?? null,
      filter.state,
      page.after?.[0] ?? null,
      page.after?.[1] ?? null,
      page.limit,
    ],
  )
  return rows.map(recommendationOf)
}

/** One recommendation, also one that the last run did not find again. */
export async function findRecommendation(
  pool: Pool,
  organizationId: string,
  id: string,
): Promise<Recommendation | undefined> {
  const { rows } = await pool.query(
    'select * from recommendation where organization_id = $1 and recommendation_id = $2',
    [organizationId, id],
  )
  return rows[0] === undefined ? undefined : recommendationOf(rows[0])
}

/** Puts a recommendation aside for good; the first one to do so stands. @returns undefined when there is none */
export async function dismissRecommendation(
  pool: Pool,
  by: { readonly organizationId: string; readonly apiKeyId: string; readonly at: Date },
  id: string,
  reason: string | undefined,
): Promise<Recommendation | undefined> {
  await pool.query(
    `update recommendation set dismissed_at = $3, dismissed_by = $4, dismissed_reason = $5
     where organization_id = $1 and recommendation_id = $2 and dismissed_at is null`,
    [by.organizationId, id, by.at, by.apiKeyId, reason ?? null],
  )
  return findRecommendation(pool, by.organizationId, id)
}

/** Takes a dismissal back. @returns undefined when there is no such recommendation */
export async function reopenRecommendation(
  pool: Pool,
  organizationId: string,
  id: string,
): Promise<Recommendation | undefined> {
  await pool.query(
    `update recommendation set dismissed_at = null, dismissed_by = null, dismissed_reason = null
     where organization_id = $1 and recommendation_id = $2`,
    [organizationId, id],
  )
  return findRecommendation(pool, organizationId, id)
}

/** When an organization's recommendations were computed last. */
export async function lastRunAt(pool: Pool, organizationId: string): Promise<Date | undefined> {
  const { rows } = await pool.query<{ computed_at: Date }>(
    'select computed_at from advice_run where organization_id = $1',
    [organizationId],
  )
  return rows[0]?.computed_at
}
