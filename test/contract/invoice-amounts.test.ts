import {
  type Decimal,
  decimal,
  decimalText,
  invoiceDigits,
  LINE_DIMENSIONS,
  type LineDimension,
  ZERO,
} from '@tokentally/core'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { rateLate } from '../../apps/server/src/ledger/index.ts'
import { createRatingBookCache } from '../../apps/server/src/pricing/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, sendUsage, submissionOf } from './api-client.ts'

/**
 * The CSV of an invoice, its lines, its total and what its entries cost are the same to the cent, and every entry of the
 * ledger is on exactly one invoice: for random customers, rules, currencies, corrections, late events and late prices.
 * The expected amounts are worked out here, entry by entry, from the rows of the ledger.
 *
 * INVOICE_TEST_CUSTOMERS=10000 runs it with that many customers.
 */

const CUSTOMERS = Number(process.env['INVOICE_TEST_CUSTOMERS'] ?? '24')
const RUNS = Math.max(3, Math.ceil(CUSTOMERS / 100))
const CUSTOMERS_A_RUN = Math.ceil(CUSTOMERS / RUNS)
/** All requests of a large run would take hours: events of lines are compared for these. */
const EVENTS_COMPARED_MAX = 400

const START_MS = Date.UTC(2026, 7, 1)
const DAY_MS = 24 * 3_600_000
const USAGE_DAYS = 95
const END_DAY = 130
const MODELS = ['gpt-4o-mini', 'gpt-4o', 'own']

let database: TestDatabase
let service: TestService
let nowMs = START_MS
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date(nowMs), roles: 'api' })
  for (let day = -40; day < END_DAY; day += 7) {
    await database.pool.query(
      `insert into fx_rate (source, currency, valid_from, units_per_eur)
       values ('ecb', 'USD', $1, $2), ('ecb', 'JPY', $1, $3)`,
      [new Date(START_MS + day * DAY_MS), usdPerEur(day), '160'],
    )
  }
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

/** A power of two, and of five, so that quotients are exact and need no other rounding to be expected. */
const usdPerEur = (day: number) => (day % 2 === 0 ? '1.25' : '1.6')
const unitsPerUsd = (currency: string, day: number) =>
  currency === 'EUR' ? (day % 2 === 0 ? '0.8' : '0.625') : day % 2 === 0 ? '128' : '100'

const wholeAmount = fc.oneof(fc.constant('0'), fc.integer({ min: 1, max: 30 }).map(String))
const customerArb = fc.record({
  profile: fc.record({
    starts_on: fc.constantFrom('2026-08-01', '2026-08-13', '2026-09-20'),
    cycle: fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          interval: fc.constant<'month' | 'week'>('month'),
          anchor_day: fc.constantFrom(1, 15, 31),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          interval: fc.constant<'month' | 'week'>('week'),
          anchor_weekday: fc.integer({ min: 1, max: 7 }),
        }),
      },
    ),
    timezone: fc.constantFrom('UTC', 'America/New_York', 'Asia/Kathmandu'),
    currency: fc.constantFrom('USD', 'EUR', 'JPY'),
    lines_by: fc.subarray([...LINE_DIMENSIONS]),
    allowance: wholeAmount,
    discount: fc.constantFrom('0', '0.1', '0.333333', '1'),
    minimum: fc.oneof({ weight: 4, arbitrary: fc.constant('0') }, { weight: 1, arbitrary: wholeAmount }),
    grace_hours: fc.constantFrom(0, 24, 72),
    finalize: fc.constantFrom('auto', 'manual'),
  }),
  paysIn: fc.constantFrom('USD', 'EUR', 'JPY'),
  rule: fc.constantFrom(undefined, { markup: 0.1337 }, { discount: 0.07 }, { minimum: 0.0123 }),
  events: fc.array(
    fc.record({
      day: fc.double({ min: 0, max: USAGE_DAYS, noNaN: true }),
      /** Days until it arrives. */
      delay: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 50, noNaN: true })),
      model: fc.constantFrom(...MODELS),
      feature: fc.constantFrom(undefined, 'chat', 'a, "quoted"\nfeature'),
      project: fc.constantFrom(undefined, 'p1'),
      input_tokens: fc.integer({ min: 1, max: 3_000_000 }),
      output_tokens: fc.integer({ min: 0, max: 400_000 }),
      correction: fc.oneof(
        { weight: 3, arbitrary: fc.constant(undefined) },
        {
          weight: 1,
          arbitrary: fc.record({
            after: fc.double({ min: 0, max: 40, noNaN: true }),
            change: fc.constantFrom(
              { void: true },
              { set: { feature: 'mended' } },
              { set: { input_tokens: 7 } },
              { set: { customer_id: 'next' } },
            ),
          }),
        },
      ),
    }),
    { maxLength: 6 },
  ),
})
type Customer = typeof customerArb extends fc.Arbitrary<infer T> ? T : never

