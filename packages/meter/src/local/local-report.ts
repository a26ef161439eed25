import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import { offsetMinutes } from '@tokentally/core'
import { type CostSummary, type CostSums, dearestFirst, PARTS_MAX, regroup, sumOf } from './cost-summary.ts'
import { columnsOf, openForReading } from './local-file.ts'
import { type LocalRating, localRater, rateUnrated, type StoredUsage } from './local-rating.ts'

/** What costs can be grouped by. `model` is grouped with its provider; `day` is a calendar day of the zone. */
export const COST_DIMENSIONS = ['provider', 'model', 'execution', 'customer', 'feature', 'day'] as const
export type CostDimension = (typeof COST_DIMENSIONS)[number]

/** A range of time, and which events of it. */
export interface LocalRange {
  /** Included, UTC milliseconds. */
  readonly startMs: number
  /** Excluded, UTC milliseconds. */
  readonly endMs: number
  readonly provider?: string | undefined
  readonly customer?: string | undefined
}

/** Sums of one group, under the names of what it was grouped by. */
export interface CostGroup extends CostSums {
  readonly keys: Readonly<Record<string, string | null>>
}

/** The file of local mode, for reading alone. */
export interface LocalReader {
  summary(range: LocalRange): Promise<CostSummary>
  /** The dearest first; days in their order. @param timeZone IANA name; where days begin */
  groups(range: LocalRange, by: CostDimension, timeZone: string): Promise<CostGroup[]>
  /** The events themselves with their ratings, oldest first, read as they are taken. */
  events(range: LocalRange): AsyncGenerator<StoredUsage>
  close(): void
}

/**
 * Opens local mode's file for reading; it is neither made nor changed. What has no rating in it yet is rated for
 * this reader alone.
 *
 * @throws LocalFileError when it is missing or none of ours, with a cure
 */
export function openLocalReader(path: string): LocalReader {
  const database = openForReading(path)
  registerDecimalSum(database)
  database.exec(`
    pragma temp_store = memory;
    create temp table fresh_rating (
      event_id text primary key, list_cost_usd text not null, rating_status text not null
    ) without rowid, strict`)
  const execution = executionOf(columnsOf(database))
  const addFresh = database.prepare('insert or replace into temp.fresh_rating values (?, ?, ?)')
  const keepFresh = (ratings: readonly LocalRating[]) => {
    for (const { eventId, listCostUsd, status } of ratings) addFresh.run(eventId, listCostUsd, status)
  }

  const query = (range: LocalRange, keys: Readonly<Record<string, string>>, limit?: number): CostGroup[] => {
    const names = Object.keys(keys)
    const rows = database
      .prepare(groupStatement(keys))
      .all(range.startMs, range.endMs, range.provider ?? null, range.customer ?? null, limit ?? -1)
    return rows.map((row) => ({
      keys: Object.fromEntries(names.map((name) => [name, textOf(row[name])])),
      requests: Number(row['requests']),
      inputTokens: Number(row['total_input']),
      outputTokens: Number(row['total_output']),
      listCostUsd: String(row['total_cost']),
      unpricedRequests: Number(row['unpriced']),
    }))
  }

  // One after the other, each from one snapshot with the ratings of all that is in it.
  let previous: Promise<unknown> = Promise.resolve()
  const report = <T>(range: LocalRange, read: () => T): Promise<T> => {
    const result = previous.then(async () => {
      database.exec('begin')
      try {
        await rateUnrated(database, range, keepFresh)
        return read()
      } finally {
        database.exec('rollback')
      }
    })
    previous = result.catch(() => undefined)
    return result
  }

  const summary = (range: LocalRange): CostSummary => {
    const models = query(range, { provider: 'provider', model: 'model' })
    const byModel = models.map(({ keys, ...sums }) => ({
      provider: keys['provider'] ?? '',
      model: keys['model'] ?? null,
      ...sums,
    }))
    const parts = <Name extends string>(name: Name, column: string) =>
      dearestFirst(query(range, { [name]: column }, PARTS_MAX)).map(({ keys, ...sums }) => ({
        ...sums,
        value: keys[name] ?? null,
      }))
    return {
      ...sumOf(models),
      byProvider: regroup(byModel, ({ provider }) => ({ provider })),
      byModel: dearestFirst(byModel),
      byExecution: parts('execution', execution).map(({ value, ...sums }) => ({ execution: value, ...sums })),
      byCustomer: parts('customer', 'customer').map(({ value, ...sums }) => ({ customer: value, ...sums })),
      byFeature: parts('feature', 'feature').map(({ value, ...sums }) => ({ feature: value, ...sums })),
    }
  }

  const groups = (range: LocalRange, by: CostDimension, timeZone: string): CostGroup[] => {
    switch (by) {
      case 'day':
        return byDay(query(range, { quarter: `cast(ts_ms / ${QUARTER_MS} as text)` }), timeZone)
      case 'model':
        return dearestFirst(query(range, { provider: 'provider', model: 'model' }))
      case 'execution':
        return dearestFirst(query(range, { execution }))
      case 'provider':
      case 'customer':
      case 'feature':
        return dearestFirst(query(range, { [by]: by }))
    }
  }

  return {
    summary: (range) => report(range, () => summary(range)),
    groups: (range, by, timeZone) => report(range, () => groups(range, by, timeZone)),

    async *events(range) {
      const rows = database
        .prepare(
          `select event_id, json, list_cost_usd, rating_status from usage_event
          where ts_ms >= ?1 and ts_ms < ?2 and (?3 is null or provider = ?3) and (?4 is null or customer = ?4)
          order by ts_ms, event_id`,
        )
        .iterate(range.startMs, range.endMs, range.provider ?? null, range.customer ?? null)
      for (const row of rows) {
        const eventId = String(row['event_id'])
        const json = String(row['json'])
        const listCostUsd = textOf(row['list_cost_usd'])
        const rating: LocalRating =
          row['rating_status'] === 'rated' && listCostUsd !== null
            ? { eventId, listCostUsd, status: 'rated' }
            : (await localRater())(eventId, json)
        yield { event: JSON.parse(json), rating }
      }
    },

    close: () => database.close(),
  }
}

