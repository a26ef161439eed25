import type { Client } from 'pg'
import { MODELS } from './ingest/events.ts'

const FEATURES = 10
const BATCH_EVENTS = 5_000
const DAY_MS = 24 * 3_600_000

export interface LedgerFill {
  readonly events: number
  readonly customers: number
  readonly start: Date
  /** Excluded. */
  readonly end: Date
  /** With the lines of their rating, as ingestion writes them; without, rows take a third of the space. */
  readonly hasLines: boolean
  /** Leaves the service's own rollup nothing to do; the rollups stay empty. */
  readonly isRolledUp: boolean
  readonly progress: (text: string) => void
}

/** A range of days that ended at the last midnight of UTC. */
export function lastDays(days: number): { readonly start: Date; readonly end: Date } {
  const end = new Date()
  end.setUTCHours(0, 0, 0, 0)
  return { start: new Date(end.getTime() - days * DAY_MS), end }
}

/**
 * Writes events by SQL, spread evenly over a range, customers, 5 models and 10 features, in batches of 5,000; for the
 * one organization that there is.
 */
export async function fillLedger(client: Client, fill: LedgerFill): Promise<void> {
  const { events, customers, start, end, progress } = fill
  await client.query(`
    create temporary table bench_set as
    select row_number() over () - 1 as n, gen_random_uuid() as id, 'customer-' || c as customer_id,
      m.provider, m.model, 'feature-' || f as feature
    from generate_series(0, ${customers - 1}) as c,
      (values ${MODELS.map(([provider, model]) => `('${provider}', '${model}')`).join(', ')}) as m (provider, model),
      generate_series(1, ${FEATURES}) as f;
    create index on bench_set (n);
    analyze bench_set`)
  for (let month = start.getTime(); month < end.getTime(); month += 14 * DAY_MS) {
    await client.query('select ensure_usage_partition($1)', [new Date(month)])
  }
  await client.query('select ensure_usage_partition($1)', [end])
  const organization = '(select id from organization limit 1)'
  await client.query(
    `insert into dimension_set (organization_id, dimension_set_id, customer_id, feature, provider, model, operation, status)
     select ${organization}, id, customer_id, feature, provider, model, 'chat', 'ok' from bench_set`,
  )
  const stepMs = (end.getTime() - start.getTime()) / events
  const perStatement = 200_000
  for (let from = 0; from < events; from += perStatement) {
    const to = Math.min(events, from + perStatement) - 1
    await client.query(
      `insert into usage_event (organization_id, event_id, ts, batch_id, dimension_set_id, received_at, customer_id,
         feature, provider, model, operation, status, streamed, estimated, input_tokens, cache_read_tokens,
         output_tokens, rating_status, lines, list_cost_usd, sell_cost_usd, price_version_id, latency_ms)
       select ${organization}, 'bench-' || i, $1::timestamptz + i * ${stepMs} * interval '1 millisecond', i / ${BATCH_EVENTS} + 1,
         s.id, now(), s.customer_id, s.feature, s.provider, s.model, 'chat', 'ok', true, false, 1000 + i % 3000, i % 400,
         20 + i % 700, 'rated', ${fill.hasLines ? LINES : `'[]'`}, cost.usd, cost.usd, gen_random_uuid(), 400.5
       from generate_series(${from}::bigint, ${to}::bigint) as i
       join bench_set as s on s.n = (i * 7919) % ${customers * MODELS.length * FEATURES}
       cross join lateral (
         select (1000 + i % 3000 - i % 400) * 0.00000015 + (i % 400) * 0.000000075 + (20 + i % 700) * 0.0000006 as usd
       ) as cost`,
      [start],
    )
    progress(`${(to + 1).toLocaleString('en-US')} of ${events.toLocaleString('en-US')} events`)
  }
  await client.query(
    `insert into ledger_batch (organization_id, batch_id, event_count, ts_min, ts_max, rolled_up_at)
     select organization_id, batch_id, count(*), min(ts), max(ts), ${fill.isRolledUp ? 'now()' : 'null::timestamptz'}
     from usage_event group by 1, 2`,
  )
  await client.query("select setval('ledger_batch_id', (select max(batch_id) from ledger_batch))")
  await client.query('vacuum analyze')
}

const LINES = `jsonb_build_array(
           jsonb_build_object('meter', 'input_tokens', 'quantity', (1000 + i % 3000 - i % 400)::text,
             'unit_price_usd', '0.00000015', 'cost_usd', ((1000 + i % 3000 - i % 400) * 0.00000015)::text),
           jsonb_build_object('meter', 'cache_read_tokens', 'quantity', (i % 400)::text,
             'unit_price_usd', '0.000000075', 'cost_usd', ((i % 400) * 0.000000075)::text),
           jsonb_build_object('meter', 'output_tokens', 'quantity', (20 + i % 700)::text,
             'unit_price_usd', '0.0000006', 'cost_usd', ((20 + i % 700) * 0.0000006)::text))`
