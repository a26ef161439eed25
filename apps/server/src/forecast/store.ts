import type { Contestant, ForecastMethod, KnownForecast, SeriesForecast } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { Basis } from './history.ts'

/** Whose spending: a scope as text (`team:engineering`), by list or sell costs. */
export interface Subject {
  readonly organizationId: string
  readonly scope: string
  readonly basis: Basis
}

const METHODS = ['none', 'average', 'daily', 'combined', 'seasonal_naive', 'arima', 'auto_arima'] as const
export const methodSchema = z.enum(METHODS) satisfies z.ZodType<ForecastMethod>
const contestSchema = z.array(z.object({ method: methodSchema, error: z.number().nullable() }))
const spreadSchema = z.object({ half80: z.number(), half95: z.number(), power: z.number() })
const rowSchema = z.object({
  scope: z.string(),
  basis: z.enum(['list', 'sell']),
  starts_at: z.date(),
  method: methodSchema,
  contest: contestSchema,
  contest_at: z.date(),
  history_hours: z.number(),
  days: z.array(z.number()),
  sums: spreadSchema,
})

/** The last forecast of a subject. */
export interface StoredForecast extends KnownForecast {
  readonly scope: string
  readonly basis: Basis
  readonly contest: readonly Contestant[]
  readonly contestAt: Date
  readonly historyHours: number
}

/** The last forecasts of an organization, or of some of its scopes. */
export async function readForecasts(
  pool: Pool,
  organizationId: string,
  scopes?: readonly string[],
): Promise<readonly StoredForecast[]> {
  const { rows } = await pool.query(
    `select scope, basis, starts_at, method, contest, contest_at, history_hours, days, sums
     from forecast
     where organization_id = $1 and ($2::text[] is null or scope = any($2))`,
    [organizationId, scopes ?? null],
  )
  return rows.map((row) => {
    const { starts_at, contest_at, history_hours, ...rest } = rowSchema.parse(row)
    return { ...rest, startMs: starts_at.getTime(), contestAt: contest_at, historyHours: history_hours }
  })
}

/** What a forecast says of one span, to be scored. US dollars. */
export interface Expectation {
  readonly target: 'day' | 'week' | 'month_end'
  readonly startMs: number
  readonly endMs: number
  readonly meanUsd: number
  readonly half80Usd: number
  readonly half95Usd: number
  /** What the seasonal-naive baseline says. */
  readonly naiveUsd: number
}

/** Keeps a forecast, and what it expects. A second forecast of the same hour changes no expectation. */
export async function writeForecast(
  pool: Pool,
  { organizationId, scope, basis }: Subject,
  {
    forecast,
    startMs,
    madeAt,
    contestAt,
    days,
    expectations,
  }: {
    readonly forecast: SeriesForecast
    readonly startMs: number
    readonly madeAt: Date
    readonly contestAt: Date
    readonly days: readonly number[]
    readonly expectations: readonly Expectation[]
  },
): Promise<void> {
  await pool.query(
    `insert into forecast (organization_id, scope, basis, starts_at, made_at, method, why, contest, contest_at,
       history_hours, days, sums)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
     on conflict (organization_id, scope, basis) do update
       set starts_at = excluded.starts_at, made_at = excluded.made_at, method = excluded.method,
         why = excluded.why, contest = excluded.contest, contest_at = excluded.contest_at,
         history_hours = excluded.history_hours, days = excluded.days, sums = excluded.sums
       where forecast.starts_at <= excluded.starts_at`,
    [
      organizationId,
      scope,
      basis,
      new Date(startMs),
      madeAt,
      forecast.method,
      forecast.why,
      JSON.stringify(forecast.contest),
      contestAt,
      forecast.historyHours,
      days,
      JSON.stringify(forecast.sums),
    ],
  )
  if (expectations.length === 0) return
  await pool.query(
    `insert into forecast_score (organization_id, scope, basis, starts_at, method, target, ends_at, mean_usd,
       lo80_usd, hi80_usd, lo95_usd, hi95_usd, naive_usd)
     select $1, $2, $3, $4, $5, expected.target, expected.ends_at, mean, greatest(0, mean - half80), mean + half80,
       greatest(0, mean - half95), mean + half95, naive
     from unnest($6::text[], $7::timestamptz[], $8::float8[], $9::float8[], $10::float8[], $11::float8[])
       as expected (target, ends_at, mean, half80, half95, naive)
     on conflict do nothing`,
    [
      organizationId,
      scope,
      basis,
      new Date(startMs),
      forecast.method,
      expectations.map(({ target }) => target),
      expectations.map(({ endMs }) => new Date(endMs)),
      expectations.map(({ meanUsd }) => meanUsd),
      expectations.map(({ half80Usd }) => half80Usd),
      expectations.map(({ half95Usd }) => half95Usd),
      expectations.map(({ naiveUsd }) => naiveUsd),
    ],
  )
}

