import { randomUUID } from 'node:crypto'
import { decimal, decimalText, ZERO } from '@tokentally/core'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { defineInvoicingJobs } from '../../apps/server/src/invoicing/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { type Answer, call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Closing cycles: from the ledger to invoices, and back to the events. */

let database: TestDatabase
let service: TestService
/** Another replica on the same database. */
let other: TestService
let nowMs = Date.parse('2026-11-02T12:00:00Z')
beforeAll(async () => {
  database = await createTestDatabase()
  // Without workers: cycles are closed when the test says so.
  const options = { databaseUrl: database.url, now: () => new Date(nowMs), roles: 'api' }
  service = await startService(options)
  other = await startService(options)
})
afterAll(async () => {
  await other.stop()
  await service.stop()
  await database.drop()
})

const lineSchema = z.looseObject({
  line_no: z.number(),
  kind: z.string(),
  description: z.string(),
  is_late: z.boolean(),
  events: z.number(),
  exact_amount: z.string(),
  amount: z.string(),
  conversions: z.array(z.looseObject({ sold_in: z.string(), rate: z.string() })),
})
const invoiceSchema = z.looseObject({
  id: z.string(),
  customer_id: z.string(),
  number: z.string().nullable(),
  status: z.string(),
  reason: z.string().nullable(),
  notes: z.array(z.string()),
  currency: z.string(),
  total: z.string(),
  revision: z.number(),
  due_at: z.string().nullable(),
  paid_at: z.string().nullable(),
  period: z.object({ start: z.string(), end: z.string() }),
})
const fullSchema = invoiceSchema.extend({ lines: z.array(lineSchema) })

const OCTOBER = '2026-10-01'

async function bill(customer: string, fields: object = {}): Promise<void> {
  await database.pool.query(
    `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
     select id, $1, $2, now(), now() from organization
     on conflict (organization_id, customer_id) do update set definition = excluded.definition`,
    [customer, JSON.stringify({ starts_on: OCTOBER, ...fields })],
  )
}

function usage(customer: string, ts: string, fields: object = {}) {
  return {
    event_id: randomUUID(),
    ts,
    customer_id: customer,
    provider: 'openai',
    model: 'gpt-4o-mini',
    input_tokens: 1_234_567,
    output_tokens: 98_765,
    provider_request_id: 'req_1',
    ...fields,
  }
}

const send = async (...events: readonly object[]) =>
  expect(submissionOf(await sendUsage(service, events)).accepted).toBe(events.length)
const close = (body: object, at = service) => call(at, '/api/v1/invoices/close', { body })
const closed = async (customer: string): Promise<readonly string[]> => {
  const answer = await close({ customer_id: customer })
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return z.object({ invoice_ids: z.array(z.string()) }).parse(answer.json).invoice_ids
}
const fullOf = (answer: Answer) => {
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return fullSchema.parse(answer.json)
}
const invoiceOf = async (id: string | undefined) => fullOf(await call(service, `/api/v1/invoices/${id}`))
const act = (id: string, action: string) =>
  call(service, `/api/v1/invoices/${id}/${action}`, { method: 'POST' })
const listed = async (query: string) =>
  z
    .object({ invoices: z.array(invoiceSchema), next_cursor: z.string().nullable() })
    .parse((await call(service, `/api/v1/invoices?${query}`)).json)

/** Closes what is due of a customer: one invoice. */
async function closeOne(customer: string) {
  const ids = await closed(customer)
  expect(ids).toHaveLength(1)
  return invoiceOf(ids[0])
}

interface CsvRow {
  readonly cost: string
  readonly lineNo: number
  readonly exact: string
}

async function csvOf(id: string): Promise<readonly CsvRow[]> {
  const answer = await call(service, `/api/v1/usage.csv?invoice=${id}`)
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/csv; charset=utf-8'])
  const [header, ...rows] = answer.text.trimEnd().split('\r\n')
  expect(header).toBe('customer_id,feature,provider,model,tokens,cost,currency,line_no,kind,exact_cost')
  return rows.map((row) => {
    const cells = row.split(',')
    return { cost: cells[5] ?? '', lineNo: Number(cells[7]), exact: cells[9] ?? '' }
  })
}

const sum = (amounts: readonly string[]) =>
  decimalText(amounts.reduce((total, amount) => total.plus(decimal(amount)), ZERO))

