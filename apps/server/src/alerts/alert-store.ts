import { type AlertKind, type AlertState, statesBefore } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { type Alert, type AlertCandidate, alertDetailsSchema } from './alert.ts'

interface AlertRow {
  readonly organization_id: string
  readonly alert_id: string
  readonly subject_key: string
  readonly period_start: Date
  readonly period_end: Date
  readonly threshold: string
  readonly state: AlertState
  readonly budget_id: string | null
  readonly fired_at: Date
  readonly acknowledged_at: Date | null
  readonly acknowledged_by: string | null
  readonly snoozed_until: Date | null
  readonly resolved_at: Date | null
  readonly details: unknown
}

function alertOf(row: AlertRow): Alert {
  return {
    organizationId: row.organization_id,
    id: row.alert_id,
    subjectKey: row.subject_key,
    period: { startMs: row.period_start.getTime(), endMs: row.period_end.getTime() },
    threshold: Number(row.threshold),
    budgetId: row.budget_id,
    details: alertDetailsSchema.parse(row.details),
    state: row.state,
    firedAt: row.fired_at,
    acknowledgedAt: row.acknowledged_at,
    acknowledgedBy: row.acknowledged_by,
    snoozedUntil: row.snoozed_until,
    resolvedAt: row.resolved_at,
  }
}

/** Columns of the candidates as arrays, for `unnest`. */
function columnsOf(candidates: readonly AlertCandidate[]) {
  return [
    candidates.map(({ details }) => details.kind),
    candidates.map(({ subjectKey }) => subjectKey),
    candidates.map(({ period }) => new Date(period.startMs)),
    candidates.map(({ threshold }) => String(threshold)),
  ]
}

const NOT_FIRED = `
  select candidate.position::integer as position
  from unnest($2::text[], $3::text[], $4::timestamptz[], $5::numeric[]) with ordinality
    as candidate (kind, subject_key, period_start, threshold, position)
  where not exists (
    select from alert
    where alert.organization_id = $1 and alert.kind = candidate.kind
      and alert.subject_key = candidate.subject_key and alert.period_start = candidate.period_start
      and alert.threshold = candidate.threshold
  )`

/** Those of an organization's candidates that have not fired: a hint that saves writing; the key decides. */
export async function withoutFired<Candidate extends AlertCandidate>(
  pool: Pool,
  organizationId: string,
  candidates: readonly Candidate[],
): Promise<readonly Candidate[]> {
  if (candidates.length === 0) return []
  const { rows } = await pool.query<{ position: number }>(NOT_FIRED, [
    organizationId,
    ...columnsOf(candidates),
  ])
  const open = new Set(rows.map(({ position }) => position - 1))
  return candidates.filter((_, index) => open.has(index))
}

const INSERT = `
  insert into alert (organization_id, kind, subject_key, period_start, threshold, alert_id, period_end, budget_id,
    details, state, fired_at)
  select $1, candidate.*, 'fired', $10
  from unnest($2::text[], $3::text[], $4::timestamptz[], $5::numeric[], $6::uuid[], $7::timestamptz[], $8::text[],
    $9::jsonb[]) as candidate
  on conflict on constraint alert_once do nothing
  returning *`

/** Writes those candidates that have not fired yet. @returns them, by id */
export async function insertAlerts(
  client: PoolClient,
  organizationId: string,
  candidates: readonly (AlertCandidate & { readonly id: string })[],
  now: Date,
): Promise<ReadonlyMap<string, Alert>> {
  const { rows } = await client.query<AlertRow>(INSERT, [
    organizationId,
    ...columnsOf(candidates),
    candidates.map(({ id }) => id),
    candidates.map(({ period }) => new Date(period.endMs)),
    candidates.map(({ budgetId }) => budgetId),
    candidates.map(({ details }) => JSON.stringify(details)),
    now,
  ])
  return new Map(rows.map((row) => [row.alert_id, alertOf(row)]))
}

/** Ends what has no more to act on. @returns how many */
export async function resolveEnded(pool: Pool, now: Date): Promise<number> {
  const { rowCount } = await pool.query(
    `update alert set state = 'resolved', resolved_at = $1, snoozed_until = null
     where state <> 'resolved' and period_end <= $1`,
    [now],
  )
  return rowCount ?? 0
}

