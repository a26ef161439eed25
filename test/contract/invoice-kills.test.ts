import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, spawnService, type TestDatabase, waitFor } from '../harness/index.ts'
import { call, sendUsage, submissionOf } from './api-client.ts'

/** The service is killed while it closes cycles: no line is lost, none is doubled. */

const CUSTOMERS = 600
const MONTHS = ['2026-01', '2026-02', '2026-03']
/** How far the closing has come when the service is killed. */
const KILLED_WHEN = [
  'select from ledger_position',
  "select from invoice where status = 'pending'",
  "select from invoice where status = 'open'",
]

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

it('closes each cycle once, whenever it is killed', async () => {
  // Without workers, so that nothing is closed between the kills; the last one closes by its job.
  const victim = { databaseUrl: database.url, roles: 'api' }
  let service = await spawnService(victim)
  const customers = Array.from({ length: CUSTOMERS }, (_, index) => `customer-${index}`)
  for (const month of MONTHS) {
    const events = customers.map((customer_id, index) => ({
      event_id: `${customer_id}-${month}`,
      ts: `${month}-15T00:00:00Z`,
      customer_id,
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 1_000_000 + index,
    }))
    expect(submissionOf(await sendUsage(service, events)).accepted).toBe(CUSTOMERS)
  }
  // More customers than a transaction takes: a kill may find some of them closed.
  await database.pool.query(
    `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
     select organization.id, customer, $2, now(), now() from organization, unnest($1::text[]) as customer`,
    [
      customers,
      { starts_on: '2026-01-01', ends_on: '2026-04-01', finalize: 'auto', lines_by: ['model', 'feature'] },
    ],
  )
  for (const [index, reached] of KILLED_WHEN.entries()) {
    const closing = call(service, '/api/v1/invoices/close', { body: {} }).catch(() => undefined)
    await waitFor(async () => ((await database.pool.query(reached)).rowCount ?? 0) > 0, reached)
    await service.kill()
    await closing
    const isLast = index === KILLED_WHEN.length - 1
    service = await spawnService(isLast ? { databaseUrl: database.url } : victim)
  }
  try {
    await waitFor(async () => {
      const { rows } = await database.pool.query<{ open: number }>(
        "select count(*)::int as open from invoice where status = 'open'",
      )
      return rows[0]?.open === CUSTOMERS * MONTHS.length
    }, 'all cycles are closed')
    const { rows } = await database.pool.query<Record<string, unknown>>(`
      select count(*)::int as invoices, count(distinct (customer_id, period_start))::int as cycles,
        count(distinct number)::int as numbers, right(max(number), 6)::int as last_number,
        (select count(*)::int from invoice_line) as lines,
        (select sum(events)::int from invoice_line) as events,
        (select trim_scale(sum(sell_cost_usd))::text from invoice_line) as sold,
        (select trim_scale(sum(sell_cost_usd))::text from usage_event) as used,
        (select count(*)::int from ledger_batch where position is null) as unplaced
      from invoice`)
    const all = CUSTOMERS * MONTHS.length
    expect(rows[0]).toMatchObject({
      invoices: all,
      cycles: all,
      numbers: all,
      last_number: all,
      lines: all,
      events: all,
      unplaced: 0,
    })
    expect(rows[0]?.['sold']).toBe(rows[0]?.['used'])
  } finally {
    await service.stop()
  }
}, 240_000)
