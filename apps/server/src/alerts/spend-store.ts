import { type BudgetScope, HISTORY_HOURS, HOUR_MS } from '@tokentally/core'
import type { Pool } from 'pg'

/** The dimensions that unusual spending is looked for in, with their columns; the organization as a whole comes on top. */
const COLUMNS = {
  customer: 'customer_id',
  team: 'team_id',
  feature: 'feature',
  model: 'model',
} as const

type WatchedDimension = keyof typeof COLUMNS

/** What a scope spent in an hour: list cost, US dollars. */
export interface HourOfScope {
  readonly scope: BudgetScope
  readonly hourMs: number
  /** Exact decimal text. */
  readonly spentUsd: string
}

interface HourRow {
  readonly dimension: WatchedDimension | 'organization'
  readonly value: string | null
  readonly hour: Date
  readonly spent: string
}

const HOUR = "date_bin('1 hour', bucket, '2020-01-01T00:00:00Z')"

const SPENT = `
  with hours as (
    select ${HOUR} as hour, customer_id, team_id, feature, model, list_cost_usd
    from usage_rollup
    join dimension_set using (organization_id, dimension_set_id)
    where organization_id = $1 and grain_minutes = 15 and bucket >= $2 and bucket < $3
  ), scopes as (
    select
      case grouping(customer_id, team_id, feature, model)
        when 7 then 'customer' when 11 then 'team' when 13 then 'feature' when 14 then 'model'
        else 'organization'
      end as dimension,
      coalesce(customer_id, team_id, feature, model) as value,
      hour,
      sum(list_cost_usd) as spent
    from hours
    group by grouping sets ((hour), (hour, customer_id), (hour, team_id), (hour, feature), (hour, model))
  )
  select dimension, value, hour, spent::text
  from scopes
  where spent >= $4 and (dimension = 'organization') = (value is null)
  order by scopes.spent desc, dimension, value
  limit $5`

/** The scopes that spent most in the hours of a range, each with at least `minUsd` in an hour. */
export async function listSpending(
  pool: Pool,
  request: {
    readonly organizationId: string
    readonly fromMs: number
    readonly toMs: number
    readonly minUsd: string
    readonly limit: number
  },
): Promise<readonly HourOfScope[]> {
  const { rows } = await pool.query<HourRow>(SPENT, [
    request.organizationId,
    new Date(request.fromMs),
    new Date(request.toMs),
    request.minUsd,
    request.limit,
  ])
  return rows.map((row) => ({
    scope: { dimension: row.dimension, value: row.value },
    hourMs: row.hour.getTime(),
    spentUsd: row.spent,
  }))
}

/**
 * What a scope spent in every hour before one, oldest first, from its first hour of the last eight weeks on.
 * Numbers: for statistics alone.
 */
export async function spendingHistory(
  pool: Pool,
  organizationId: string,
  { dimension, value }: BudgetScope,
  beforeMs: number,
): Promise<readonly number[]> {
  const column = isWatched(dimension) ? COLUMNS[dimension] : undefined
  const { rows } = await pool.query<{ hour: Date; spent: number }>(
    `select ${HOUR} as hour, sum(list_cost_usd)::float8 as spent
     from usage_rollup
     ${column === undefined ? '' : 'join dimension_set using (organization_id, dimension_set_id)'}
     where organization_id = $1 and grain_minutes = 15 and bucket >= $2 and bucket < $3
       and ${column === undefined ? '$4::text is null' : `${column} = $4`}
     group by 1
     order by 1`,
    [organizationId, new Date(beforeMs - HISTORY_HOURS * HOUR_MS), new Date(beforeMs), value],
  )
  const [first] = rows
  if (first === undefined) return []
  const history = new Array<number>(Math.round((beforeMs - first.hour.getTime()) / HOUR_MS)).fill(0)
  for (const { hour, spent } of rows) {
    history[Math.round((hour.getTime() - first.hour.getTime()) / HOUR_MS)] = spent
  }
  return history
}

function isWatched(dimension: string): dimension is WatchedDimension {
  return Object.hasOwn(COLUMNS, dimension)
}