/** Expectations are kept this long; an accuracy is one of recent months. */
const KEEP_SCORES_DAYS = 100
/** Late events are waited for, then what came is the truth. */
const WAIT = '1 day'

/**
 * Scores what ended at least a day ago with the kept history, which `refreshHistory` has brought up to date.
 * The last three days of the history are summed up again each hour, so the wait is inside of what is fresh.
 *
 * @returns how many were scored
 */
export async function scoreForecasts(pool: Pool, organizationId: string, now: Date): Promise<number> {
  const { rowCount } = await pool.query(
    `with due as (
       select scope, basis, target, starts_at, ends_at
       from forecast_score
       where organization_id = $1 and scored_at is null and ends_at <= $2::timestamptz - interval '${WAIT}'
         and exists (
           select from forecast_history as history
           where history.organization_id = $1 and history.scope = forecast_score.scope
             and history.day > (forecast_score.ends_at at time zone 'UTC')::date
         )
       order by ends_at
       limit 2000
     ), hours as (
       select due.scope, due.basis, due.target, due.starts_at,
         coalesce(sum(case due.basis when 'list' then hour.list_usd else hour.sell_usd end), 0) as actual
       from due
       left join lateral (
         select spent.list_usd, spent.sell_usd
         from forecast_history as history
         cross join lateral unnest(history.list_usd, history.sell_usd) with ordinality
           as spent (list_usd, sell_usd, hour)
         where history.organization_id = $1 and history.scope = due.scope
           and history.day between (due.starts_at at time zone 'UTC')::date and (due.ends_at at time zone 'UTC')::date
           and (history.day + (spent.hour - 1) * interval '1 hour') at time zone 'UTC' >= due.starts_at
           and (history.day + (spent.hour - 1) * interval '1 hour') at time zone 'UTC' < due.ends_at
       ) as hour on true
       group by 1, 2, 3, 4
     )
     update forecast_score as score
     set actual_usd = hours.actual, scored_at = $2
     from hours
     where score.organization_id = $1 and score.scope = hours.scope and score.basis = hours.basis
       and score.target = hours.target and score.starts_at = hours.starts_at and score.scored_at is null`,
    [organizationId, now],
  )
  await pool.query(
    `delete from forecast_score where organization_id = $1 and starts_at < $2::timestamptz - interval '${KEEP_SCORES_DAYS} days'`,
    [organizationId, now],
  )
  return rowCount ?? 0
}

/** Accuracy of one target. */
export interface Accuracy {
  readonly target: string
  readonly scored: number
  readonly waiting: number
  /** Sums over all that was scored, US dollars. */
  readonly wrongUsd: number
  readonly naiveWrongUsd: number
  readonly biasUsd: number
  readonly actualUsd: number
  readonly inside80: number
  readonly inside95: number
}

const accuracySchema = z.object({
  target: z.string(),
  scored: z.number(),
  waiting: z.number(),
  wrongUsd: z.number(),
  naiveWrongUsd: z.number(),
  biasUsd: z.number(),
  actualUsd: z.number(),
  inside80: z.number(),
  inside95: z.number(),
})

/** How good forecasts of a subject were, by what they forecast. */
export async function readAccuracy(
  pool: Pool,
  { organizationId, scope, basis }: Subject,
): Promise<readonly Accuracy[]> {
  const { rows } = await pool.query(
    `select target,
       (count(*) filter (where scored_at is not null))::integer as scored,
       (count(*) filter (where scored_at is null))::integer as waiting,
       coalesce(sum(abs(mean_usd - actual_usd)), 0) as "wrongUsd",
       coalesce(sum(abs(naive_usd - actual_usd)), 0) as "naiveWrongUsd",
       coalesce(sum(mean_usd - actual_usd), 0) as "biasUsd",
       coalesce(sum(actual_usd), 0) as "actualUsd",
       (count(*) filter (where actual_usd between lo80_usd and hi80_usd))::integer as "inside80",
       (count(*) filter (where actual_usd between lo95_usd and hi95_usd))::integer as "inside95"
     from forecast_score
     where organization_id = $1 and scope = $2 and basis = $3
     group by target
     order by target`,
    [organizationId, scope, basis],
  )
  return z.array(accuracySchema).parse(rows)
}