/** Brings back what was snoozed until now. Those that another process brings back are left to it. */
export async function wakeSnoozed(
  client: PoolClient,
  now: Date,
): Promise<readonly { readonly alert: Alert; readonly snoozedUntil: Date }[]> {
  const { rows } = await client.query<AlertRow & { readonly woken_at: Date }>(
    `with due as (
       select organization_id, alert_id, snoozed_until as woken_at from alert
       where state = 'snoozed' and snoozed_until <= $1
       order by snoozed_until
       limit 500
       for update skip locked
     )
     update alert set state = 'fired', snoozed_until = null
     from due
     where alert.organization_id = due.organization_id and alert.alert_id = due.alert_id
     returning alert.*, due.woken_at`,
    [now],
  )
  return rows.map((row) => ({ alert: alertOf(row), snoozedUntil: row.woken_at }))
}

export interface AlertQuery {
  readonly organizationId: string
  readonly state: AlertState | undefined
  readonly kind: AlertKind | undefined
  readonly budgetId: string | undefined
  readonly limit: number
  readonly after: AlertPosition | undefined
}

/** Where a page ended. */
export interface AlertPosition {
  readonly firedAt: Date
  readonly id: string
}

/** Alerts, newest first. */
export async function listAlerts(pool: Pool, query: AlertQuery): Promise<readonly Alert[]> {
  const { rows } = await pool.query<AlertRow>(
    `select * from alert
     where organization_id = $1
       and ($2::text is null or state = $2)
       and ($3::text is null or kind = $3)
       and ($4::text is null or budget_id = $4)
       and ($5::timestamptz is null or (fired_at, alert_id) < ($5, $6::uuid))
     order by fired_at desc, alert_id desc
     limit $7`,
    [
      query.organizationId,
      query.state ?? null,
      query.kind ?? null,
      query.budgetId ?? null,
      query.after?.firedAt ?? null,
      query.after?.id ?? null,
      query.limit,
    ],
  )
  return rows.map(alertOf)
}

export async function findAlert(pool: Pool, organizationId: string, id: string): Promise<Alert | undefined> {
  const { rows } = await pool.query<AlertRow>(
    'select * from alert where organization_id = $1 and alert_id = $2',
    [organizationId, id],
  )
  return rows[0] === undefined ? undefined : alertOf(rows[0])
}

export interface Acknowledgement {
  readonly organizationId: string
  readonly by: string
  readonly at: Date
}

/** Acknowledges alerts that are not resolved. @returns those that are acknowledged now, whoever did it first */
export async function acknowledgeAlerts(
  pool: Pool,
  { organizationId, by, at }: Acknowledgement,
  which: { readonly alertIds: readonly string[] } | { readonly budgetId: string },
): Promise<readonly string[]> {
  const [condition, value] =
    'alertIds' in which ? ['alert_id = any($4::uuid[])', which.alertIds] : ['budget_id = $4', which.budgetId]
  const { rows } = await pool.query<{ alert_id: string }>(
    `with acknowledged as (
       update alert set state = 'acknowledged', snoozed_until = null,
         acknowledged_at = coalesce(acknowledged_at, $2), acknowledged_by = coalesce(acknowledged_by, $3)
       where organization_id = $1 and state = any($5) and period_end > $2 and ${condition}
       returning alert_id
     )
     select alert_id from acknowledged order by alert_id`,
    [organizationId, at, by, value, statesBefore('acknowledged')],
  )
  return rows.map((row) => row.alert_id)
}

/** Puts an alert off. @returns undefined when it is in a state that cannot be, or not there */
export async function snoozeAlert(
  pool: Pool,
  { organizationId, id, until, now }: { organizationId: string; id: string; until: Date; now: Date },
): Promise<Alert | undefined> {
  const { rows } = await pool.query<AlertRow>(
    `update alert set state = 'snoozed', snoozed_until = $3
     where organization_id = $1 and alert_id = $2 and state = any($5) and period_end > $4
     returning *`,
    [organizationId, id, until, now, statesBefore('snoozed')],
  )
  return rows[0] === undefined ? undefined : alertOf(rows[0])
}
