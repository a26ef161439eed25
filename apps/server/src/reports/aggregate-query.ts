import { ENTRY_SIGN, ENTRY_SUMS, LATE_SUMS, SUMMARY_COLUMNS } from '../rollups/index.ts'
import { type Dimension, type DimensionFilter, isRolledUp } from './dimensions.ts'
import { SqlParameters } from './sql-parameters.ts'

/**
 * The statement behind every report. Sums come from the rollups wherever a whole bucket of them lies in the
 * range, plus the events of batches that are not rolled up yet, plus the ledger itself at the ragged ends:
 * one statement, one snapshot, so the report is exact at any moment. Reports by dimensions that the rollups
 * do not keep (users, conversations, tags) and by the minute read the ledger.
 */

export type Granularity = 'minute' | 'hour' | 'day' | 'week' | 'month'

export interface AggregateRequest {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
  readonly groupBy: readonly Dimension[]
  readonly granularity: Granularity | undefined
  /** IANA name; decides where buckets begin. */
  readonly timeZone: string
  readonly filters: readonly DimensionFilter[]
  /** Adds one row with `is_total` true that sums up all. */
  readonly withTotals: boolean
  /** Groups by what customers pay in, too, and sums up what they pay. */
  readonly isCharged?: boolean
}

export interface Statement {
  readonly text: string
  readonly values: readonly unknown[]
}

const QUARTER_MS = 15 * 60_000
const DAY_MS = 24 * 3_600_000

const SUMS = [
  'requests',
  'errors',
  'estimated_requests',
  'unpriced_requests',
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
  'list_cost_usd',
  'sell_cost_usd',
] as const

const summed = SUMS.map((column) => `sum(${column}) as ${column}`).join(', ')

/** Whether the rollups can answer it. */
export function isAnsweredByRollups(request: AggregateRequest): boolean {
  return (
    request.isCharged !== true &&
    request.granularity !== 'minute' &&
    request.groupBy.every(isRolledUp) &&
    request.filters.every((filter) => isRolledUp(filter.dimension))
  )
}

const summaryColumns: ReadonlySet<string> = new Set(SUMMARY_COLUMNS)

/** Whether whole days of it can be had from the sums by customer, provider and model. */
function isAnsweredBySummaries({ groupBy, filters }: AggregateRequest): boolean {
  const dimensions = [...groupBy, ...filters.map((filter) => filter.dimension)]
  return dimensions.every(({ column }) => column !== undefined && summaryColumns.has(column))
}

/** The statement of an aggregate; rows in a stable order: bucket first, then the groups. */
export function aggregateStatement(request: AggregateRequest): Statement {
  const parameters = new SqlParameters()
  const organization = parameters.add(request.organizationId)
  const withClauses = isAnsweredByRollups(request)
    ? fromRollups(request, organization, parameters)
    : fromLedger(request, organization, parameters)
  const groups = request.groupBy.map((_, index) => `group_${index}`)
  const keys = [
    ...(request.granularity === undefined ? [] : ['bucket']),
    ...groups,
    ...(request.isCharged === true ? ['charged_currency'] : []),
  ]
  // A rate has ten digits and numeric multiplies exactly: what is charged is the sum of what each event is.
  const charged =
    request.isCharged === true ? ', coalesce(sum(charged_amount), 0)::text as charged_amount' : ''
  const groupBy = request.withTotals
    ? `group by grouping sets ((${keys.join(', ')}), ())`
    : keys.length === 0
      ? ''
      : `group by ${keys.join(', ')}`
  // Without keys the two grouping sets are the same row twice; one is enough.
  const isOnlyTotal = request.withTotals && keys.length === 0
  // What was taken back and has no replacement there counts nothing: such a group is no group.
  const having =
    keys.length === 0
      ? ''
      : `having ${request.withTotals ? `grouping(${keys[0]}) = 1 or ` : ''}sum(requests) <> 0`
  const totalFlag = keys.length === 0 ? 'true' : request.withTotals ? `grouping(${keys[0]}) = 1` : 'false'
  return {
    text: `
  with ${withClauses}
  select ${totalFlag} as is_total${keys.map((key) => `, ${key}`).join('')},
    ${SUMS.map((column) => `coalesce(sum(${column}), 0)::text as ${column}`).join(', ')}${charged}
  from grouped
  ${isOnlyTotal ? '' : groupBy}
  ${having}
  ${keys.length === 0 ? '' : `order by is_total, ${keys.map((key) => `${key} nulls first`).join(', ')}`}`,
    values: parameters.values,
  }
}

/** Whole buckets of the rollups inside the range, and what is left at its ends. */
export interface Segments {
  readonly days: { readonly startMs: number; readonly endMs: number } | undefined
  readonly quarters: readonly { readonly startMs: number; readonly endMs: number }[]
  readonly ragged: readonly { readonly startMs: number; readonly endMs: number }[]
}

