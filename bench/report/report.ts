import type { Client } from 'pg'
import { z } from 'zod'
import { spawnService } from '../../test/harness/service.ts'
import { startBenchDatabase } from '../database.ts'
import { type BenchOptions, type Comparison, compare, timed } from '../figures.ts'
import { fillLedger, lastDays } from '../fill-ledger.ts'
import { withClient } from '../ingest/bare-copy.ts'
import { CUSTOMERS } from '../ingest/events.ts'

const DAYS = 30

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
    const { start, end } = lastDays(DAYS)
    await withClient(database.url, (client) =>
      fillLedger(client, {
        events,
        customers: CUSTOMERS,
        start,
        end,
        hasLines: false,
        isRolledUp: false,
        progress,
      }),
    )
    const range: Range = { start: start.toISOString(), end: end.toISOString() }
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