const closingDays = fc
  .uniqueArray(fc.integer({ min: 20, max: END_DAY - 1 }), { minLength: 2, maxLength: 5 })
  .map((days) => [...days.toSorted((a, b) => a - b), END_DAY])

interface Action {
  readonly day: number
  readonly body: object
}

let runs = 0

it('CSV = lines = total = what the entries cost, and each entry is on one invoice', async () => {
  const size = CUSTOMERS_A_RUN
  await fc.assert(
    fc.asyncProperty(
      fc.array(customerArb, { minLength: size, maxLength: size, size: 'max' }),
      closingDays,
      async (customers, days) => {
        const run = `run${runs++}`
        await play(run, customers, days)
        await check(run)
      },
    ),
    { numRuns: RUNS, endOnFailure: true },
  )
}, 3_600_000)

/** What invoices had carried in, by id, as it follows from those before. */
const carriedIn = new Map<string, Decimal>()

async function play(run: string, customers: readonly Customer[], days: readonly number[]): Promise<void> {
  nowMs = START_MS
  const nameOf = (index: number) => `${run}-${index % customers.length}`
  const events: Action[] = []
  const corrections: Action[] = []
  for (const [index, { profile, paysIn, rule, events: own }] of customers.entries()) {
    const customer = nameOf(index)
    await database.pool.query(
      `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
       select id, $1, $2, now(), now() from organization`,
      [customer, JSON.stringify(profile)],
    )
    if (paysIn !== 'USD') await posted(`/api/v1/customers/${customer}`, { currency: paysIn }, 'PUT')
    if (rule !== undefined) await posted('/api/v1/markup-rules', { customer, ...rule })
    for (const [number, event] of own.entries()) {
      const id = `${customer}-${number}`
      const arrives = event.day + event.delay
      events.push({
        day: arrives,
        body: {
          event_id: id,
          ts: new Date(START_MS + event.day * DAY_MS).toISOString(),
          customer_id: customer,
          feature: event.feature,
          project_id: event.project,
          provider: event.model === 'own' ? 'own' : 'openai',
          model: event.model === 'own' ? `own-${run}` : event.model,
          input_tokens: event.input_tokens,
          output_tokens: event.output_tokens,
        },
      })
      if (event.correction === undefined) continue
      const { after, change } = event.correction
      const moved = 'set' in change && 'customer_id' in change.set
      corrections.push({
        day: arrives + after,
        body: {
          reason: 'a test',
          select: { event_ids: [id] },
          change: moved ? { set: { customer_id: nameOf(index + 1) } } : change,
        },
      })
    }
  }
  let from = 0
  let isPriced = false
  const held = new Map<string, Decimal>()
  for (const day of days) {
    const due = ({ day: at }: Action) => at >= from && at < day
    nowMs = START_MS + day * DAY_MS
    const sent = events.filter(due).map(({ body }) => body)
    if (sent.length > 0) expect(submissionOf(await sendUsage(service, sent)).accepted).toBe(sent.length)
    for (const { body } of corrections.filter(due)) await posted('/api/v1/corrections', body)
    if (!isPriced && day > 60) {
      isPriced = true
      const rates = {
        input_tokens: { price: '1.234567', per: 1_000_000 },
        output_tokens: { price: '3', per: 1_000_000 },
      }
      await posted('/api/v1/prices', { provider: 'own', model: `own-${run}`, rates })
      const book = await (await createRatingBookCache(database.pool)).refresh()
      await rateLate(database.pool, book, () => new Date(nowMs))
    }
    const { invoice_ids: ids } = z
      .object({ invoice_ids: z.array(z.string()) })
      .parse(await posted('/api/v1/invoices/close', {}))
    await carry(ids, held)
    from = day
  }
}