/** Cuts a range into the largest buckets that fit. The parts are disjoint and add up to the range. */
export function segmentsOf(startMs: number, endMs: number, mayUseDays: boolean): Segments {
  const quarterStart = Math.ceil(startMs / QUARTER_MS) * QUARTER_MS
  const quarterEnd = Math.floor(endMs / QUARTER_MS) * QUARTER_MS
  if (quarterStart >= quarterEnd)
    return { days: undefined, quarters: [], ragged: nonEmpty([{ startMs, endMs }]) }
  const ragged = nonEmpty([
    { startMs, endMs: quarterStart },
    { startMs: quarterEnd, endMs },
  ])
  const dayStart = Math.ceil(quarterStart / DAY_MS) * DAY_MS
  const dayEnd = Math.floor(quarterEnd / DAY_MS) * DAY_MS
  if (!mayUseDays || dayStart >= dayEnd) {
    return { days: undefined, quarters: [{ startMs: quarterStart, endMs: quarterEnd }], ragged }
  }
  return {
    days: { startMs: dayStart, endMs: dayEnd },
    quarters: nonEmpty([
      { startMs: quarterStart, endMs: dayStart },
      { startMs: dayEnd, endMs: quarterEnd },
    ]),
    ragged,
  }
}

function nonEmpty<Range extends { startMs: number; endMs: number }>(ranges: readonly Range[]): Range[] {
  return ranges.filter((range) => range.startMs < range.endMs)
}

function fromRollups(request: AggregateRequest, organization: string, parameters: SqlParameters): string {
  // A UTC day is a bucket of the report only if the report's own buckets begin at UTC midnights.
  const isDayAligned =
    request.granularity === undefined || (request.granularity !== 'hour' && request.timeZone === 'UTC')
  const segments = segmentsOf(request.startMs, request.endMs, isDayAligned)
  const sums = SUMS.join(', ')
  const instant = (ms: number) => `${parameters.add(new Date(ms))}::timestamptz`
  const pieces: string[] = []
  const rollup = (grainMinutes: number, startMs: number, endMs: number) =>
    pieces.push(`
    select dimension_set_id, bucket as ts, ${sums}
    from usage_rollup
    where organization_id = ${organization} and grain_minutes = ${grainMinutes}
      and bucket >= ${instant(startMs)} and bucket < ${instant(endMs)}`)
  const isSummarized = isAnsweredBySummaries(request)
  if (segments.days !== undefined && !isSummarized) {
    rollup(1440, segments.days.startMs, segments.days.endMs)
  }
  for (const range of segments.quarters) rollup(15, range.startMs, range.endMs)

  const covered = coveredRange(segments)
  if (covered !== undefined) {
    const from = instant(covered.startMs)
    const to = instant(covered.endMs)
    pieces.push(`
    select open.dimension_set_id, open.ts, ${sums}
    from open_batch
    cross join lateral (
      select event.dimension_set_id, event.ts, ${ENTRY_SUMS}
      from usage_event as event
      where event.organization_id = ${organization} and event.batch_id = open_batch.batch_id
        and event.ts between open_batch.ts_min and open_batch.ts_max
        and event.ts >= ${from} and event.ts < ${to}
      offset 0
    ) as open`)
    pieces.push(`
    select late.dimension_set_id, late.ts, ${LATE_SUMS}
    from open_batch
    join late_rating as late
      on late.organization_id = ${organization} and late.batch_id = open_batch.batch_id
    where late.ts >= ${from} and late.ts < ${to}`)
  }
  for (const range of segments.ragged) {
    const from = instant(range.startMs)
    const to = instant(range.endMs)
    pieces.push(`
    select event.dimension_set_id, event.ts, ${ENTRY_SUMS}
    from usage_event as event
    where event.organization_id = ${organization} and event.ts >= ${from} and event.ts < ${to}`)
    pieces.push(`
    select late.dimension_set_id, late.ts, ${LATE_SUMS}
    from late_rating as late
    where late.organization_id = ${organization} and late.ts >= ${from} and late.ts < ${to}`)
  }

  const conditions = request.filters.map(
    ({ dimension, values }) => ` and ${dimension.column} = any(${parameters.add(values)}::text[])`,
  )
  const bucket = bucketExpression(request, 'ts', parameters)
  const groups = (table: string) =>
    request.groupBy.map(({ column }, index) => `, ${table}.${column} as group_${index}`).join('')
  const summary =
    segments.days === undefined || !isSummarized
      ? ''
      : `
    union all
    select ${bucketExpression(request, 'usage_summary.bucket', parameters)} as bucket${groups('usage_summary')}, ${summed}
    from usage_summary
    where organization_id = ${organization}
      and usage_summary.bucket >= ${instant(segments.days.startMs)}
      and usage_summary.bucket < ${instant(segments.days.endMs)}${conditions.join('')}
    group by ${[1, ...request.groupBy.map((_, index) => index + 2)].join(', ')}`
  return `open_batch as materialized (
    select batch_id, ts_min, ts_max
    from ledger_batch
    where organization_id = ${organization} and rolled_up_at is null
  ), pieces as (${pieces.join('\n    union all')}
  ), per_set as (
    select dimension_set_id, ${bucket} as bucket, ${summed}
    from pieces
    group by 1, 2
  ), grouped as (
    select bucket${groups('dimension_set')}, ${sums}
    from per_set
    join dimension_set on dimension_set.organization_id = ${organization}
      and dimension_set.dimension_set_id = per_set.dimension_set_id${conditions.join('')}${summary}
  )`
}