/** An invoice's lines, their CSV and their events tell the same. */
async function expectConsistent(invoice: z.infer<typeof fullSchema>): Promise<void> {
  expect(sum(invoice.lines.map(({ amount }) => amount))).toBe(invoice.total)
  const rows = await csvOf(invoice.id)
  for (const line of invoice.lines) {
    const own = rows.filter(({ lineNo }) => lineNo === line.line_no)
    expect(sum(own.map(({ cost }) => cost))).toBe(line.amount)
    expect(sum(own.map(({ exact }) => exact))).toBe(line.exact_amount)
    const events = await eventsOf(invoice.id, line.line_no)
    if (line.kind === 'usage') expect(sum(events.map(({ amount }) => amount))).toBe(line.exact_amount)
    else expect(events).toEqual([])
  }
  expect(rows.map(({ lineNo }) => lineNo)).toEqual(rows.map(({ lineNo }) => lineNo).toSorted((a, b) => a - b))
}

async function eventsOf(id: string, lineNo: number, limit = 2) {
  const entrySchema = z.looseObject({
    event_id: z.string(),
    amount: z.string(),
    price_version_id: z.string().nullable(),
  })
  const all: z.infer<typeof entrySchema>[] = []
  for (let cursor = ''; ; ) {
    const answer = await call(
      service,
      `/api/v1/invoices/${id}/lines/${lineNo}/events?limit=${limit}${cursor}`,
    )
    expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
    const page = z
      .object({ events: z.array(entrySchema), next_cursor: z.string().nullable() })
      .parse(answer.json)
    all.push(...page.events)
    if (page.next_cursor === null) return all
    cursor = `&cursor=${page.next_cursor}`
  }
}

