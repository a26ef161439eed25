import { type UsageEventJson, usageEventToJson } from '@tokentally/core'
import type { Pool } from 'pg'
import { type StoredEventRow, storedEvent } from '../ledger/index.ts'
import { moneyText } from './aggregate.ts'
import { filterConditions } from './aggregate-query.ts'
import type { DimensionFilter } from './dimensions.ts'
import { SqlParameters } from './sql-parameters.ts'

/** An event as reports show it: as it was sent, with its rating. */
export interface EventReport extends UsageEventJson {
  readonly received_at: string
  readonly rating: {
    readonly status: 'rated' | 'unpriced' | 'partly_unpriced'
    readonly currency: 'USD'
    /** Null while no meter of the event has a price. */
    readonly list_cost: string | null
    readonly total_cost: string | null
    readonly lines: readonly {
      readonly meter: string
      readonly quantity: string
      readonly unit_price: string | null
      readonly cost: string | null
    }[]
    readonly price_version_id: string | null
  }
}

export interface EventsRequest {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
  readonly filters: readonly DimensionFilter[]
  readonly findings: FindingFilter
  readonly limit: number
  readonly after: EventPosition | undefined
}

/** Only events of which this was found, or was not; undefined makes no difference. */
export interface FindingFilter {
  /** The provider's counts contradict each other. */
  readonly mismatch: boolean | undefined
  readonly estimated: boolean | undefined
  readonly reason: string | undefined
}

/** Where a page ended. */
export interface EventPosition {
  readonly tsMs: number
  readonly eventId: string
}

interface EventRow extends StoredEventRow {
  readonly late_lines: StoredEventRow['lines'] | null
  readonly late_list_cost_usd: string | null
  readonly late_sell_cost_usd: string | null
  readonly late_price_version_id: string | null
}

const SELECT_EVENTS = `
  select event.*, late.lines as late_lines, late.list_cost_usd as late_list_cost_usd,
    late.sell_cost_usd as late_sell_cost_usd, late.price_version_id as late_price_version_id,
    (event.list_cost_usd + coalesce(late.list_cost_usd, 0))::text as list_cost_usd,
    (event.sell_cost_usd + coalesce(late.sell_cost_usd, 0))::text as sell_cost_usd
  from usage_event as event
  left join late_rating as late
    on late.organization_id = event.organization_id and late.event_id = event.event_id`

/** Events of a range, newest first. */
export async function listEvents(pool: Pool, request: EventsRequest): Promise<readonly EventReport[]> {
  const parameters = new SqlParameters()
  const organization = parameters.add(request.organizationId)
  const from = parameters.add(new Date(request.startMs))
  const to = parameters.add(new Date(request.endMs))
  const conditions =
    filterConditions(request.filters, parameters) + findingConditions(request.findings, parameters)
  const after =
    request.after === undefined
      ? ''
      : ` and (event.ts, event.event_id) < (${parameters.add(new Date(request.after.tsMs))}::timestamptz, ${parameters.add(request.after.eventId)}::text)`
  const result = await pool.query<EventRow>(
    `${SELECT_EVENTS}
  where event.organization_id = ${organization} and event.ts >= ${from} and event.ts < ${to}${conditions}${after}
  order by event.ts desc, event.event_id desc
  limit ${parameters.add(request.limit)}`,
    parameters.values,
  )
  return result.rows.map(eventReport)
}

function findingConditions(
  { mismatch, estimated, reason }: FindingFilter,
  parameters: SqlParameters,
): string {
  let conditions = ''
  if (mismatch !== undefined) conditions += ` and event.mismatch is ${mismatch ? 'not ' : ''}null`
  if (estimated !== undefined) conditions += ` and event.estimated = ${parameters.add(estimated)}`
  if (reason !== undefined) conditions += ` and event.reason = ${parameters.add(reason)}`
  return conditions
}

/** One event by its id, found through the once-rule's key table. */
export async function findEvent(
  pool: Pool,
  organizationId: string,
  eventId: string,
): Promise<EventReport | undefined> {
  const result = await pool.query<EventRow>(
    `${SELECT_EVENTS}
  where event.organization_id = $1 and event.event_id = $2
    and event.ts = (select ts from event_key where organization_id = $1 and event_id = $2)`,
    [organizationId, eventId],
  )
  const row = result.rows[0]
  return row === undefined ? undefined : eventReport(row)
}

function eventReport(row: EventRow): EventReport {
  const isLate = row.late_lines !== null
  const lines = isLate
    ? [...row.lines.filter((line) => line.unit_price_usd !== null), ...row.late_lines]
    : row.lines
  const status = isLate ? 'rated' : row.rating_status
  const isUnpriced = status === 'unpriced'
  return {
    ...usageEventToJson(storedEvent(row)),
    received_at: row.received_at.toISOString(),
    rating: {
      status,
      currency: 'USD',
      list_cost: isUnpriced ? null : moneyText(row.list_cost_usd),
      total_cost: isUnpriced ? null : moneyText(row.sell_cost_usd),
      lines: lines.map((line) => ({
        meter: line.meter,
        quantity: line.quantity,
        unit_price: line.unit_price_usd,
        cost: line.cost_usd,
      })),
      price_version_id: row.late_price_version_id ?? row.price_version_id,
    },
  }
}

/** Opaque to callers. */
export function encodeCursor(position: EventPosition): string {
  return Buffer.from(JSON.stringify([position.tsMs, position.eventId])).toString('base64url')
}

/** End of the year 9999; no event is later. */
const TS_MAX_MS = Date.UTC(10_000, 0, 1) - 1

/** @returns undefined when the text is no cursor of ours */
export function decodeCursor(text: string): EventPosition | undefined {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (!Array.isArray(parsed)) return undefined
    const [tsMs, eventId]: unknown[] = parsed
    if (typeof tsMs !== 'number' || !Number.isInteger(tsMs) || tsMs < 0 || tsMs > TS_MAX_MS) return undefined
    if (typeof eventId !== 'string' || eventId.includes('\0')) return undefined
    return { tsMs, eventId }
  } catch {
    return undefined
  }
}