/** Carries negative invoices forward, and notes what each invoice must have been carried in. */
async function carry(ids: readonly string[], held: Map<string, Decimal>): Promise<void> {
  const { rows } = await database.pool.query<{
    invoice_id: string
    key: string
    status: string
    total: string
  }>(
    `select invoice_id, customer_id || '/' || currency as key, status, total::text
     from invoice where invoice_id = any($1) order by period_start`,
    [ids],
  )
  for (const { invoice_id, key } of rows) {
    const balance = held.get(key)
    if (balance === undefined) continue
    carriedIn.set(invoice_id, balance)
    held.delete(key)
  }
  for (const { invoice_id, key, status, total } of rows) {
    if (status !== 'blocked') continue
    await posted(`/api/v1/invoices/${invoice_id}/carry-forward`, undefined)
    held.set(key, (held.get(key) ?? ZERO).plus(decimal(total)))
  }
}

async function posted(path: string, body: object | undefined, method = 'POST'): Promise<unknown> {
  const answer = await call(service, path, { method, ...(body !== undefined && { body }) })
  expect([path, answer.status < 300, answer.text]).toEqual([path, true, expect.any(String)])
  return answer.json
}

interface Entry {
  readonly key: string
  readonly customer_id: string
  readonly ts: Date
  readonly position: string
  readonly sign: number
  readonly sell: string
  readonly sell_currency: string | null
  readonly fx_rate: string | null
  readonly feature: string | null
  readonly model: string | null
  readonly provider: string | null
  readonly project: string | null
}

interface Closed {
  readonly invoice_id: string
  readonly customer_id: string
  readonly period_start: Date
  readonly period_end: Date
  readonly position: string
  readonly currency: string
  readonly status: string
  readonly profile: {
    readonly lines_by: readonly ('feature' | 'model' | 'provider' | 'project' | 'meter')[]
    readonly allowance: string
    readonly discount: string
    readonly minimum: string
  }
}

const ENTRIES = `
  select 'event/' || event.event_id as key, event.customer_id, event.ts, batch.position::text,
    case event.entry_kind when 'reversal' then -1 else 1 end as sign, event.sell_cost_usd::text as sell,
    event.sell_currency, event.fx_rate::text, event.feature, event.model, event.provider, event.project_id as project
  from usage_event as event join ledger_batch as batch using (organization_id, batch_id)
  where event.customer_id like $1
  union all
  select 'late_rating/' || late.event_id, event.customer_id, late.ts, batch.position::text, 1, late.sell_cost_usd::text,
    late.sell_currency, late.fx_rate::text, event.feature, event.model, event.provider, event.project_id
  from late_rating as late
  join usage_event as event using (organization_id, event_id)
  join ledger_batch as batch on batch.batch_id = late.batch_id
  where event.customer_id like $1`

