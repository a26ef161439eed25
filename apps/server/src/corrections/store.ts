import type { CorrectionSums } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { type RatedEventRow, SELECT_RATED_EVENTS, STANDING } from '../ledger/index.ts'
import { filterConditions, SqlParameters } from '../reports/index.ts'
import type { Change, CorrectionRequest, Selection } from './request.ts'

/** A correction that was applied. */
export interface Correction {
  readonly id: string
  readonly reason: string
  /** The API key that asked for it. */
  readonly apiKeyId: string
  readonly select: CorrectionRequest['select']
  readonly change: Change
  readonly createdAt: Date
  /** Events that were taken back. */
  readonly events: number
  /** Events that stand in for them. */
  readonly replacements: number
  /** Events of the selection that the change left as they were. */
  readonly unchanged: number
  readonly before: CorrectionSums
  readonly after: CorrectionSums
}

interface CorrectionRow {
  readonly correction_id: string
  readonly reason: string
  readonly api_key_id: string
  readonly selection: CorrectionRequest['select']
  readonly change: Change
  readonly request_hash: Buffer
  readonly created_at: Date
  readonly event_count: number
  readonly replacement_count: number
  readonly unchanged_count: number
  readonly before: CorrectionSums
  readonly after: CorrectionSums
}

const COLUMNS = `correction_id, reason, api_key_id, selection, change, request_hash, created_at, event_count,
  replacement_count, unchanged_count, before, after`

function correctionOf(row: CorrectionRow): Correction {
  return {
    id: row.correction_id,
    reason: row.reason,
    apiKeyId: row.api_key_id,
    select: row.selection,
    change: row.change,
    createdAt: row.created_at,
    events: row.event_count,
    replacements: row.replacement_count,
    unchanged: row.unchanged_count,
    before: row.before,
    after: row.after,
  }
}

/** One correction with the hash of its request; undefined when there is none of this id. */
export async function findCorrection(
  database: Pool | PoolClient,
  organizationId: string,
  correctionId: string,
): Promise<{ readonly correction: Correction; readonly requestHash: Buffer } | undefined> {
  const { rows } = await database.query<CorrectionRow>(
    `select ${COLUMNS} from correction where organization_id = $1 and correction_id = $2`,
    [organizationId, correctionId],
  )
  const [row] = rows
  return row === undefined ? undefined : { correction: correctionOf(row), requestHash: row.request_hash }
}

/** Where a page of corrections ended. */
export interface CorrectionPosition {
  readonly createdAtMs: number
  readonly id: string
}

/** Corrections, newest first. */
export async function listCorrections(
  pool: Pool,
  request: {
    readonly organizationId: string
    readonly limit: number
    readonly after: CorrectionPosition | undefined
  },
): Promise<readonly Correction[]> {
  const { organizationId, limit, after } = request
  const { rows } = await pool.query<CorrectionRow>(
    `select ${COLUMNS} from correction
     where organization_id = $1
       and ($2::timestamptz is null or (created_at, correction_id) < ($2, $3::uuid))
     order by created_at desc, correction_id desc
     limit $4`,
    [organizationId, after === undefined ? null : new Date(after.createdAtMs), after?.id ?? null, limit],
  )
  return rows.map(correctionOf)
}