/** In a file from before the column, or an event appended by a program from before it, the JSON is asked. */
function executionOf(columns: ReadonlySet<string>): string {
  const fields = ['conversation_id', 'trace_id', 'call_id'].map((name) => `json_extract(json, '$.${name}')`)
  return `coalesce(${[...(columns.has('execution') ? ['execution'] : []), ...fields, 'event_id'].join(', ')})`
}

function groupStatement(keys: Readonly<Record<string, string>>): string {
  const columns = Object.entries(keys).map(([name, column]) => `${column} as "group_${name}"`)
  const groups = Object.keys(keys).map((name) => `"group_${name}"`)
  // Every event of the range is in exactly one group. The order is that of the nearest float; who needs the
  // exact one sorts again.
  return `
    select ${Object.keys(keys)
      .map((name) => `"group_${name}" as "${name}"`)
      .join(', ')}, requests, total_input, total_output, total_cost, unpriced
    from (
      select ${columns.join(', ')},
        count(*) as requests,
        sum(input_tokens) as total_input,
        sum(output_tokens) as total_output,
        decimal_sum(coalesce(fresh.list_cost_usd, stored.list_cost_usd)) as total_cost,
        sum(coalesce(fresh.rating_status, stored.rating_status, '') <> 'rated') as unpriced
      from usage_event stored
      left join temp.fresh_rating fresh using (event_id)
      where ts_ms >= ?1 and ts_ms < ?2 and (?3 is null or provider = ?3) and (?4 is null or customer = ?4)
      group by ${groups.join(', ')}
    )
    order by cast(total_cost as real) desc, requests desc, ${groups.join(', ')}
    limit ?5`
}

/** Digits behind the point that sums are made with: more than any price times any quantity has. */
const SCALE = 40

/** SQLite adds integers and floats, and money is neither. */
function registerDecimalSum(database: DatabaseSync): void {
  database.aggregate<bigint>('decimal_sum', {
    deterministic: true,
    start: 0n,
    step: (sum, value) => (typeof value === 'string' ? sum + scaled(value) : sum),
    result: (sum) => unscaled(sum),
  })
}

function scaled(text: string): bigint {
  const [whole = '0', fraction = ''] = text.split('.')
  if (fraction.length > SCALE) throw new RangeError(`more than ${SCALE} digits behind the point: ${text}`)
  return BigInt(whole + fraction.padEnd(SCALE, '0'))
}

function unscaled(sum: bigint): string {
  const digits = (sum < 0n ? -sum : sum).toString().padStart(SCALE + 1, '0')
  const text = `${digits.slice(0, -SCALE)}.${digits.slice(-SCALE)}`.replace(/\.?0+$/, '')
  return sum < 0n ? `-${text}` : text
}

/** Every zone's offset is a whole number of these, so that no quarter of an hour lies in two days. */
const QUARTER_MS = 15 * 60_000

function byDay(quarters: readonly CostGroup[], timeZone: string): CostGroup[] {
  const dayOf = ({ keys }: CostGroup) => {
    const startMs = Number(keys['quarter']) * QUARTER_MS
    const local = new Date(startMs + offsetMinutes(startMs, timeZone) * 60_000)
    return { day: local.toISOString().slice(0, 10) }
  }
  return regroup(quarters, dayOf)
    .sort((a, b) => (a.day < b.day ? -1 : 1))
    .map(({ day, ...sums }) => ({ keys: { day }, ...sums }))
}

function textOf(value: SQLOutputValue | undefined): string | null {
  return value === null || value === undefined ? null : String(value)
}
