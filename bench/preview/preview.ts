import { z } from 'zod'
import { spawnService } from '../../test/harness/service.ts'
import { startBenchDatabase } from '../database.ts'
import { type BenchOptions, type Comparison, compare, timed } from '../figures.ts'
import { fillLedger, lastDays } from '../fill-ledger.ts'
import { withClient } from '../ingest/bare-copy.ts'
import { CUSTOMERS } from '../ingest/events.ts'

const DAYS = 30

/**
 * What a month would have cost under other markup rules, over HTTP, until the last line is read; beside the sums of the
 * same events by customer straight from the ledger in SQL. Once with rules that multiply the list cost, once with a
 * minimum for each event, and once with prices by meter, for which the lines of every event are added up.
 */
export async function previewBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const events = isQuick ? 100_000 : 1_000_000
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
        hasLines: true,
        isRolledUp: true,
        progress,
      }),
    )
    const range: Range = { start: start.toISOString(), end: end.toISOString() }
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
