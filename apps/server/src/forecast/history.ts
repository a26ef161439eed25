import { type BudgetScope, HOUR_MS, scopeText } from '@tokentally/core'
import type { Pool } from 'pg'
import { aggregate, dimensionOf } from '../reports/index.ts'

/** What scopes spent by the hour, kept so that each forecast reads little of the ledger. */

export type Basis = 'list' | 'sell'

const DAY_MS = 24 * HOUR_MS
/** How far back forecasts look. */
export const HISTORY_DAYS = 90
/** Days that are summed up again each time: events come late. */
const REFRESHED_DAYS = 3
/** Sums that one query may give, so that reading them never holds up the process for long. */
const CELLS_MAX = 4_000

const KNOWN = `
  select scope, max(day)::text as day
  from forecast_history
  where organization_id = $1 and scope = any($2)
  group by scope`

/** Brings the kept history of scopes of one dimension up to date. All of it is summed up only the first time. */
export async function refreshHistory(
  pool: Pool,
  organizationId: string,
  scopes: readonly BudgetScope[],
  nowMs: number,
): Promise<void> {
  const today = Math.floor(nowMs / DAY_MS) * DAY_MS
  for (const [dimension, own] of Map.groupBy(scopes, (scope) => scope.dimension)) {
    const { rows } = await pool.query<{ scope: string; day: string }>(KNOWN, [
      organizationId,
      own.map(scopeText),
    ])
    const known = new Map(rows.map(({ scope, day }) => [scope, Date.parse(`${day}T00:00:00Z`)]))
    const byStart = Map.groupBy(own, (scope) => {
      const last = known.get(scopeText(scope))
      const earliest = today - HISTORY_DAYS * DAY_MS
      return last === undefined ? earliest : Math.max(earliest, last - (REFRESHED_DAYS - 1) * DAY_MS)
    })
    for (const [startMs, group] of byStart) {
      await copyHistory(pool, {
        organizationId,
        dimension,
        scopes: group,
        startMs,
        endMs: today + DAY_MS,
        isKnown: group.some((scope) => known.has(scopeText(scope))),
      })
    }
  }
}

interface Copy {
  readonly organizationId: string
  readonly dimension: BudgetScope['dimension']
  readonly scopes: readonly BudgetScope[]
  /** UTC midnights. */
  readonly startMs: number
  readonly endMs: number
  /** Whether there is history of them already. */
  readonly isKnown: boolean
}

async function copyHistory(pool: Pool, { scopes, startMs, endMs, ...rest }: Copy): Promise<void> {
  const days = (endMs - startMs) / DAY_MS
  const atOnce = Math.max(1, Math.floor(CELLS_MAX / 24 / days))
  const daysAtOnce = Math.min(days, Math.floor(CELLS_MAX / 24))
  for (let first = 0; first < scopes.length; first += atOnce) {
    const some = scopes.slice(first, first + atOnce)
    for (let fromMs = startMs; fromMs < endMs; fromMs += daysAtOnce * DAY_MS) {
      const toMs = Math.min(endMs, fromMs + daysAtOnce * DAY_MS)
      await writeDays(
        pool,
        rest.organizationId,
        await sumsByDay(pool, { ...rest, scopes: some, startMs: fromMs, endMs: toMs }),
      )
    }
  }
}

interface DayOfScope {
  readonly scope: string
  readonly dayMs: number
  readonly list: number[]
  readonly sell: number[]
}

