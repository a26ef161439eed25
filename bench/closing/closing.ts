import type { Client } from 'pg'
import { z } from 'zod'
import { spawnService } from '../../test/harness/service.ts'
import { startBenchDatabase } from '../database.ts'
import { type BenchOptions, type Comparison, compare, timed } from '../figures.ts'
import { fillLedger } from '../fill-ledger.ts'
import { withClient } from '../ingest/bare-copy.ts'

const CUSTOMERS = 1_000

/**
 * Closing a month of 1,000 customers over HTTP, from the request to the last finalized invoice; beside the sums of the same
 * events by customer and model straight from the ledger in SQL. Once with lines by model, and once by meter, for which
 * each event is taken apart. Both sides must agree to the last digit.
 */
export async function closingBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const events = isQuick ? 100_000 : Number(process.env['BENCH_CLOSING_EVENTS'] ?? 10_000_000)
  const { start, end } = lastMonth()
  const database = await startBenchDatabase()
  try {
    // The first start makes the organization.
    await (await spawnService({ databaseUrl: database.url })).stop()
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
    const service = await spawnService({ databaseUrl: database.url, roles: 'api' })
    try {
      return await withClient(database.url, async (client) => {
        const comparisons: Comparison[] = []
        for (const linesBy of [['model'], ['model', 'meter']]) {
          const pairs: { ours: number; rival: number }[] = []
          for (let round = -1; round < (isQuick ? 2 : 3); round++) {
            await reset(client, start, linesBy)
            const raw = await timed(() => rawSums(client, start, end))
            const ours = await timed(() => closeAll(service))
            progress(`by ${linesBy.join(', ')}: ${ours.ms.toFixed(0)} ms, raw sums ${raw.ms.toFixed(0)} ms`)
            await check(client, raw.result)
            if (round >= 0) pairs.push({ ours: ours.ms, rival: raw.ms })
          }
          comparisons.push(
            compare(
              {
                name: `closing ${CUSTOMERS.toLocaleString('en-US')} customers, ${events.toLocaleString('en-US')} events, by ${linesBy.join(', ')}`,
                unit: 'ms',
                rivalName: 'sums of the raw ledger by customer and model',
                bar: '300,000 ms',
                aim: '60,000 ms',
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

function lastMonth(): { readonly start: Date; readonly end: Date } {
  const now = new Date()
  return {
    start: new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1, 1)),
    end: new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1)),
  }
}

/** As if nothing had been closed yet. */
async function reset(client: Client, start: Date, linesBy: readonly string[]): Promise<void> {
  await client.query('set session_replication_role = replica')
  await client.query(
    'truncate invoice, invoice_line, invoice_number, ledger_position, billing_profile cascade',
  )
  await client.query('update ledger_batch set position = null')
  await client.query('set session_replication_role = origin')
  await client.query(
    `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
     select organization.id, 'customer-' || c, $1, now(), now()
     from organization, generate_series(0, ${CUSTOMERS - 1}) as c`,
    [{ starts_on: start.toISOString().slice(0, 10), grace_hours: 0, finalize: 'auto', lines_by: linesBy }],
  )
  await client.query('vacuum analyze ledger_batch, billing_profile, invoice, invoice_line')
}

async function rawSums(client: Client, start: Date, end: Date): Promise<string> {
  const { rows } = await client.query<{ sold: string }>(
    `with grouped as (
       select customer_id, model, count(*), sum(input_tokens), sum(output_tokens), sum(list_cost_usd),
         sum(sell_cost_usd) as sold
       from usage_event where ts >= $1 and ts < $2 group by customer_id, model
     )
     select trim_scale(sum(sold))::text as sold from grouped`,
    [start, end],
  )
  return rows[0]?.sold ?? ''
}

async function closeAll(service: { readonly url: string; readonly ownerKey: string }): Promise<void> {
  const response = await fetch(`${service.url}/api/v1/invoices/close`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    body: '{}',
  })
  z.object({ closed: z.literal(CUSTOMERS) }).parse(await response.json())
}

async function check(client: Client, sold: string): Promise<void> {
  const { rows } = await client.query<{ open: number; sold: string }>(
    `select (select count(*)::int from invoice where status = 'open') as open, trim_scale(sum(sell_cost_usd))::text as sold
     from invoice_line`,
  )
  if (rows[0]?.open !== CUSTOMERS) throw new Error(`${rows[0]?.open} of ${CUSTOMERS} invoices are open`)
  if (rows[0].sold !== sold) throw new Error(`${rows[0].sold} is invoiced, ${sold} is in the ledger`)
}