describe('closing a cycle', () => {
  it('turns the usage of a cycle into a draft, from line to event to price version and back', async () => {
    await bill('acme', { lines_by: ['model', 'feature'] })
    const first = usage('acme', '2026-10-05T10:00:00Z', { feature: 'summarize' })
    await send(
      first,
      usage('acme', '2026-10-31T23:59:59.999Z', { feature: 'summarize', provider_request_id: 'req_2' }),
      usage('acme', '2026-10-07T10:00:00Z', { model: 'gpt-4o' }),
      usage('acme', '2026-11-01T00:00:00Z', { feature: 'summarize' }),
      usage('acme', '2026-09-30T23:59:59Z', { feature: 'summarize' }),
      usage('somebody-else', '2026-10-05T10:00:00Z'),
    )
    const invoice = await closeOne('acme')
    expect(invoice).toMatchObject({
      status: 'draft',
      number: null,
      currency: 'USD',
      period: { start: '2026-10-01T00:00:00.000Z', end: '2026-11-01T00:00:00.000Z' },
      selection: { usage: { start: '2026-10-01T00:00:00.000Z' }, late_usage: null },
    })
    expect(invoice.lines.map(({ description, events }) => [description, events])).toEqual([
      ['gpt-4o · no feature, 1 call', 1],
      ['gpt-4o-mini · summarize, 2 calls', 2],
    ])
    await expectConsistent(invoice)

    const events = await eventsOf(invoice.id, 2, 1)
    expect(events.map(({ provider_request_id }) => provider_request_id)).toEqual(['req_1', 'req_2'])
    const event = z
      .looseObject({
        rating: z.looseObject({ price_version_id: z.string() }),
        invoice_lines: z.array(z.looseObject({})),
      })
      .parse((await call(service, `/api/v1/usage/${first.event_id}`)).json)
    expect(event.rating.price_version_id).toBe(events[0]?.price_version_id)
    expect(event.invoice_lines).toEqual([
      { invoice_id: invoice.id, number: null, status: 'draft', line_no: 2, source: 'event', is_late: false },
    ])
  })

  it('is refused where there is nothing to close, and says why', async () => {
    expect(problemOf(await close({ customer_id: 'acme' }), 409).detail).toMatch(/closed already: invoice/)
    expect(
      problemOf(await close({ customer_id: 'acme', until: '2026-11-01T00:00:00Z' }), 409).detail,
    ).toMatch(/are closed already up to 2026-11-01/)
    problemOf(await close({ customer_id: 'nobody' }), 404)
    await bill('patient', { grace_hours: 48 })
    expect(problemOf(await close({ customer_id: 'patient' }), 409).detail).toContain(
      'from 2026-11-03T00:00:00.000Z on',
    )
    expect(pathsOf(problemOf(await close({ customer: 'acme' }), 400))).toEqual(['customer'])
    const { key } = await createKey(service, ['read'])
    problemOf(await call(service, '/api/v1/invoices/close', { body: {}, key }), 403)
  })

  it('puts late usage on the next invoice, marked; corrections too', async () => {
    await bill('late', { lines_by: [] })
    const mistaken = usage('late', '2026-10-10T00:00:00Z')
    await send(mistaken, usage('late', '2026-10-11T00:00:00Z'))
    const first = await closeOne('late')
    nowMs = Date.parse('2026-11-21T12:00:00Z')
    await send(usage('late', '2026-10-12T00:00:00Z'), usage('late', '2026-11-20T00:00:00Z'))
    const correction = await call(service, '/api/v1/corrections', {
      body: {
        reason: 'a test',
        select: { event_ids: [mistaken.event_id] },
        change: { void: true },
      },
    })
    expect([correction.status, correction.text]).toEqual([201, expect.any(String)])
    // What is frozen stays.
    expect(await invoiceOf(first.id)).toEqual(first)
    expect((await invoiceOf(fullOf(await act(first.id, 'recalculate')).id)).lines).toEqual(first.lines)
    await expectConsistent(first)

    nowMs = Date.parse('2026-12-02T12:00:00Z')
    const second = await closeOne('late')
    expect(second.lines.map(({ description, events }) => [description, events])).toEqual([
      ['Usage, 1 call', 1],
      ['Usage, 0 calls (late usage before 2026-11-01)', 0],
    ])
    await expectConsistent(second)
    expect((await eventsOf(second.id, 2)).map(({ entry_kind }) => entry_kind).toSorted()).toEqual([
      'reversal',
      'usage',
    ])
  })

  it('catches up, cycle by cycle, and numbers what is finalized by itself', async () => {
    await bill('weekly', {
      cycle: { interval: 'week', anchor_weekday: 1 },
      timezone: 'America/New_York',
      starts_on: '2026-10-28',
      ends_on: '2026-11-12',
      finalize: 'auto',
      net_days: 14,
    })
    await send(usage('weekly', '2026-11-02T04:59:59Z'), usage('weekly', '2026-11-02T05:00:00Z'))
    const ids = await closed('weekly')
    const invoices = await Promise.all(ids.map(invoiceOf))
    expect(
      invoices.map(({ period, status, number, lines }) => [period.end, status, number, lines.length]),
    ).toEqual([
      ['2026-11-02T05:00:00.000Z', 'open', 'INV-2026-000001', 1],
      ['2026-11-09T05:00:00.000Z', 'open', 'INV-2026-000002', 1],
      // Nothing is owed.
      ['2026-11-12T05:00:00.000Z', 'paid', 'INV-2026-000003', 0],
    ])
    expect(invoices.map(({ paid_at }) => paid_at)).toEqual([null, null, '2026-12-02T12:00:00.000Z'])
    expect(invoices[0]?.due_at).toBe('2026-12-16T12:00:00.000Z')
    expect(problemOf(await close({ customer_id: 'weekly' }), 409).detail).toMatch(/not invoiced any more/)
    problemOf(await act(ids[0] ?? '', 'recalculate'), 409)
  })

  it('closes one cycle once, on however many replicas', async () => {
    const customers = Array.from({ length: 8 }, (_, index) => `raced-${index}`)
    for (const customer of customers) {
      await bill(customer)
      await send(usage(customer, '2026-10-05T10:00:00Z'), usage(customer, '2026-11-05T10:00:00Z'))
    }
    await Promise.all([close({}), close({}, other), close({ customer_id: 'raced-3' }), close({}, other)])
    const { rows } = await database.pool.query<{ customer_id: string; statuses: string[]; lines: string }>(
      `select customer_id, array_agg(distinct status) as statuses, count(*) as lines, count(distinct period_start) as periods
       from invoice join invoice_line using (organization_id, invoice_id, revision)
       where customer_id like 'raced-%' group by 1 order by 1`,
    )
    expect(rows).toEqual(
      customers.map((customer_id) => ({ customer_id, statuses: ['draft'], lines: '2', periods: '2' })),
    )
  })
})