/** The rollups' part of the range as one range: the segments touch each other. */
function coveredRange(segments: Segments): { startMs: number; endMs: number } | undefined {
  const parts = [...segments.quarters, ...(segments.days === undefined ? [] : [segments.days])]
  if (parts.length === 0) return undefined
  return {
    startMs: Math.min(...parts.map((part) => part.startMs)),
    endMs: Math.max(...parts.map((part) => part.endMs)),
  }
}

function fromLedger(request: AggregateRequest, organization: string, parameters: SqlParameters): string {
  const from = `${parameters.add(new Date(request.startMs))}::timestamptz`
  const to = `${parameters.add(new Date(request.endMs))}::timestamptz`
  const groups = request.groupBy
    .map((dimension, index) => `, ${ledgerExpression(dimension, parameters)} as group_${index}`)
    .join('')
  const conditions = filterConditions(request.filters, parameters)
  const bucket = bucketExpression(request, 'event.ts', parameters)
  const charged = (amount: string, sold: string) =>
    request.isCharged === true
      ? `, coalesce(${sold}.sell_currency, 'USD') as charged_currency,
      ${amount} * coalesce(${sold}.fx_rate, 1) as charged_amount`
      : ''
  return `grouped as (
    select ${bucket} as bucket${groups}, ${ENTRY_SUMS}${charged(`${ENTRY_SIGN} * event.sell_cost_usd`, 'event')}
    from usage_event as event
    where event.organization_id = ${organization} and event.ts >= ${from} and event.ts < ${to}${conditions}
    union all
    select ${bucket} as bucket${groups}, ${LATE_SUMS}${charged('late.sell_cost_usd', 'late')}
    from late_rating as late
    join usage_event as event
      on event.organization_id = late.organization_id and event.ts = late.ts and event.event_id = late.event_id
    where late.organization_id = ${organization} and late.ts >= ${from} and late.ts < ${to}${conditions}
  )`
}

/** Conditions on `event`, each beginning with `and`. */
export function filterConditions(filters: readonly DimensionFilter[], parameters: SqlParameters): string {
  return filters
    .map(
      ({ dimension, values }) =>
        ` and ${ledgerExpression(dimension, parameters)} = any(${parameters.add(values)}::text[])`,
    )
    .join('')
}

function ledgerExpression(dimension: Dimension, parameters: SqlParameters): string {
  if (dimension.column === undefined) return `event.tags ->> ${parameters.add(dimension.tag)}::text`
  // Ids of keys are uuids; whatever is compared with them is text.
  return dimension.column === 'api_key_id' ? 'event.api_key_id::text' : `event.${dimension.column}`
}

/**
 * Where a bucket begins. Days and longer are dates of the zone's calendar; hours and minutes are instants,
 * cut in local time, so that half-hour zones get their own full hours and the hour that a clock change
 * repeats stays two buckets. Where the clock changes by half an hour (Lord Howe Island), the hour in which it
 * does so begins with the change: before it, its local time was another hour's.
 */
export function bucketExpression(
  request: Pick<AggregateRequest, 'granularity' | 'timeZone'>,
  ts: string,
  parameters: SqlParameters,
): string {
  const { granularity } = request
  if (granularity === undefined) return 'null::text'
  const zone = `${parameters.add(request.timeZone)}::text`
  const local = `(${ts} at time zone ${zone})`
  const cut = `date_trunc('${granularity}', ${local})`
  const nominal = `(${ts} - (${local} - ${cut}))`
  if (granularity === 'minute') return nominal
  if (granularity === 'hour') {
    const shift = `(${cut} - (${nominal} at time zone ${zone}))`
    return `(${nominal} + greatest(${shift}, -${shift}))`
  }
  return `to_char(${cut}, 'YYYY-MM-DD')`
}
