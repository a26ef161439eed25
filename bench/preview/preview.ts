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
 * What a month would have cost under other markup rules, over HTTP, until the last line is read; beside the sums of the
 * same events by customer straight from the ledger in SQL. Once with rules that multiply the list cost, and
 * once with a minimum and prices by meter, for which every event is looked at.
 */
export async function previewBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const events = isQuick ? 100_000 : 1_000_000
  const database = await startBenchDatabase()
  try {
    // The first start makes the organization.
    await (await spawnService({ databaseUrl: database.url })).stop()
    const range = await withClient(database.url, (client) => fill(client, events, progress))
    const service = await spawnService({ databaseUrl: database.url })
    try {
      return await withClient(database.url, async (client) => {
        const comparisons: Comparison[] = []
        for (const [name, rules] of RULES) {
          const pairs: { ours: number; rival: number }[] = []
          for (let round = -1; round < (isQuick ? 2 : 5); round++) {
            const ledger = await timed(() => client.query(RAW, [range.start, range.end]))
            const ours = await timed(() => previewOf(service, { ...range, rules }))
            progress(`${name}: ${ours.ms.toFixed(0)} ms, from the ledger ${ledger.ms.toFixed(0)} ms`)
            if (ours.result !== events) throw new Error(`${ours.result} of ${events} events were previewed`)
            if (round >= 0) pairs.push({ ours: ours.ms, rival: ledger.ms })
          }
          comparisons.push(
            compare(
              {
                name: `preview of ${events.toLocaleString('en-US')} events, ${name}`,
                unit: 'ms',
                rivalName: 'sums of the raw ledger by customer',
                bar: '5,000 ms',
              },
              pairs,
            ),
          )
        }
        return comparisons
      })
    } finally {
      await service.stop()
    }
  } finally {
    await database.stop()
  }
}

const RULES: readonly (readonly [name: string, rules: readonly object[]])[] = [
  [
    '200 markups by customer',
    Array.from({ length: CUSTOMERS }, (_, index) => ({
      id: `customer-${index}`,
      customer: `customer-${index}`,
      markup: index / 1000,
    })),
  ],
  ['a minimum for each event', [{ id: 'least', markup: 0.2, minimum: '0.0002' }]],
  [
    'prices by meter',
    [
      {
        id: 'prices',
        prices: {
          input_tokens: { price: '3', per: 1_000_000 },
          output_tokens: { price: '9', per: 1_000_000 },
        },
      },
    ],
  ],
]

const RAW = `
  select customer_id, count(*), sum(list_cost_usd) as list_cost_usd, sum(sell_cost_usd) as sell_cost_usd
  from usage_event where ts >= $1 and ts < $2 group by customer_id`

interface Range {
  readonly start: string
  readonly end: string
}

const lastLine = z.object({ result: z.object({ totals: z.object({ events: z.number() }) }) })

async function previewOf(
  service: { readonly url: string; readonly ownerKey: string },
  body: Range & { readonly rules: readonly object[] },
): Promise<number> {
  const response = await fetch(`${service.url}/api/v1/markup-rules/preview`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const lines = (await response.text()).trimEnd().split('\n')
  return lastLine.parse(JSON.parse(lines.at(-1) ?? '')).result.totals.events
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const start = performance.now()
  const result = await work()
  return { ms: performance.now() - start, result }
}

/** Events as ingestion writes them, with the lines of their rating. */
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
  const perStatement = 100_000
  for (let from = 0; from < events; from += perStatement) {
    const to = Math.min(events, from + perStatement) - 1
    await client.query(
      `insert into usage_event (organization_id, event_id, ts, batch_id, dimension_set_id, received_at, customer_id,
         feature, provider, model, operation, status, streamed, estimated, input_tokens, cache_read_tokens,
         output_tokens, rating_status, lines, list_cost_usd, sell_cost_usd, price_version_id, latency_ms)
       select ${organization}, 'bench-' || i, $1::timestamptz + i * ${stepMs} * interval '1 millisecond', i / ${BATCH_EVENTS} + 1,
         s.id, now(), s.customer_id, s.feature, s.provider, s.model, 'chat', 'ok', true, false, 1000 + i % 3000, i % 400,
         20 + i % 700, 'rated', jsonb_build_array(
           jsonb_build_object('meter', 'input_tokens', 'quantity', (1000 + i % 3000 - i % 400)::text,
             'unit_price_usd', '0.00000015', 'cost_usd', ((1000 + i % 3000 - i % 400) * 0.00000015)::text),
           jsonb_build_object('meter', 'cache_read_tokens', 'quantity', (i % 400)::text,
             'unit_price_usd', '0.000000075', 'cost_usd', ((i % 400) * 0.000000075)::text),
           jsonb_build_object('meter', 'output_tokens', 'quantity', (20 + i % 700)::text,
             'unit_price_usd', '0.0000006', 'cost_usd', ((20 + i % 700) * 0.0000006)::text)),
         cost.usd, cost.usd, gen_random_uuid(), 400.5
       from generate_series(${from}::bigint, ${to}::bigint) as i
       join bench_set as s on s.n = (i * 7919) % ${CUSTOMERS * MODELS.length * FEATURES}
       cross join lateral (
         select (1000 + i % 3000 - i % 400) * 0.00000015 + (i % 400) * 0.000000075 + (20 + i % 700) * 0.0000006 as usd
       ) as cost`,
      [start],
    )
    progress(`${(to + 1).toLocaleString('en-US')} of ${events.toLocaleString('en-US')} events`)
  }
  await client.query('vacuum analyze')
  return { start: start.toISOString(), end: end.toISOString() }
}
