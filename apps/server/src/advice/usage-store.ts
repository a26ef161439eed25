import {
  ADVICE_SCOPES,
  type AdviceScope,
  CACHE_LIFE_MS,
  CACHE_MIN_TOKENS,
  CACHE_STEP_TOKENS,
  type CallGroup,
  decimal,
  type RepeatedPrompts,
  SMALL_INPUT_TOKENS,
  SMALL_OUTPUT_TOKENS,
  type WastedCalls,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { inOneSnapshot } from '../database/transaction.ts'
import { STANDING } from '../ledger/index.ts'

/** A day of the ledger, summed up as far as rules of advice tell calls apart. */

/** Longest that the sums of one day may take. */
const STATEMENT_TIMEOUT_MS = 120_000
/** The groups with the most tokens of a day; what is beyond is too little to save on. */
const GROUPS_MAX = 5_000

export interface LedgerDay {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
}

/** What of the price book says how calls must be told apart. */
export interface PriceSteps {
  /** Sizes of requests above which some price changes, ascending. */
  readonly inputTokens: readonly number[]
  /** Customers whom a price is for. */
  readonly customers: readonly string[]
  /** Providers that have a price. */
  readonly providers: readonly string[]
}

/** Everything about a day that advice needs. */
export interface DayOfCalls {
  readonly calls: readonly CallGroup[]
  readonly repeated: readonly RepeatedPrompts[]
  readonly wasted: readonly WastedCalls[]
}

/** Reads how the price book tells calls apart. */
export async function readPriceSteps(pool: Pool, organizationId: string): Promise<PriceSteps> {
  const { rows } = await pool.query<{
    steps: string[] | null
    customers: string[] | null
    providers: string[]
  }>(
    `with prices as (
       select * from price_version where organization_id is null or organization_id = $1
     ), steps as (
       select (tier ->> 'aboveInputTokens')::bigint as step
       from prices, jsonb_each(rates) as rate (meter, value),
         jsonb_array_elements(coalesce(value -> 'tiers', '[]')) as tier
       union
       select input_tokens_max from prices where input_tokens_max is not null
     )
     select (select array_agg(step::text order by step) from steps) as steps,
       (select array_agg(distinct customer_id) from prices where customer_id is not null) as customers,
       (select array_agg(distinct provider) from prices) as providers`,
    [organizationId],
  )
  const [row] = rows
  return {
    inputTokens: (row?.steps ?? []).map(Number),
    customers: row?.customers ?? [],
    providers: row?.providers ?? [],
  }
}

/** When an organization's first usage was; undefined: never. */
export async function firstUsageMs(pool: Pool, organizationId: string): Promise<number | undefined> {
  const { rows } = await pool.query<{ ts: Date }>(
    'select ts from usage_event where organization_id = $1 order by ts limit 1',
    [organizationId],
  )
  return rows[0]?.ts.getTime()
}

const CALLS = `event.organization_id = $1 and event.ts >= $2 and event.ts < $3
  and event.status <> 'error' and ${STANDING}`

const SCOPE = `
  case when event.feature is not null then 'feature' when event.team_id is not null then 'team'
    when event.customer_id is not null then 'customer' else 'organization' end as scope,
  coalesce(event.feature, event.team_id, event.customer_id) as scope_value`

const TRAITS = `${SCOPE}, event.provider, event.model, event.response_model, event.operation, event.service_tier,
  event.region, case when event.customer_id = any($5::text[]) then event.customer_id end as customer_id,
  width_bucket(coalesce(event.input_tokens, 0) - 1, $4::bigint[]) as band,
  coalesce(event.input_tokens, 0) <= ${SMALL_INPUT_TOKENS}
    and coalesce(event.output_tokens, 0) <= ${SMALL_OUTPUT_TOKENS} as is_small,
  case
    when event.tags ->> 'waiting' = 'no' then 'tagged'
    when event.tags ->> 'waiting' is not null or event.streamed or event.user_id is not null
      or event.conversation_id is not null or event.time_to_first_token_ms is not null
      or event.feature like '/%' then 'yes'
    else 'guessed'
  end as waiting`
/** What the traits are made of: whole rows would be sorted along. */
const TRAIT_COLUMNS = `event.feature, event.team_id, event.customer_id, event.provider, event.model,
  event.response_model, event.operation, event.service_tier, event.region, event.input_tokens, event.output_tokens,
  event.tags, event.streamed, event.user_id, event.conversation_id, event.time_to_first_token_ms`
const NAMES =
  'scope, scope_value, provider, model, response_model, operation, service_tier, region, customer_id, band, is_small, waiting'

const SUM_CALLS = `
  select ${TRAITS}, count(*)::int as calls,
    count(*) filter (where coalesce(not event.meters ? 'requests', true))::int as requests,
    sum(event.input_tokens)::text as input_tokens, sum(event.cache_read_tokens)::text as cache_read_tokens,
    sum(event.cache_write_tokens)::text as cache_write_tokens, sum(event.output_tokens)::text as output_tokens,
    sum(event.reasoning_tokens)::text as reasoning_tokens
  from usage_event as event
  where ${CALLS}
  group by ${NAMES}
  order by sum(coalesce(event.input_tokens, 0) + coalesce(event.output_tokens, 0)) desc, ${NAMES}
  limit ${GROUPS_MAX}`

// Few calls have further meters: they alone are taken apart.
const SUM_METERS = `
  select ${TRAITS}, meter, sum(value::numeric)::text as quantity
  from usage_event as event, jsonb_each_text(event.meters) as one (meter, value)
  where ${CALLS} and event.meters is not null
  group by ${NAMES}, meter`

// The cache is kept by prompt and model; a day's first prompt counts as new.
const SUM_REPEATED = `
  with seen as (
    select ${TRAIT_COLUMNS},
      floor(greatest(0, event.input_tokens - coalesce(event.cache_read_tokens, 0)
        - coalesce(event.cache_write_tokens, 0)) / ${CACHE_STEP_TOKENS}) * ${CACHE_STEP_TOKENS} as cacheable,
      event.ts - lag(event.ts) over same <= interval '${CACHE_LIFE_MS} ms' as is_repeat,
      lead(event.ts) over same - event.ts <= interval '${CACHE_LIFE_MS} ms' as is_repeated
    from usage_event as event
    where ${CALLS} and event.prompt_hash is not null and event.input_tokens >= ${CACHE_MIN_TOKENS}
      and not coalesce(event.meters ?| array['audio_input_tokens', 'image_input_tokens', 'video_input_tokens'], false)
    window same as (partition by event.provider, event.model, event.prompt_hash order by event.ts, event.event_id)
  )
  select ${TRAITS}, count(*)::int as calls, 0 as requests, sum(cacheable)::text as input_tokens,
    coalesce(sum(cacheable) filter (where is_repeat), 0)::text as repeated_tokens
  from seen as event
  where cacheable > 0 and (is_repeat or is_repeated)
  group by ${NAMES}
  order by sum(cacheable) desc, ${NAMES}
  limit ${GROUPS_MAX}`

// Few calls are tried again: those are looked for first.
const SUM_WASTED = `
  with retried as (
    select event.call_id, max(event.attempt) as last_attempt
    from usage_event as event
    where ${CALLS} and event.call_id is not null and event.attempt > 0
    group by event.call_id
  )
  select ${SCOPE}, event.provider, event.model, count(*)::int as calls,
    sum(event.list_cost_usd + coalesce(late.list_cost_usd, 0))::text as list_cost_usd
  from usage_event as event
  left join retried on retried.call_id = event.call_id
  left join late_rating as late
    on late.organization_id = event.organization_id and late.event_id = event.event_id
  where ${CALLS} and (event.status = 'aborted' or event.attempt < retried.last_attempt)
    and event.list_cost_usd + coalesce(late.list_cost_usd, 0) > 0
  group by 1, 2, 3, 4
  order by sum(event.list_cost_usd) desc, 1, 2, 3, 4
  limit ${GROUPS_MAX}`

const scoped = { scope: z.enum(ADVICE_SCOPES), scope_value: z.string().nullable() }
const traits = z.object({
  ...scoped,
  provider: z.string(),
  model: z.string().nullable(),
  response_model: z.string().nullable(),
  operation: z.string(),
  service_tier: z.string().nullable(),
  region: z.string().nullable(),
  customer_id: z.string().nullable(),
  band: z.number(),
  is_small: z.boolean(),
  waiting: z.enum(['yes', 'guessed', 'tagged']),
})
type Traits = z.output<typeof traits>
const sums = z.object({ calls: z.number(), requests: z.number() })
const TOKENS = [
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
] as const
const tokenSums = z.object({
  input_tokens: z.string().nullish(),
  cache_read_tokens: z.string().nullish(),
  cache_write_tokens: z.string().nullish(),
  output_tokens: z.string().nullish(),
  reasoning_tokens: z.string().nullish(),
})
const callRow = traits.extend(sums.shape).extend(tokenSums.shape)
const meterRow = traits.extend({ meter: z.string(), quantity: z.string() })
const repeatedRow = callRow.extend({ repeated_tokens: z.string() })
const wastedRow = z.object({
  ...scoped,
  provider: z.string(),
  model: z.string().nullable(),
  calls: z.number(),
  list_cost_usd: z.string(),
})

/** Sums up one day, in one snapshot, each statement within its time. */
export function readDay(pool: Pool, day: LedgerDay, steps: PriceSteps): Promise<DayOfCalls> {
  return inOneSnapshot(pool, async (client) => {
    await client.query(`set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`)
    const range = [day.organizationId, new Date(day.startMs), new Date(day.endMs)]
    const parameters = [...range, steps.inputTokens, steps.customers]
    const read = async <Row>(sql: string, row: z.ZodType<Row>, values: readonly unknown[] = parameters) =>
      rowsOf(client, sql, row, values)
    const meters = Map.groupBy(await read(SUM_METERS, meterRow), keyOf)
    const calls = (await read(SUM_CALLS, callRow)).map((row) => {
      const further = (meters.get(keyOf(row)) ?? []).map(({ meter, quantity }) => [meter, Number(quantity)])
      return groupOf(row, steps, { ...Object.fromEntries(further), ...tokensOf(row) })
    })
    const repeated = (await read(SUM_REPEATED, repeatedRow)).map((row) => ({
      group: groupOf(row, steps, tokensOf(row)),
      repeatedTokens: Number(row.repeated_tokens),
    }))
    const wasted = (await read(SUM_WASTED, wastedRow, range)).map((row) => ({
      scope: scopeOf(row),
      provider: row.provider,
      model: row.model,
      calls: row.calls,
      listCostUsd: decimal(row.list_cost_usd),
    }))
    return { calls, repeated, wasted }
  })
}

async function rowsOf<Row>(
  client: PoolClient,
  sql: string,
  row: z.ZodType<Row>,
  parameters: readonly unknown[],
): Promise<Row[]> {
  const { rows } = await client.query(sql, [...parameters])
  return z.array(row).parse(rows)
}

function groupOf(
  row: z.output<typeof callRow>,
  steps: PriceSteps,
  quantities: Record<string, number>,
): CallGroup {
  return {
    scope: scopeOf(row),
    provider: row.provider,
    operation: row.operation,
    inputTokens: (steps.inputTokens[row.band - 1] ?? 0) + 1,
    isSmall: row.is_small,
    waiting: row.waiting,
    calls: row.calls,
    requests: row.requests,
    quantities,
    ...(row.model !== null && { model: row.model }),
    ...(row.response_model !== null && { responseModel: row.response_model }),
    ...(row.service_tier !== null && { serviceTier: row.service_tier }),
    ...(row.region !== null && { region: row.region }),
    ...(row.customer_id !== null && { customer: row.customer_id }),
  }
}

function scopeOf(row: Pick<Traits, 'scope' | 'scope_value'>): AdviceScope {
  return { dimension: row.scope, value: row.scope_value }
}

function tokensOf(row: z.output<typeof tokenSums>): Record<string, number> {
  return Object.fromEntries(
    TOKENS.flatMap((meter) => {
      const text = row[meter]
      return text === undefined || text === null ? [] : [[meter, Number(text)]]
    }),
  )
}

function keyOf(row: Traits): string {
  return JSON.stringify([
    row.scope,
    row.scope_value,
    row.provider,
    row.model,
    row.response_model,
    row.operation,
    row.service_tier,
    row.region,
    row.customer_id,
    row.band,
    row.is_small,
    row.waiting,
  ])
}
