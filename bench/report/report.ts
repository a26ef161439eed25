import type { Client } from 'pg'
import { z } from 'zod'
import { spawnService } from '../../test/harness/service.ts'
import { startBenchDatabase } from '../database.ts'
import { type BenchOptions, type Comparison, compare } from '../figures.ts'
import { withClient } from '../ingest/bare-copy.ts'
import { CUSTOMERS, MODELS } from '../ingest/events.ts'

const DAYS = 30
const FEATURES = 10
const BATCH_EVENTS = 5_000

/**
 * The 30-day report by customer and model, over HTTP, beside the same sums straight from the ledger in SQL.
 * The events are written by SQL, spread over 30 days, 200 customers, 5 models and 10 features; the rollups
 * are made by the service's own job. Both sides must agree to the last digit.
 */
export async function reportBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const events = isQuick ? 200_000 : 10_000_000
  const database = await startBenchDatabase()
  try {
    // The first start makes the organization.
    await (await spawnService({ databaseUrl: database.url })).stop()
    const range = await withClient(database.url, (client) => fill(client, events, progress))
    const service = await spawnService({ databaseUrl: database.url })
    try {
      await withClient(database.url, (client) => rollUpAll(client, progress))
      const url = `${service.url}/api/v1/costs/aggregate?start=${range.start}&end=${range.end}&group_by=customer_id,model`
      const headers = { authorization: `Bearer ${service.ownerKey}` }
      const pairs: { ours: number; rival: number }[] = []
      await withClient(database.url, async (client) => {
        for (let round = -1; round < (isQuick ? 3 : 5); round++) {
          const ledger = await timed(() => rawReport(client, range))
          const times: number[] = []
          for (let repeat = 0; repeat < 10; repeat++) {
            const report = await timed(async () => {
              const response = await fetch(url, { headers })
              return answerSchema.parse(await response.json())
            })
            times.push(report.ms)
            if (report.result.totals.total_cost !== ledger.result.cost) {
              throw new Error(`${report.result.totals.total_cost} is not ${ledger.result.cost}`)
            }
          }
          const ours = times.toSorted((a, b) => a - b)[5] ?? 0
          progress(`report ${ours.toFixed(1)} ms, from the ledger ${ledger.ms.toFixed(0)} ms`)
          if (round >= 0) pairs.push({ ours, rival: ledger.ms })
        }
      })
      return [
        compare(
          {
            name: `30-day report by customer and model, ${events.toLocaleString('en-US')} events`,
            unit: 'ms',
            rivalName: 'the same sums from the raw ledger',
            bar: '100 ms',
            aim: '20 ms',
          },
          pairs,
        ),
      ]
    } finally {
      await service.stop()
    }
  } finally {
    await database.stop()
  }
}

const answerSchema = z.object({ groups: z.array(z.unknown()), totals: z.object({ total_cost: z.string() }) })

interface Range {
  readonly start: string
  readonly end: string
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const start = performance.now()
  const result = await work()
  return { ms: performance.now() - start, result }
}

async function fill(client: Client, events: number, progress: (text: string) => void): Promise<Range> {
  const end = new Date()
  end.setUTCHours(0, 0, 0, 0)
  const start = new Date(end.getTime() - DAYS * 24 * 3_600_000)
  await client.query(`
    create temporary table bench_set as
    select row_number() over () - 1 as n, gen_random_uuid() as id, 'customer-' || c as customer_id,
      m.provider, m.model, 'feature-' || f as feature
    from generate_series(0, ${CUSTOMERS - 1}) as c,
      (values ${MODELS.map(([provider, model]) => `('${provider}', '${model}')`).join(', ')}) as m (provider, model),
      generate_series(1, ${FEATURES}) as f;
    create index on bench_set (n);
    analyze bench_set`)
  for (let month = start.getTime(); month < end.getTime(); month += 14 * 24 * 3_600_000) {
    await client.query('select ensure_usage_partition($1)', [new Date(month)])
  }
  await client.query('select ensure_usage_partition($1)', [end])
  const organization = '(select id from organization limit 1)'
  await client.query(
    `insert into dimension_set (organization_id, dimension_set_id, customer_id, feature, provider, model, operation, status)
     select ${organization}, id, customer_id, feature, provider, model, 'chat', 'ok' from bench_set`,
  )
  const stepMs = (DAYS * 24 * 3_600_000) / events
  const perStatement = 500_000
  for (let from = 0; from < events; from += perStatement) {
    const to = Math.min(events, from + perStatement) - 1
    await client.query(
      `insert into usage_event (organization_id, event_id, ts, batch_id, dimension_set_id, received_at, customer_id,
         feature, provider, model, operation, status, streamed, estimated, input_tokens, cache_read_tokens,
         output_tokens, rating_status, lines, list_cost_usd, sell_cost_usd, latency_ms)
       select ${organization}, 'bench-' || i, $1::timestamptz + i * ${stepMs} * interval '1 millisecond', i / ${BATCH_EVENTS} + 1,
         s.id, now(), s.customer_id, s.feature, s.provider, s.model, 'chat', 'ok', true, false, 500 + i % 3000, i % 400,
         20 + i % 700, 'rated', '[]', (500 + i % 3000) * 0.00000015, (500 + i % 3000) * 0.00000015, 400.5
       from generate_series(${from}::bigint, ${to}::bigint) as i
       join bench_set as s on s.n = (i * 7919) % ${CUSTOMERS * MODELS.length * FEATURES}`,
      [start],
    )
    progress(`${(to + 1).toLocaleString('en-US')} of ${events.toLocaleString('en-US')} events`)
  }
  await client.query(
    `insert into ledger_batch (organization_id, batch_id, event_count, ts_min, ts_max)
     select organization_id, batch_id, count(*), min(ts), max(ts) from usage_event group by 1, 2`,
  )
  await client.query("select setval('ledger_batch_id', (select max(batch_id) from ledger_batch))")
  await client.query('vacuum analyze')
  return { start: start.toISOString(), end: end.toISOString() }
}

async function rollUpAll(client: Client, progress: (text: string) => void): Promise<void> {
  let last = -1
  for (;;) {
    const { rows } = await client.query<{ open: number }>(
      'select count(*)::int as open from ledger_batch where rolled_up_at is null',
    )
    const open = rows[0]?.open ?? 0
    if (open === 0) break
    if (open !== last) progress(`${open} batches to roll up`)
    last = open
    await client.query('select pg_sleep(1)')
  }
  await client.query('vacuum analyze usage_rollup, usage_summary')
}

async function rawReport(client: Client, range: Range): Promise<{ cost: string }> {
  const { rows } = await client.query<{ cost: string }>(
    `with grouped as (
       select customer_id, model, count(*) as requests, sum(input_tokens) as input_tokens,
         sum(cache_read_tokens) as cache_read_tokens, sum(output_tokens) as output_tokens,
         sum(list_cost_usd) as list_cost_usd, sum(sell_cost_usd) as sell_cost_usd
       from usage_event where ts >= $1 and ts < $2 group by 1, 2
     )
     select trim_scale(sum(sell_cost_usd))::text as cost from grouped`,
    [range.start, range.end],
  )
  return { cost: rows[0]?.cost ?? '' }
}