async function check(run: string): Promise<void> {
  const { rows: entries } = await database.pool.query<Entry>(ENTRIES, [`${run}-%`])
  const { rows: invoices } = await database.pool.query<Closed>(
    'select * from invoice where customer_id like $1 order by customer_id, period_start',
    [`${run}-%`],
  )
  const chains = Map.groupBy(invoices, ({ customer_id }) => customer_id)
  const made = new Map<string, { entry: Entry; isLate: boolean }[]>()
  for (const entry of entries) {
    const owner = invoiceOf(entry, chains.get(entry.customer_id) ?? [])
    if (owner === undefined) continue
    const list = made.get(owner.invoice.invoice_id) ?? []
    list.push({ entry, isLate: owner.isLate })
    made.set(owner.invoice.invoice_id, list)
  }
  let compared = 0
  for (const invoice of invoices) {
    const own = made.get(invoice.invoice_id) ?? []
    await checkInvoice(invoice, own, compared < EVENTS_COMPARED_MAX)
    compared += own.length > 0 ? 1 : 0
  }
}

/** The one invoice that an entry must be on; undefined: before the first cycle, or in one that is not closed yet. */
function invoiceOf(entry: Entry, chain: readonly Closed[]) {
  const at = chain.findIndex(
    ({ period_start, period_end }) => period_start <= entry.ts && entry.ts < period_end,
  )
  if (at === -1) return undefined
  const position = Number(entry.position)
  expect(position).toBeGreaterThan(0)
  const index = chain.findIndex((invoice, i) => i >= at && Number(invoice.position) >= position)
  const invoice = chain[index]
  if (invoice === undefined) throw new Error(`${entry.key} is on no invoice`)
  return { invoice, isLate: index > at }
}

const answerSchema = z.object({
  total: z.string(),
  lines: z.array(
    z.object({
      line_no: z.number(),
      kind: z.string(),
      is_late: z.boolean(),
      keys: z.record(z.string(), z.string().nullable()),
      exact_amount: z.string(),
      amount: z.string(),
    }),
  ),
})

async function checkInvoice(
  invoice: Closed,
  own: readonly { entry: Entry; isLate: boolean }[],
  withEvents: boolean,
): Promise<void> {
  const url = `/api/v1/invoices/${invoice.invoice_id}`
  const { lines, total } = answerSchema.parse((await call(service, url)).json)
  const { currency, profile } = invoice
  const { lines_by: linesBy } = profile
  const digits = invoiceDigits(currency)
  const unit = (amount: string) => units(decimal(amount), digits)

  // The total, from the entries alone.
  const exact = own.reduce((sum, { entry }) => sum.plus(amountOf(entry, invoice)), ZERO)
  const usage = units(exact, digits)
  const allowance = min(unit(profile.allowance), max(usage, 0n))
  const discount = units(
    decimal(max(usage - allowance, 0n))
      .times(decimal(`1e-${digits}`))
      .times(decimal(profile.discount)),
    digits,
  )
  const rest = usage - allowance - discount
  const minimum = max(unit(profile.minimum) - max(rest, 0n), 0n)
  const before = rest + minimum + unit(decimalText(carriedIn.get(invoice.invoice_id) ?? ZERO))
  const expected = max(before, 0n)
  // What comes to nothing has nothing to be paid.
  const status = expected === 0n ? /^(draft|paid)$/ : /^(draft|open)$/
  expect([invoice.status, unit(total)]).toEqual([expect.stringMatching(status), expected])

  // The lines: exact sums by their keys; they add up to the total.
  expect(lines.reduce((sum, { amount }) => sum + unit(amount), 0n)).toBe(expected)
  const usageLines = lines.filter(({ kind }) => kind === 'usage')
  const names = linesBy.filter((name) => name !== 'meter')
  const byKeys = (late: boolean, value: (name: Exclude<LineDimension, 'meter'>) => string | null) =>
    JSON.stringify([late, ...names.map(value)])
  const expectedLines = new Map<string, Decimal>()
  for (const { entry, isLate } of own) {
    const key = byKeys(isLate, (name) => entry[name])
    expectedLines.set(key, (expectedLines.get(key) ?? ZERO).plus(amountOf(entry, invoice)))
  }
  const found = new Map<string, Decimal>()
  for (const line of usageLines) {
    const key = byKeys(line.is_late, (name) => line.keys[name] ?? null)
    found.set(key, (found.get(key) ?? ZERO).plus(decimal(line.exact_amount)))
    expect(
      decimal(line.amount)
        .minus(decimal(line.exact_amount))
        .abs()
        .lt(decimal(`1e-${digits}`)),
    ).toBe(true)
  }
  expect(texts(found)).toEqual(texts(expectedLines))

  // The CSV: the rows of a line add up to it, and none is a whole unit off.
  const rows = parseCsv((await call(service, `/api/v1/usage.csv?invoice=${invoice.invoice_id}`)).text).slice(
    1,
  )
  for (const line of lines) {
    const ofLine = rows.filter((cells) => cells[7] === String(line.line_no))
    expect(
      ofLine.every(
        (cells) => cells[0] === invoice.customer_id && cells[6] === currency && cells[8] === line.kind,
      ),
    ).toBe(true)
    expect(ofLine.reduce((sum, cells) => sum + unit(cells[5] ?? ''), 0n)).toBe(unit(line.amount))
    const exactRows = ofLine.reduce((sum, cells) => sum.plus(decimal(cells[9] ?? '')), ZERO)
    expect(decimalText(exactRows)).toBe(line.exact_amount)
    for (const cells of ofLine) {
      const off = decimal(cells[5] ?? '')
        .minus(decimal(cells[9] ?? ''))
        .abs()
      expect(off.lt(decimal(`1e-${digits}`))).toBe(true)
    }
  }
  expect(rows.reduce((sum, cells) => sum + unit(cells[5] ?? ''), 0n)).toBe(expected)

  // The entries, one by one.
  if (!withEvents) return
  const listed: string[] = []
  for (const line of usageLines) {
    const { json } = await call(service, `${url}/lines/${line.line_no}/events?limit=1000`)
    const { events } = z
      .object({ events: z.array(z.object({ event_id: z.string(), source: z.string(), amount: z.string() })) })
      .parse(json)
    const sum = events.reduce((amount, event) => amount.plus(decimal(event.amount)), ZERO)
    expect(decimalText(sum)).toBe(line.exact_amount)
    listed.push(...events.map(({ event_id, source }) => `${source}/${event_id}`))
  }
  const keys = own.map(({ entry }) => entry.key).toSorted()
  expect((linesBy.includes('meter') ? [...new Set(listed)] : listed).toSorted()).toEqual(keys)
}

