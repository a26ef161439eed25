import { chargedAmount, decimalText, type UsageEventJson, usageEventToJson } from '@tokentally/core'
import type { Pool } from 'pg'
import { Problem } from '../http/problem.ts'
import { type RatedEventRow, SELECT_RATED_EVENTS, storedEvent, storedRating } from '../ledger/index.ts'
import { moneyText } from './aggregate.ts'
import { filterConditions } from './aggregate-query.ts'
import type { DimensionFilter } from './dimensions.ts'
import { SqlParameters } from './sql-parameters.ts'

/**
 * An event as reports show it: as it was sent, with its rating. An entry that takes an event back shows that
 * event's counts and amounts negatively.
 */
export interface EventReport extends UsageEventJson {
  readonly received_at: string
  readonly entry_kind: 'usage' | 'reversal' | 'replacement'
  /** Of a reversal or replacement: the event that it takes back or stands in for. */
  readonly corrects_event_id?: string
  readonly correction_id?: string
  /** The correction that took this event back. */
  readonly corrected_by?: string
  readonly rating: {
    readonly status: 'rated' | 'unpriced' | 'partly_unpriced'
    readonly currency: 'USD'
    /** Null while no meter of the event has a price. */
    readonly list_cost: string | null
    readonly total_cost: string | null
    /** What the customer pays in: the total cost times the rate, exact. The rate is null for US dollars. */
    readonly charged: {
      readonly currency: string
      readonly amount: string | null
      readonly fx_rate: string | null
      readonly fx_date: string | null
    }
    readonly markup_rule_id: string | null
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

interface EventRow extends RatedEventRow {
  readonly corrected_by: string | null
}

const SELECT_EVENTS = `
  select event.*, target.correction_id as corrected_by
  from (${SELECT_RATED_EVENTS}) as event
  left join correction_target as target
    on target.organization_id = event.organization_id and target.event_id = event.event_id`

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

/** The entries of a correction, in the order of the events' times. */
export async function listCorrectionEntries(
  pool: Pool,
  request: {
    readonly organizationId: string
    readonly correctionId: string
    readonly limit: number
    readonly after: EventPosition | undefined
  },
): Promise<readonly EventReport[]> {
  const { organizationId, correctionId, limit, after } = request
  const result = await pool.query<EventRow>(
    `${SELECT_EVENTS}
  where event.organization_id = $1 and event.correction_id = $2
    and ($3::timestamptz is null or (event.ts, event.event_id) > ($3, $4::text))
  order by event.ts, event.event_id
  limit $5`,
    [
      organizationId,
      correctionId,
      after === undefined ? null : new Date(after.tsMs),
      after?.eventId ?? null,
      limit,
    ],
  )
  return result.rows.map(eventReport)
}

function eventReport(row: EventRow): EventReport {
  const { rating, sale } = storedRating(row)
  const isUnpriced = rating.status === 'unpriced'
  const isReversal = row.entry_kind === 'reversal'
  const signed = (amount: string) => (isReversal ? negated(amount) : amount)
  const unpriced = row.lines.filter((line) => rating.unpricedMeters.includes(line.meter))
  const { conversion } = sale
  const json = usageEventToJson(storedEvent(row))
  return {
    ...(isReversal ? takenBack(json) : json),
    received_at: row.received_at.toISOString(),
    entry_kind: row.entry_kind ?? 'usage',
    ...(row.corrects_event_id !== null && { corrects_event_id: row.corrects_event_id }),
    ...(row.correction_id !== null && { correction_id: row.correction_id }),
    ...(row.corrected_by !== null && { corrected_by: row.corrected_by }),
    rating: {
      status: rating.status,
      currency: 'USD',
      list_cost: isUnpriced ? null : signed(moneyText(row.list_cost_usd)),
      total_cost: isUnpriced ? null : signed(moneyText(row.sell_cost_usd)),
      charged: {
        currency: conversion?.currency ?? 'USD',
        amount: isUnpriced ? null : signed(decimalText(chargedAmount(sale))),
        fx_rate: conversion?.rate ?? null,
        fx_date: conversion?.rateDate ?? null,
      },
      markup_rule_id: sale.markupRuleId,
      lines: [
        ...rating.lines.map((line) => ({
          meter: line.meter,
          quantity: signed(String(line.quantity)),
          unit_price: line.unitPriceUsd,
          cost: signed(line.costUsd),
        })),
        ...unpriced.map((line) => ({
          meter: line.meter,
          quantity: signed(line.quantity),
          unit_price: null,
          cost: null,
        })),
      ],
      price_version_id: rating.priceVersionId,
    },
  }
}

function negated(amount: string): string {
  return amount === '0' ? amount : `-${amount}`
}

const COUNTS = [
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
] as const

/** The counts of an event turned round; what describes the call stays. */
function takenBack(json: UsageEventJson): UsageEventJson {
  const counts: Partial<Record<(typeof COUNTS)[number], number>> = {}
  for (const name of COUNTS) {
    const count = json[name]
    if (count !== undefined) counts[name] = opposite(count)
  }
  const meters = Object.entries(json.meters ?? {}).map(([meter, count]) => [meter, opposite(count)])
  return { ...json, ...counts, ...(json.meters !== undefined && { meters: Object.fromEntries(meters) }) }
}

/** Zero has no sign. */
function opposite(count: number): number {
  return count === 0 ? 0 : -count
}

/** Opaque to callers. */
export function encodeCursor(position: EventPosition): string {
  return Buffer.from(JSON.stringify([position.tsMs, position.eventId])).toString('base64url')
}

/** End of the year 9999; no event is later. */
const TS_MAX_MS = Date.UTC(10_000, 0, 1) - 1

/** @throws Problem naming `cursor` when the text is no cursor of a list of events */
export function readCursor(text: string): EventPosition {
  const position = decodeCursor(text)
  if (position === undefined) throw noCursor()
  return position
}

/** What a cursor of another list is answered with. */
export function noCursor(): Problem {
  return new Problem({
    code: 'invalid-request',
    errors: [{ path: 'cursor', message: 'is no cursor of this list' }],
  })
}

/** @returns undefined when the text is no cursor of ours */
function decodeCursor(text: string): EventPosition | undefined {
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