/** Notes a correction, within its transaction. */
export async function insertCorrection(
  client: PoolClient,
  organizationId: string,
  correction: Correction,
  requestHash: Buffer,
): Promise<void> {
  await client.query(
    `insert into correction (organization_id, ${COLUMNS})
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
    [
      organizationId,
      correction.id,
      correction.reason,
      correction.apiKeyId,
      JSON.stringify(correction.select),
      JSON.stringify(correction.change),
      requestHash,
      correction.createdAt,
      correction.events,
      correction.replacements,
      correction.unchanged,
      JSON.stringify(correction.before),
      JSON.stringify(correction.after),
    ],
  )
}

/** Notes which events are taken back. The primary key refuses to take one back twice. */
export async function insertTargets(
  client: PoolClient,
  target: { readonly organizationId: string; readonly correctionId: string },
  events: readonly { readonly eventId: string; readonly replacementId: string | undefined }[],
): Promise<void> {
  await client.query(
    `insert into correction_target (organization_id, event_id, correction_id, replacement_event_id)
     select $1, event_id, $2, replacement_event_id
     from unnest($3::text[], $4::text[]) as target (event_id, replacement_event_id)`,
    [
      target.organizationId,
      target.correctionId,
      events.map(({ eventId }) => eventId),
      events.map(({ replacementId }) => replacementId ?? null),
    ],
  )
}

/** Makes sure that the months of these times can be written to. */
export async function ensurePartitions(client: PoolClient, times: Iterable<Date>): Promise<void> {
  const months = new Set([...times].map((time) => time.toISOString().slice(0, 7)))
  for (const month of months)
    await client.query('select ensure_usage_partition($1)', [`${month}-01T00:00:00Z`])
}

/** An event that was named and where it stands. */
export interface NamedEvent {
  readonly eventId: string
  readonly ts: Date
  readonly isReversal: boolean
  /** The correction that took it back. */
  readonly correctedBy: string | null
}

/** Finds events by their ids, in the order of their times; those that are not there are missing. */
export async function findNamedEvents(
  client: PoolClient,
  organizationId: string,
  eventIds: readonly string[],
): Promise<readonly NamedEvent[]> {
  const { rows } = await client.query<{
    event_id: string
    ts: Date
    entry_kind: string | null
    correction_id: string | null
  }>(
    `select key.event_id, key.ts, event.entry_kind, target.correction_id
     from event_key as key
     join usage_event as event
       on event.organization_id = key.organization_id and event.ts = key.ts and event.event_id = key.event_id
     left join correction_target as target
       on target.organization_id = key.organization_id and target.event_id = key.event_id
     where key.organization_id = $1 and key.event_id = any($2::text[])
     order by key.ts, key.event_id`,
    [organizationId, eventIds],
  )
  return rows.map((row) => ({
    eventId: row.event_id,
    ts: row.ts,
    isReversal: row.entry_kind === 'reversal',
    correctedBy: row.correction_id,
  }))
}

/** Events by their times and ids, in this order. */
export async function readNamedEvents(
  client: PoolClient,
  organizationId: string,
  named: readonly NamedEvent[],
): Promise<readonly RatedEventRow[]> {
  const { rows } = await client.query<RatedEventRow>(
    `${SELECT_RATED_EVENTS}
     join unnest($2::timestamptz[], $3::text[]) as named (ts, event_id)
       on named.ts = event.ts and named.event_id = event.event_id
     where event.organization_id = $1
     order by event.ts, event.event_id`,
    [organizationId, named.map(({ ts }) => ts), named.map(({ eventId }) => eventId)],
  )
  return rows
}

type RangeSelection = Extract<Selection, { kind: 'range' }>

/** What a range selects: what stands in it, but for what the correction itself has written. */
interface RangeRequest {
  readonly organizationId: string
  readonly correctionId: string
  readonly selection: RangeSelection
}

function rangeConditions(
  { organizationId, correctionId, selection }: RangeRequest,
  parameters: SqlParameters,
) {
  const { startMs, endMs, filters } = selection
  return `where event.organization_id = ${parameters.add(organizationId)}
    and event.ts >= ${parameters.add(new Date(startMs))} and event.ts < ${parameters.add(new Date(endMs))}
    and event.correction_id is distinct from ${parameters.add(correctionId)}::uuid
    and ${STANDING}${filterConditions(filters, parameters)}`
}

/** How many events a range selects; counting ends at `limit`. */
export async function countRange(client: PoolClient, request: RangeRequest, limit: number): Promise<number> {
  const parameters = new SqlParameters()
  const { rows } = await client.query<{ events: number }>(
    `select count(*)::int as events
     from (
       select from usage_event as event
       ${rangeConditions(request, parameters)}
       limit ${parameters.add(limit)}
     ) as selected`,
    parameters.values,
  )
  return rows[0]?.events ?? 0
}

/** A page of what a range selects, in the order of times and ids. */
export async function readRange(
  client: PoolClient,
  request: RangeRequest,
  { after, limit }: { readonly after: RatedEventRow | undefined; readonly limit: number },
): Promise<readonly RatedEventRow[]> {
  const statement = rangePage(request, { after, limit })
  const { rows } = await client.query<RatedEventRow>(statement.text, statement.values)
  return rows
}

// The page is cut first, along the primary key, and what belongs to each of its events is looked up one by one
// ("offset 0"): a planner that does not know the tables yet would read all of them for every page.
function rangePage(
  { organizationId, correctionId, selection }: RangeRequest,
  { after, limit }: { readonly after: RatedEventRow | undefined; readonly limit: number },
): { readonly text: string; readonly values: unknown[] } {
  const parameters = new SqlParameters()
  const organization = parameters.add(organizationId)
  const { startMs, endMs, filters } = selection
  const from = parameters.add(after?.ts ?? new Date(startMs))
  const position =
    after === undefined
      ? ''
      : `and (event.ts, event.event_id) > (${from}::timestamptz, ${parameters.add(after.event_id)}::text)`
  const text = `
    select event.*, late.lines as late_lines, late.price_version_id as late_price_version_id,
      late.markup_rule_id as late_markup_rule_id,
      (event.list_cost_usd + coalesce(late.list_cost_usd, 0))::text as list_cost_usd,
      (event.sell_cost_usd + coalesce(late.sell_cost_usd, 0))::text as sell_cost_usd
    from (
      select event.*
      from usage_event as event
      left join lateral (
        select target.correction_id
        from correction_target as target
        where target.organization_id = event.organization_id and target.event_id = event.event_id
        offset 0
      ) as taken on true
      where event.organization_id = ${organization}
        and event.ts >= ${from} and event.ts < ${parameters.add(new Date(endMs))} ${position}
        and event.entry_kind is distinct from 'reversal'
        and event.correction_id is distinct from ${parameters.add(correctionId)}::uuid
        and taken.correction_id is null${filterConditions(filters, parameters)}
      order by event.ts, event.event_id
      limit ${parameters.add(limit)}
    ) as event
    left join lateral (
      select *
      from late_rating as late
      where late.organization_id = event.organization_id and late.event_id = event.event_id
        and late.ts = event.ts
      offset 0
    ) as late on true
    order by event.ts, event.event_id`
  return { text, values: parameters.values }
}