/** What an entry is in the invoice's currency: at its own rate, or at the last of the cycle's last day. */
function amountOf(entry: Entry, { currency, period_end }: Closed): Decimal {
  const sold = decimal(entry.sell).times(decimal(String(entry.sign)))
  if (currency === 'USD') return sold
  if (entry.sell_currency === currency) return sold.times(decimal(entry.fx_rate ?? ''))
  const endDay = (period_end.getTime() - START_MS) / DAY_MS
  const day = -40 + 7 * (Math.ceil((endDay + 40) / 7) - 1)
  return sold.times(decimal(unitsPerUsd(currency, day)))
}

/** Smallest units, rounded half to even, digit by digit. */
function units(amount: Decimal, digits: number): bigint {
  const text = decimalText(amount.times(decimal(`1e${digits}`)))
  const isNegative = text.startsWith('-')
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.')
  const down = BigInt(whole)
  const half = fraction === '' ? -1 : fraction.localeCompare('5')
  const up = half > 0 || (half === 0 && down % 2n === 1n) ? down + 1n : down
  return isNegative ? -up : up
}

const min = (a: bigint, b: bigint) => (a < b ? a : b)
const max = (a: bigint, b: bigint) => (a > b ? a : b)
const texts = (amounts: ReadonlyMap<string, Decimal>) =>
  [...amounts].map(([key, amount]) => [key, decimalText(amount.plus(ZERO))]).toSorted()

/** RFC 4180. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = []
  let row: string[] = []
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    row.push(quoted?.replaceAll('""', '"') ?? plain ?? '')
    if (end === ',') continue
    rows.push(row)
    row = []
  }
  return rows
}
