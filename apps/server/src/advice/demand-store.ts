import {
  catalogueProvider,
  comparableModel,
  type Demand,
  decimal,
  type WeeksOfDemand,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'

/** What was asked of providers, from the sums of quarters of an hour. */

const STRETCH_MINUTES = 15
const DAY_MS = 24 * 3_600_000
const WEEK_MS = 7 * DAY_MS
/** A quarter of a year: older traffic says little about what to buy. */
const WEEKS_MAX = 13

/** Calls by provider and model, as the calls name them. */
interface Named {
  readonly provider: string
  readonly model: string | null
}

/** A history and how many calls it is made of. */
export interface DemandHistory extends WeeksOfDemand {
  readonly endMs: number
  readonly requests: number
  readonly calledAs: readonly Named[]
}

const rowSchema = z.object({
  bucket: z.date(),
  requests: z.coerce.number(),
  input_tokens: z.coerce.number(),
  cache_read_tokens: z.coerce.number(),
  output_tokens: z.coerce.number(),
  list_cost_usd: z.string(),
})

/**
 * The demand for a model at a provider over the last whole weeks, up to the end of yesterday (UTC): from its first call,
 * at most 13 weeks.
 *
 * @param model undefined: all models of the provider
 */
export async function readDemand(
  pool: Pool,
  organizationId: string,
  wanted: { readonly provider: string; readonly model?: string },
  nowMs: number,
): Promise<DemandHistory> {
  const endMs = Math.floor(nowMs / DAY_MS) * DAY_MS
  const calledAs = (await namedCalls(pool, organizationId)).filter(
    ({ provider, model }) =>
      catalogueProvider(provider) === catalogueProvider(wanted.provider) &&
      (wanted.model === undefined || comparableModel(model ?? '') === comparableModel(wanted.model)),
  )
  const { rows } = await pool.query(
    `select bucket, sum(requests)::text as requests, greatest(0, sum(input_tokens))::text as input_tokens,
       greatest(0, sum(cache_read_tokens))::text as cache_read_tokens,
       greatest(0, sum(output_tokens))::text as output_tokens, greatest(0, sum(list_cost_usd))::text as list_cost_usd
     from usage_rollup
     join dimension_set using (organization_id, dimension_set_id)
     where organization_id = $1 and grain_minutes = ${STRETCH_MINUTES} and bucket >= $2 and bucket < $3
       and (provider, coalesce(model, '')) in (select * from unnest($4::text[], $5::text[]))
     group by bucket
     order by bucket`,
    [
      organizationId,
      new Date(endMs - WEEKS_MAX * WEEK_MS),
      new Date(endMs),
      calledAs.map(({ provider }) => provider),
      calledAs.map(({ model }) => model ?? ''),
    ],
  )
  const found = z.array(rowSchema).parse(rows)
  const first = found[0]?.bucket.getTime() ?? endMs
  const weeks = Math.floor((endMs - Math.floor(first / DAY_MS) * DAY_MS) / WEEK_MS)
  const startMs = endMs - weeks * WEEK_MS
  const within = found.filter(({ bucket }) => bucket.getTime() >= startMs)
  return {
    startMs,
    endMs,
    weeks,
    stretchMinutes: STRETCH_MINUTES,
    calledAs,
    requests: within.reduce((sum, { requests }) => sum + requests, 0),
    demands: within.map(
      (row): Demand => ({
        startMs: row.bucket.getTime(),
        inputTokens: row.input_tokens,
        cachedTokens: Math.min(row.cache_read_tokens, row.input_tokens),
        outputTokens: row.output_tokens,
        onDemandUsd: decimal(row.list_cost_usd),
      }),
    ),
  }
}

async function namedCalls(pool: Pool, organizationId: string): Promise<readonly Named[]> {
  const { rows } = await pool.query<Named>(
    'select distinct provider, model from dimension_set where organization_id = $1',
    [organizationId],
  )
  return rows
}