async function sumsByDay(
  pool: Pool,
  { organizationId, dimension, scopes, startMs, endMs, isKnown }: Copy,
): Promise<readonly DayOfScope[]> {
  const reported = dimension === 'organization' ? undefined : dimensionOf(dimension)
  const values = scopes.flatMap(({ value }) => value ?? [])
  const { groups } = await aggregate(pool, {
    organizationId,
    startMs,
    endMs,
    groupBy: reported === undefined ? [] : [reported],
    granularity: 'hour',
    timeZone: 'UTC',
    filters: reported === undefined ? [] : [{ dimension: reported, values }],
    withTotals: false,
  })
  // Days without spending are written, too, of scopes that have any: an event may have been taken back. Names that
  // nobody ever spent under leave nothing behind, however many are asked for.
  const byKey = new Map<string, DayOfScope>()
  for (const scope of scopes.map(scopeText)) {
    for (let dayMs = startMs; dayMs < endMs; dayMs += DAY_MS) {
      byKey.set(`${dayMs} ${scope}`, { scope, dayMs, list: zeros(), sell: zeros() })
    }
  }
  for (const { keys, list_cost, total_cost } of groups) {
    const hourMs = Date.parse(keys['bucket'] ?? '')
    const value = reported === undefined ? null : (keys[reported.name] ?? null)
    const dayMs = Math.floor(hourMs / DAY_MS) * DAY_MS
    const day = byKey.get(`${dayMs} ${scopeText({ dimension, value })}`)
    if (day === undefined) continue
    day.list[(hourMs - dayMs) / HOUR_MS] = Number(list_cost)
    day.sell[(hourMs - dayMs) / HOUR_MS] = Number(total_cost)
  }
  const spending = new Set(
    [...byKey.values()]
      .filter(({ list, sell }) => [...list, ...sell].some((usd) => usd !== 0))
      .map(({ scope }) => scope),
  )
  return [...byKey.values()].filter(({ scope }) => isKnown || spending.has(scope))
}

const zeros = () => new Array<number>(24).fill(0)

async function writeDays(pool: Pool, organizationId: string, days: readonly DayOfScope[]): Promise<void> {
  // Arrays travel as text: unnest would flatten arrays of arrays.
  await pool.query(
    `insert into forecast_history (organization_id, scope, day, list_usd, sell_usd)
     select $1, given.scope, given.day, given.list::float8[], given.sell::float8[]
     from unnest($2::text[], $3::date[], $4::text[], $5::text[]) as given (scope, day, list, sell)
     on conflict (organization_id, scope, day) do update
       set list_usd = excluded.list_usd, sell_usd = excluded.sell_usd`,
    [
      organizationId,
      days.map(({ scope }) => scope),
      days.map(({ dayMs }) => new Date(dayMs).toISOString().slice(0, 10)),
      days.map(({ list }) => `{${list.join(',')}}`),
      days.map(({ sell }) => `{${sell.join(',')}}`),
    ],
  )
}

/** What a scope spent in every hour of `[startMs, endMs)`, from the kept history. */
export async function readHistory(
  pool: Pool,
  { organizationId, scope, basis }: { organizationId: string; scope: string; basis: Basis },
  startMs: number,
  endMs: number,
): Promise<Float64Array> {
  const { rows } = await pool.query<{ day: string; hours: number[] }>(
    `select day::text, ${basis === 'list' ? 'list_usd' : 'sell_usd'} as hours
     from forecast_history
     where organization_id = $1 and scope = $2 and day >= $3 and day <= $4
     order by day`,
    [
      organizationId,
      scope,
      new Date(startMs).toISOString().slice(0, 10),
      new Date(endMs).toISOString().slice(0, 10),
    ],
  )
  const hours = new Float64Array(Math.max(0, Math.floor((endMs - startMs) / HOUR_MS)))
  for (const row of rows) {
    const offset = Math.round((Date.parse(`${row.day}T00:00:00Z`) - startMs) / HOUR_MS)
    row.hours.forEach((value, hour) => {
      if (offset + hour >= 0 && offset + hour < hours.length) hours[offset + hour] = value
    })
  }
  return hours
}

/** Forgets what no forecast looks at any more. */
export async function trimHistory(pool: Pool, organizationId: string, nowMs: number): Promise<void> {
  const oldest = new Date(nowMs - (HISTORY_DAYS + 1) * DAY_MS).toISOString().slice(0, 10)
  await pool.query('delete from forecast_history where organization_id = $1 and day < $2', [
    organizationId,
    oldest,
  ])
}
