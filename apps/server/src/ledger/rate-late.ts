import {
  decimal,
  decimalText,
  type Rating,
  type RatingBook,
  rate,
  type Sale,
  sell,
  ZERO,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import type { StoredLine } from './ledger-row.ts'
import { lockAgainstCorrections, STANDING } from './standing.ts'
import { type StoredEventRow, storedEvent } from './stored-event.ts'
import { storedConversion } from './stored-rating.ts'

const PAGE_EVENTS = 1_000

// Walks the partial index on what is not rated; the key of the last event is where the next page begins.
const UNRATED = `
  select event.*
  from usage_event as event
  where event.rating_status <> 'rated'
    and (event.organization_id, event.ts, event.event_id) > ($1::uuid, $2::timestamptz, $3::text)
    and not exists (
      select from late_rating as late
      where late.organization_id = event.organization_id and late.event_id = event.event_id
    )
    and ${STANDING}
  order by event.organization_id, event.ts, event.event_id
  limit $4`

// "on conflict do nothing": the first late rating stands, as the first of everything does. What was taken back
// since it was read is left alone: the reversal does not know of amounts that come later.
const APPEND_LATE = `
  with batch as (
    select nextval('ledger_batch_id') as batch_id
  ), rated as (
    insert into late_rating (
      organization_id, event_id, ts, batch_id, dimension_set_id, rated_at, lines, list_cost_usd, sell_cost_usd,
      price_version_id, markup_rule_id, sell_currency, fx_rate, fx_date
    )
    select late.organization_id, late.event_id, late.ts, batch.batch_id, late.dimension_set_id, $8, late.lines,
      late.list_cost_usd, late.sell_cost_usd, late.price_version_id, late.markup_rule_id, late.sell_currency,
      late.fx_rate, late.fx_date
    from unnest(
        $1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::jsonb[], $6::numeric[], $9::numeric[], $7::uuid[],
        $10::uuid[], $11::text[], $12::numeric[], $13::date[]
      ) as late (
        organization_id, event_id, ts, dimension_set_id, lines, list_cost_usd, sell_cost_usd, price_version_id,
        markup_rule_id, sell_currency, fx_rate, fx_date
      ),
      batch
    where not exists (
      select from correction_target as target
      where target.organization_id = late.organization_id and target.event_id = late.event_id
    )
    on conflict (organization_id, event_id) do nothing
    returning organization_id, batch_id, ts
  )
  insert into ledger_batch (organization_id, batch_id, event_count, ts_min, ts_max)
  select organization_id, batch_id, count(*), min(ts), max(ts)
  from rated
  group by organization_id, batch_id
  returning event_count`

interface LateRating {
  readonly row: StoredEventRow
  readonly lines: readonly StoredLine[]
  readonly listCostUsd: string
  readonly sale: Sale
  readonly priceVersionId: string
}

/**
 * Rates events that had no price when they arrived and have one now, by the price that was in force at the
 * event's own time. Meters that were priced on arrival stay frozen; only the missing ones are rated, and
 * only when all of them can be. Safe to run twice and beside itself.
 *
 * @returns how many events were rated
 */
export async function rateLate(pool: Pool, book: RatingBook, now: () => Date): Promise<number> {
  let after: [string, Date, string] = ['00000000-0000-0000-0000-000000000000', new Date(0), '']
  let ratedEvents = 0
  for (;;) {
    const page = await pool.query<StoredEventRow>(UNRATED, [...after, PAGE_EVENTS])
    const ratings = page.rows.flatMap((row) => lateRating(row, book) ?? [])
    ratedEvents += await append(pool, ratings, now())
    const last = page.rows.at(-1)
    if (last === undefined || page.rows.length < PAGE_EVENTS) return ratedEvents
    after = [last.organization_id, last.ts, last.event_id]
  }
}

function lateRating(row: StoredEventRow, book: RatingBook): LateRating | undefined {
  const event = storedEvent(row)
  const rating = rate(row.organization_id, event, book.prices)
  if (rating.priceVersionId === null) return undefined
  const missing = new Set(row.unpriced_meters ?? [])
  // Nothing was priced on arrival: every line is new, the price per request too.
  const lines =
    row.rating_status === 'unpriced' ? rating.lines : rating.lines.filter((line) => missing.has(line.meter))
  if (rating.status !== 'rated') return undefined
  const listCostUsd = lines.reduce((sum, line) => sum.plus(decimal(line.costUsd)), ZERO)
  return {
    row,
    lines: lines.map((line) => ({
      meter: line.meter,
      quantity: String(line.quantity),
      unit_price_usd: line.unitPriceUsd,
      cost_usd: line.costUsd,
    })),
    listCostUsd: decimalText(listCostUsd),
    // What the customer pays in was settled when the event arrived, for the meters that had a price then.
    sale: {
      ...sell(
        row.organization_id,
        event,
        { ...rating, lines, listCostUsd, earlier: ratedOnArrival(row) },
        book,
      ),
      conversion: storedConversion(row),
    },
    priceVersionId: rating.priceVersionId,
  }
}

function ratedOnArrival(row: StoredEventRow): NonNullable<Rating['earlier']> {
  const lines = row.lines.flatMap(({ meter, quantity, unit_price_usd: unitPriceUsd, cost_usd: costUsd }) =>
    unitPriceUsd === null || costUsd === null
      ? []
      : [{ meter, quantity: Number(quantity), unitPriceUsd, costUsd }],
  )
  return { lines, listCostUsd: decimal(row.list_cost_usd) }
}

async function append(pool: Pool, ratings: readonly LateRating[], ratedAt: Date): Promise<number> {
  if (ratings.length === 0) return 0
  return inTransaction(pool, async (client) => {
    // Waited for in a statement of its own: the next one sees what the correction has taken back.
    await lockAgainstCorrections(
      client,
      ratings.map(({ row }) => row.organization_id),
    )
    return insert(client, ratings, ratedAt)
  })
}

async function insert(client: PoolClient, ratings: readonly LateRating[], ratedAt: Date): Promise<number> {
  const result = await client.query<{ event_count: number }>(APPEND_LATE, [
    ratings.map(({ row }) => row.organization_id),
    ratings.map(({ row }) => row.event_id),
    ratings.map(({ row }) => row.ts),
    ratings.map(({ row }) => row.dimension_set_id),
    ratings.map(({ lines }) => JSON.stringify(lines)),
    ratings.map(({ listCostUsd }) => listCostUsd),
    ratings.map(({ priceVersionId }) => priceVersionId),
    ratedAt,
    ratings.map(({ sale }) => decimalText(sale.sellCostUsd)),
    ratings.map(({ sale }) => sale.markupRuleId),
    ratings.map(({ sale }) => sale.conversion?.currency ?? null),
    ratings.map(({ sale }) => sale.conversion?.rate ?? null),
    ratings.map(({ sale }) => sale.conversion?.rateDate ?? null),
  ])
  return result.rows.reduce((sum, row) => sum + row.event_count, 0)
}