describe('an invoice', () => {
  it('is in the currency of the profile, at the rates of its events and of its last day', async () => {
    await database.pool.query(`
      insert into fx_rate (source, currency, valid_from, units_per_eur) values
        ('ecb', 'USD', '2026-10-05', 1.25), ('ecb', 'USD', '2026-10-30', 1.6), ('ecb', 'USD', '2026-11-02', 2)`)
    await bill('euro', { currency: 'EUR', lines_by: ['meter'] })
    nowMs = Date.parse('2026-10-06T00:00:00Z')
    await send(usage('euro', '2026-10-05T10:00:00Z'))
    const set = await call(service, '/api/v1/customers/euro', { method: 'PUT', body: { currency: 'EUR' } })
    expect([set.status, set.text]).toEqual([200, expect.any(String)])
    await send(usage('euro', '2026-10-05T11:00:00Z'))
    nowMs = Date.parse('2026-12-02T12:00:00Z')
    const [id] = await closed('euro')
    const invoice = await invoiceOf(id)
    expect(invoice.lines.map(({ description }) => description)).toEqual([
      'input_tokens, 2,469,134 units',
      'output_tokens, 197,530 units',
    ])
    expect(invoice.lines[0]?.conversions.map(({ sold_in, rate }) => [sold_in, rate])).toEqual([
      ['EUR', '0.8'],
      ['USD', '0.625'],
    ])
    await expectConsistent(invoice)
  })

  it('is blocked with the reason, without harm to others, and computed anew when that is mended', async () => {
    await bill('yen', { currency: 'JPY', starts_on: '2026-11-01' })
    await bill('stripe', { system: 'stripe_invoices', starts_on: '2026-11-01' })
    await bill('fine', { starts_on: '2026-11-01', allowance: '0.1', discount: '0.15', minimum: '20' })
    await send(...['yen', 'stripe', 'fine'].map((customer) => usage(customer, '2026-11-05T10:00:00Z')))
    expect((await close({})).status).toBe(200)
    const of = async (customer: string) =>
      invoiceOf((await listed(`customer_id=${customer}`)).invoices[0]?.id)
    expect(await of('yen')).toMatchObject({
      status: 'blocked',
      reason: expect.stringContaining('USD to JPY'),
      lines: [],
    })
    problemOf(await call(service, `/api/v1/usage.csv?invoice=${(await of('yen')).id}`), 409)
    const stripe = await of('stripe')
    expect(stripe).toMatchObject({ status: 'blocked', reason: expect.stringContaining('stripe_customer_id') })
    problemOf(await act(stripe.id, 'finalize'), 409)
    const fine = await of('fine')
    expect(fine.lines.map(({ kind }) => kind)).toEqual(['usage', 'allowance', 'discount', 'minimum'])
    expect(fine.total).toBe('20')
    await expectConsistent(fine)

    await bill('stripe', { system: 'stripe_invoices', stripe_customer_id: 'cus_1', starts_on: '2026-11-01' })
    expect(fullOf(await act(stripe.id, 'recalculate'))).toMatchObject({
      status: 'draft',
      reason: null,
      revision: 2,
    })
    expect(fullOf(await act(stripe.id, 'finalize'))).toMatchObject({
      status: 'open',
      number: 'INV-2026-000004',
    })
  })

  it('that is negative is carried forward to the next', async () => {
    await bill('refunded', { starts_on: '2026-10-01', ends_on: '2027-03-01' })
    const event = usage('refunded', '2026-11-05T10:00:00Z')
    await send(event)
    await closed('refunded')
    await call(service, '/api/v1/corrections', {
      body: { reason: 'a test', select: { event_ids: [event.event_id] }, change: { void: true } },
    })
    nowMs = Date.parse('2027-01-02T12:00:00Z')
    const negative = await closeOne('refunded')
    expect(negative).toMatchObject({ status: 'blocked', reason: expect.stringContaining('negative') })
    await expectConsistent(negative)
    const carried = fullOf(await act(negative.id, 'carry-forward'))
    expect(carried).toMatchObject({ status: 'draft', total: '0' })
    expect(carried.lines.map(({ kind }) => kind)).toEqual(['usage', 'carried_out'])
    await expectConsistent(carried)
    problemOf(await act(negative.id, 'carry-forward'), 409)
    // Computed again, it is carried forward again.
    expect(fullOf(await act(negative.id, 'recalculate'))).toMatchObject({ status: 'draft', total: '0' })

    await send(usage('refunded', '2027-01-01T10:00:00Z', { input_tokens: 9_000_000 }))
    nowMs = Date.parse('2027-02-02T12:00:00Z')
    const next = await closeOne('refunded')
    expect(next.lines.map(({ kind, amount }) => [kind, amount])).toEqual([
      ['usage', '1.41'],
      ['carried_in', negative.total],
    ])
    await expectConsistent(next)
  })

  it('can be voided and reissued, once', async () => {
    nowMs = Date.parse('2026-12-02T12:00:00Z')
    const open = (await listed('customer_id=weekly')).invoices
    const { id, customer_id, total } =
      open.find(({ number }) => number === 'INV-2026-000001') ?? expect.fail()
    expect(fullOf(await act(id, 'void'))).toMatchObject({
      status: 'void',
      number: expect.stringMatching(/^INV-/),
    })
    problemOf(await act(id, 'void'), 409)
    problemOf(await act(id, 'finalize'), 409)
    await expectConsistent(await invoiceOf(id))
    problemOf(await close({ customer_id }), 409)
    const reissued = fullOf(await act(id, 'reissue'))
    expect(reissued).toMatchObject({ customer_id, total, revision: 1 })
    expect(reissued.id).not.toBe(id)
    problemOf(await act(id, 'reissue'), 409)
  })

  it('with events that have no price stays a draft, with a note, until a person finalizes it', async () => {
    await bill('unpriced', { finalize: 'auto', starts_on: '2026-11-01' })
    await send(usage('unpriced', '2026-11-05T10:00:00Z', { model: 'a-model-of-nobody' }))
    const invoice = await closeOne('unpriced')
    expect(invoice).toMatchObject({
      status: 'draft',
      total: '0',
      notes: [expect.stringContaining('1 event has')],
    })
    // Of nothing else: nothing is owed as yet.
    expect(fullOf(await act(invoice.id, 'finalize')).status).toBe('paid')
  })

  it('of zero is paid at once, and can be voided and issued anew, as what was paid cannot', async () => {
    await bill('free', { finalize: 'auto', allowance: '1000', starts_on: '2026-11-01' })
    await send(usage('free', '2026-11-05T10:00:00Z'))
    const first = await closeOne('free')
    expect([first.status, first.total, first.paid_at]).toEqual(['paid', '0', new Date(nowMs).toISOString()])
    expect(first.number).toMatch(/^INV-/)
    await bill('free', { finalize: 'auto', starts_on: '2026-11-01' })
    expect(fullOf(await act(first.id, 'void'))).toMatchObject({ status: 'void', paid_at: null })
    const second = fullOf(await act(first.id, 'reissue'))
    expect(second.status).toBe('open')
    await database.pool.query("update invoice set status = 'paid', paid_at = now() where invoice_id = $1", [
      second.id,
    ])
    problemOf(await act(second.id, 'void'), 409)
  })

  it('by the job is announced when something was computed', async () => {
    await bill('by the job', { finalize: 'auto', starts_on: '2026-11-01' })
    let announced = 0
    const runs: (() => Promise<void>)[] = []
    defineInvoicingJobs(
      { define: (_name, handler) => runs.push(() => handler({})) },
      {
        pool: database.pool,
        now: () => new Date(nowMs),
        logger: pino({ level: 'silent' }),
        onChanged: () => announced++,
      },
    )
    await runs[0]?.()
    expect(announced).toBe(1)
    await runs[0]?.()
    expect(announced).toBe(1)
  })

  it('is listed, page by page', async () => {
    const all: string[] = []
    for (let cursor = ''; ; ) {
      const page = await listed(`limit=3${cursor}`)
      all.push(...page.invoices.map(({ id }) => id))
      if (page.next_cursor === null) break
      cursor = `&cursor=${page.next_cursor}`
    }
    const { rows } = await database.pool.query<{ count: number }>(
      'select count(*)::int as count from invoice',
    )
    expect(new Set(all).size).toBe(rows[0]?.count)
    expect(all).toHaveLength(new Set(all).size)
    expect((await listed('customer_id=weekly&period=2026-11')).invoices).toHaveLength(2)
    expect(pathsOf(problemOf(await call(service, '/api/v1/invoices?cursor=nonsense'), 400))).toEqual([
      'cursor',
    ])
    problemOf(await call(service, `/api/v1/invoices/${randomUUID()}`), 404)
    problemOf(await call(service, `/api/v1/usage.csv?invoice=${randomUUID()}`), 404)
    expect(
      pathsOf(problemOf(await call(service, `/api/v1/usage.csv?invoice=${randomUUID()}&customer=acme`), 400)),
    ).toEqual(['customer'])
  })
})
