import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { BillingSystem } from '../../apps/server/src/billing-systems/billing-system.ts'
import {
  createBillingSystems,
  createKeepSecret,
  createStripeClients,
} from '../../apps/server/src/billing-systems/index.ts'
import { handOver } from '../../apps/server/src/billing-systems/outbox/hand-over.ts'
import { claimStep } from '../../apps/server/src/billing-systems/outbox/outbox-store.ts'
import { performSteps } from '../../apps/server/src/billing-systems/outbox/perform-steps.ts'
import { allowedTargets } from '../../apps/server/src/http/forbidden-address.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import {
  CHARGEBEE_CUSTOMER,
  CHARGEBEE_KEY,
  type FakeChargebee,
  startFakeChargebee,
} from '../fake-billing/fake-chargebee.ts'
import { type FakeNetsuite, startFakeNetsuite } from '../fake-billing/fake-netsuite.ts'
import { type FakeQuickbooks, QUICKBOOKS, startFakeQuickbooks } from '../fake-billing/fake-quickbooks.ts'
import {
  createTestDatabase,
  type Receiver,
  startReceiver,
  startService,
  type TestDatabase,
  type TestService,
} from '../harness/index.ts'
import { call } from './api-client.ts'
import { insertOpenInvoice, type OpenInvoice } from './invoices.ts'

/** Files, webhooks, Chargebee, QuickBooks and NetSuite through the real outbox: each is told once, whatever goes wrong. */

const SECRET_KEY = Buffer.alloc(32, 7)
const HOUR_MS = 3_600_000
let clockMs = Date.parse('2026-11-02T00:00:00Z')
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let organizationId: string
let directory: string
let systems: readonly BillingSystem[]
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tokentally-systems-'))
  database = await createTestDatabase()
  service = await startService({
    databaseUrl: database.url,
    roles: 'api',
    now,
    environment: { TOKENTALLY_INVOICE_DIR: directory },
  })
  const { rows } = await database.pool.query<{ id: string }>('select id from organization')
  organizationId = rows[0]?.id ?? ''
  systems = newSystems()
})
afterAll(async () => {
  await service.stop()
  await database.drop()
  await rm(directory, { recursive: true, force: true })
})
beforeEach(async () => {
  await database.pool.query('delete from outbox_step')
  await database.pool.query('delete from billing_system_settings')
  await database.pool.query('update invoice set handed_over_at = now(), void_handed_over_at = now()')
})

/** As in a process of its own: nothing is remembered. */
function newSystems(): readonly BillingSystem[] {
  return createBillingSystems({
    guard: { allowed: allowedTargets(['127.0.0.0/8']) },
    documentsDir: directory,
    keepSecret: createKeepSecret(database.pool, SECRET_KEY),
    stripe: createStripeClients({ url: undefined }),
  })
}

async function setUp(
  system: string,
  settings: Record<string, unknown>,
  secrets: Record<string, string> = {},
): Promise<void> {
  const { status, json } = await call(service, `/api/v1/billing-systems/${system}`, {
    method: 'PUT',
    body: { settings, secrets },
  })
  expect({ status, json }).toMatchObject({ status: 200 })
}

/** Runs the outbox again and again, an hour apart, until nothing waits. */
async function runToTheEnd(): Promise<void> {
  const dependencies = {
    pool: database.pool,
    systems,
    secretKey: SECRET_KEY,
    now,
    random: () => 0.5,
    logger: {
      warn: () => undefined,
      error: (...said: unknown[]) => {
        throw new Error('the outbox logged an error', { cause: said })
      },
    },
    metrics: createMetrics(),
  }
  for (let round = 0; round < 12; round++) {
    await handOver(dependencies)
    await performSteps(dependencies)
    clockMs += HOUR_MS
    if ((await steps()).every(({ status }) => status !== 'waiting')) return
  }
}

async function steps() {
  const { rows } = await database.pool.query<{
    action: string
    status: string
    attempts: number
    last_error: string | null
    result: Record<string, unknown> | null
  }>('select action, status, attempts, last_error, result from outbox_step order by system, stream, step_no')
  return rows
}

/** Of a customer of its own, unless one is named. */
const openInvoice = (amounts: readonly string[], more: Partial<OpenInvoice> = {}) =>
  insertOpenInvoice(database.pool, { organizationId, customer: randomUUID(), amounts, now: now(), ...more })

async function numberOf(invoiceId: string): Promise<string> {
  const { rows } = await database.pool.query<{ number: string }>(
    'select number from invoice where invoice_id = $1',
    [invoiceId],
  )
  return rows[0]?.number ?? ''
}

let notes = 0
async function issueCreditNote(invoiceId: string, amount: string): Promise<string> {
  notes += 1
  const number = `CN-2026-${String(notes).padStart(6, '0')}`
  const id = randomUUID()
  await database.pool.query(
    `insert into credit_note (organization_id, credit_note_id, invoice_id, number, reason, currency, total, api_key_id,
       idempotency_key, created_at)
     values ($1, $2, $3, $4, 'calls that failed', 'USD', $5, $6, $4, $7)`,
    [organizationId, id, invoiceId, number, amount, randomUUID(), now()],
  )
  await database.pool.query('insert into credit_note_line values ($1, $2, 1, $3)', [
    organizationId,
    id,
    amount,
  ])
  return number
}

async function voidInvoice(invoiceId: string): Promise<void> {
  await database.pool.query("update invoice set status = 'void', voided_at = $2 where invoice_id = $1", [
    invoiceId,
    now(),
  ])
}

describe('files', () => {
  const folder = () => join(directory, organizationId, 'documents')

  it('has an invoice, its credit note and its voiding as JSON and CSV, once', async () => {
    await setUp('file', {})
    const id = await openInvoice(['10.00', '-1.50'], { customer: 'acme' })
    const number = await numberOf(id)
    await runToTheEnd()
    const note = await issueCreditNote(id, '2.00')
    await voidInvoice(id)
    await runToTheEnd()

    const written = (await readdir(folder())).filter(
      (name) => name.startsWith(number) || name.startsWith(note),
    )
    expect(written.sort()).toEqual([
      `${note}.csv`,
      `${note}.json`,
      `${number}-void.csv`,
      `${number}-void.json`,
      `${number}.csv`,
      `${number}.json`,
    ])
    expect(JSON.parse(await readFile(join(folder(), `${number}.json`), 'utf8'))).toMatchObject({
      number,
      customer_id: 'acme',
      total: '8.5',
      lines: [{ amount: '10.00' }, { kind: 'discount', amount: '-1.50' }],
    })
    expect(await readFile(join(folder(), `${number}.csv`), 'utf8')).toBe(
      'invoice_number,customer_id,line_no,kind,description,is_late,events,quantity,currency,amount\r\n' +
        `${number},acme,1,usage,model-1,false,1,1000,USD,10.00\r\n` +
        `${number},acme,2,discount,model-2,false,1,1000,USD,-1.50\r\n`,
    )
  })

  it('a worker that died after writing leaves one file; another content is never overwritten', async () => {
    await setUp('file', { formats: ['json'] })
    const first = await numberOf(await openInvoice(['1.00']))
    const second = await numberOf(await openInvoice(['2.00']))
    await runToTheEnd()
    const content = await readFile(join(folder(), `${first}.json`), 'utf8')
    await writeFile(join(folder(), `${second}.json`), 'mine')
    // As if the worker had died before it noted that the steps were done.
    await database.pool.query(
      "update outbox_step set status = 'waiting', done_at = null, result = null, next_attempt_at = $1",
      [now()],
    )
    await runToTheEnd()
    expect(await readFile(join(folder(), `${first}.json`), 'utf8')).toBe(content)
    expect(await readFile(join(folder(), `${second}.json`), 'utf8')).toBe('mine')
    expect((await readdir(folder())).filter((name) => name.endsWith('.tmp'))).toEqual([])
    expect((await steps()).map(({ status, last_error }) => [status, last_error])).toEqual(
      expect.arrayContaining([
        ['done', null],
        ['refused', expect.stringContaining(`${second}.json is there with another content`)],
      ]),
    )
  })

  it('leaves the folder of the organization to nobody', async () => {
    const { status, json } = await call(service, '/api/v1/billing-systems/file', {
      method: 'PUT',
      body: { settings: { folder: '../other' } },
    })
    expect(status).toBe(400)
    expect(json).toMatchObject({ errors: [{ path: 'settings.folder' }] })
  })

  it('a dry run writes what would be sent and sends nothing', async () => {
    const receiver = await startReceiver()
    await setUp(
      'webhook',
      { url: receiver.url, dry_run: true },
      { signing_secret: `whsec_${Buffer.alloc(32).toString('base64')}` },
    )
    await openInvoice(['3.00'])
    await runToTheEnd()
    await receiver.stop()
    expect(receiver.received).toEqual([])
    expect(await steps()).toMatchObject([{ status: 'done', result: { dry_run: true } }])
    const dry = join(directory, organizationId, 'dry-run', 'webhook')
    const [file = ''] = await readdir(dry)
    expect(JSON.parse(await readFile(join(dry, file), 'utf8'))).toMatchObject({
      system: 'webhook',
      action: 'send:invoice.finalized',
      payload: { type: 'invoice.finalized' },
    })
  })
})

describe('webhooks', () => {
  const secret = `whsec_${createHash('sha256').update('webhook').digest('base64')}`
  let receiver: Receiver
  beforeEach(async () => {
    receiver = await startReceiver()
    await setUp('webhook', { url: `${receiver.url}/hook` }, { signing_secret: secret })
  })
  afterEach(() => receiver.stop())

  it('tells of an invoice, a credit note and a voiding, signed', async () => {
    const id = await openInvoice(['10.00'])
    await runToTheEnd()
    await issueCreditNote(id, '1.00')
    await voidInvoice(id)
    await runToTheEnd()
    expect(receiver.received.map(({ json }) => json)).toMatchObject([
      { type: 'invoice.finalized', data: { id, total: '10' } },
      { type: 'credit_note.issued', data: { invoice_id: id, total: '1.00' } },
      { type: 'invoice.voided', data: { id } },
    ])
    const [first] = receiver.received
    // Verified at the time it was signed for: the library's own clock is today's.
    const signed = Number(first?.headers['webhook-timestamp']) * 1000
    const id_ = String(first?.headers['webhook-id'])
    expect(new Webhook(secret).sign(id_, new Date(signed), first?.body ?? '')).toBe(
      first?.headers['webhook-signature'],
    )
  })

  it('is tried again with the same id and body; 410 ends it', async () => {
    let answers = 0
    receiver.answer((response) => {
      answers += 1
      if (answers === 1) response.destroy()
      else response.writeHead(answers === 2 ? 500 : 200).end()
    })
    await openInvoice(['10.00'])
    await runToTheEnd()
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(new Set(receiver.received.map(({ body }) => body)).size).toBe(1)
    expect(await steps()).toMatchObject([{ status: 'done', attempts: 3 }])

    receiver.answer((response) => response.writeHead(410).end())
    await openInvoice(['11.00'])
    await runToTheEnd()
    expect(await steps()).toContainEqual(
      expect.objectContaining({ status: 'refused', last_error: 'The receiver answered 410' }),
    )
  })
})

describe('Chargebee', () => {
  let chargebee: FakeChargebee
  const profile = { system: 'chargebee' as const, chargebee_customer_id: CHARGEBEE_CUSTOMER, net_days: 14 }
  beforeEach(async () => {
    chargebee = await startFakeChargebee(now)
    await setUp('chargebee', { site: 'acme-test', api_url: chargebee.url }, { api_key: CHARGEBEE_KEY })
  })
  afterEach(() => chargebee.stop())

  it('has the lines as charges, what is negative as a discount, and the same total', async () => {
    const number = await numberOf(await openInvoice(['10.00', '2.55', '-1.50'], { profile }))
    await openInvoice(['5.00'])
    await runToTheEnd()
    expect(chargebee.invoices).toMatchObject([
      {
        po_number: number,
        total: 1105,
        currency_code: 'USD',
        line_items: [
          { description: 'model-1', amount: 1000 },
          { description: 'model-2', amount: 255 },
        ],
      },
    ])
  })

  it.each([
    ['an answer that is lost', false],
    ['an answer that is lost, and a key that is forgotten', true],
  ])('creates one invoice and one credit note in spite of %s', async (_name, isForgotten) => {
    const isPost = ({ method }: { method: string }) => method === 'POST'
    const id = await openInvoice(['10.00'], { profile })
    chargebee.fail({ kind: 'lost_answer' }, (request) => {
      if (!isPost(request)) return false
      if (isForgotten) setImmediate(() => chargebee.forgetKeys())
      return true
    })
    await runToTheEnd()
    expect(chargebee.invoices).toHaveLength(1)

    const number = await issueCreditNote(id, '4.00')
    chargebee.fail({ kind: 'lost_answer' }, (request) => {
      if (!isPost(request)) return false
      if (isForgotten) setImmediate(() => chargebee.forgetKeys())
      return true
    })
    await runToTheEnd()
    expect(chargebee.creditNotes).toMatchObject([{ type: 'adjustment', total: 400, customer_notes: number }])

    chargebee.fail({ kind: 'lost_answer' }, isPost)
    await voidInvoice(id)
    await runToTheEnd()
    expect(chargebee.invoices[0]?.status).toBe('voided')
    expect((await steps()).map(({ action, status }) => [action, status])).toEqual([
      ['create_invoice', 'done'],
      ['choose_credit_note_type', 'done'],
      ['create_credit_note', 'done'],
      ['void_invoice', 'done'],
    ])
  })

  it('gives back what was paid', async () => {
    const id = await openInvoice(['10.00'], { profile })
    await runToTheEnd()
    const [invoice] = chargebee.invoices
    if (invoice !== undefined) Object.assign(invoice, { status: 'paid', amount_due: 0 })
    await issueCreditNote(id, '4.00')
    await runToTheEnd()
    expect(chargebee.creditNotes).toMatchObject([{ type: 'refundable', total: 400 }])
  })

  it('waits as long as it is told, and tries again after an outage', async () => {
    const limited = { message: 'slow down', api_error_code: 'api_request_limit_exceeded' }
    chargebee.fail({ kind: 'answer', status: 429, headers: { 'retry-after': '7200' }, body: limited })
    chargebee.fail({ kind: 'answer', status: 503, body: undefined })
    chargebee.fail({ kind: 'lost_request' })
    await openInvoice(['10.00'], { profile })
    const startMs = clockMs
    await runToTheEnd()
    expect(chargebee.invoices).toHaveLength(1)
    expect(clockMs - startMs).toBeGreaterThanOrEqual(2 * HOUR_MS)
    expect(await steps()).toMatchObject([{ status: 'done', attempts: 4 }])
  })

  it('a refusal stands on the step', async () => {
    await openInvoice(['10.00'], { profile: { ...profile, chargebee_customer_id: 'gone' } })
    await openInvoice(['10.00'], { profile: { ...profile, chargebee_customer_id: null } })
    await runToTheEnd()
    expect((await steps()).map(({ status, last_error }) => `${status}: ${last_error}`).sort()).toEqual([
      'refused: Chargebee answered 404 resource_not_found (customer_id): customer not found',
      'refused: The billing profile has no chargebee_customer_id.',
    ])
  })
})

describe('QuickBooks Online', () => {
  let quickbooks: FakeQuickbooks
  const settings = () => ({
    realm_id: QUICKBOOKS.realm,
    client_id: QUICKBOOKS.clientId,
    api_url: quickbooks.url,
    token_url: `${quickbooks.url}/oauth2/v1/tokens/bearer`,
    accounts: { receivable: QUICKBOOKS.receivable, revenue: '79', discounts: '86' },
  })
  beforeEach(async () => {
    quickbooks = await startFakeQuickbooks()
    systems = newSystems()
    await setUp(
      'quickbooks',
      { ...settings(), default_customer: '58' },
      { client_secret: QUICKBOOKS.clientSecret, refresh_token: QUICKBOOKS.refreshToken },
    )
  })
  afterEach(() => quickbooks.stop())
  const isEntry = ({ url }: { url: URL }) => url.pathname.endsWith('/journalentry')

  it('has an entry for the invoice, the credit note and the voiding, each once in spite of lost answers', async () => {
    const id = await openInvoice(['10.00', '-1.50'])
    const number = await numberOf(id)
    quickbooks.fail({ kind: 'lost_answer' }, isEntry)
    await runToTheEnd()
    const note = await issueCreditNote(id, '2.00')
    quickbooks.fail({ kind: 'lost_answer' }, isEntry)
    await runToTheEnd()
    await voidInvoice(id)
    quickbooks.fail({ kind: 'lost_request' }, isEntry)
    await runToTheEnd()
    expect(quickbooks.entries.map(({ DocNumber }) => DocNumber)).toEqual([number, note, `${number}-V`])
    expect(
      quickbooks.entries[0]?.Line.map(({ Amount, JournalEntryLineDetail: { PostingType, AccountRef } }) => [
        PostingType,
        AccountRef.value,
        Amount,
      ]),
    ).toEqual([
      ['Debit', '84', 8.5],
      ['Credit', '79', 10],
      ['Debit', '86', 1.5],
    ])
  })

  it('asks for another access token when one is refused, and keeps the refresh token that it is given', async () => {
    await openInvoice(['1.00'])
    await runToTheEnd()
    expect(quickbooks.refreshToken()).toBe('refresh-1')
    quickbooks.endAccessTokens()
    await openInvoice(['2.00'])
    await runToTheEnd()
    // Another process knows no token: it has what was stored.
    systems = newSystems()
    await openInvoice(['3.00'])
    await runToTheEnd()
    expect(quickbooks.entries).toHaveLength(3)
    expect((await steps()).every(({ status }) => status === 'done')).toBe(true)
  })

  it('many steps at once ask for one token', async () => {
    for (let index = 0; index < 8; index++) await openInvoice(['1.00'])
    await runToTheEnd()
    expect(quickbooks.entries).toHaveLength(8)
    expect(quickbooks.refreshToken()).toBe('refresh-1')
  })

  it('a customer without an id, an account that is refused and an ended connection stand on the step', async () => {
    await setUp('quickbooks', settings())
    await openInvoice(['1.00'], { customer: 'stranger' })
    await runToTheEnd()
    await setUp('quickbooks', { ...settings(), default_customer: '58' })
    expect(await steps()).toMatchObject([
      { status: 'refused', last_error: expect.stringContaining('no customer for stranger') },
    ])
    const errors = [{ Message: 'Invalid Reference Id', Detail: 'inactive', code: '2500' }]
    quickbooks.fail({ kind: 'answer', status: 400, body: { Fault: { Error: errors } } }, isEntry)
    await openInvoice(['2.00'])
    await runToTheEnd()
    expect(await steps()).toContainEqual(
      expect.objectContaining({
        status: 'refused',
        last_error: 'answered 400: Invalid Reference Id (2500), inactive',
      }),
    )
    systems = newSystems()
    quickbooks.fail({ kind: 'answer', status: 400, body: { error: 'invalid_grant' } })
    await openInvoice(['3.00'])
    await runToTheEnd()
    expect(await steps()).toContainEqual(
      expect.objectContaining({ last_error: expect.stringContaining('connect the company anew') }),
    )
  })

  it('a worker that dies after the call leaves one entry', async () => {
    await openInvoice(['1.00'])
    await runToTheEnd()
    await database.pool.query(
      "update outbox_step set status = 'waiting', done_at = null, result = null, next_attempt_at = $1",
      [now()],
    )
    // It had taken the step, and was killed.
    expect(await claimStep(database.pool, 'quickbooks', now(), 60_000)).toBeDefined()
    clockMs += 2 * 60_000
    await runToTheEnd()
    expect(quickbooks.entries).toHaveLength(1)
    expect(await steps()).toMatchObject([{ status: 'done' }])
  })
})

describe('NetSuite', () => {
  let netsuite: FakeNetsuite
  beforeEach(async () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 3072 })
    netsuite = await startFakeNetsuite(publicKey)
    systems = newSystems()
    await setUp(
      'netsuite',
      {
        account_id: '1234567_SB1',
        client_id: 'client-of-netsuite',
        certificate_id: 'certificate-1',
        api_url: netsuite.url,
        subsidiary: '1',
        currencies: { EUR: '4' },
        customers: { 'acme corp': '710' },
        accounts: { receivable: '119', revenue: '54', discounts: '55' },
      },
      { private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
    )
  })
  afterEach(() => netsuite.stop())
  const isPut = ({ method }: { method: string }) => method === 'PUT'

  it('has an entry for each, once in spite of lost answers, and its lines once', async () => {
    const id = await openInvoice(['10.00', '-1.50'], { customer: 'acme corp' })
    netsuite.fail({ kind: 'lost_answer' }, isPut)
    await runToTheEnd()
    await voidInvoice(id)
    netsuite.fail({ kind: 'lost_answer' }, isPut)
    await runToTheEnd()
    expect([...netsuite.records.keys()]).toEqual([
      `tokentally-invoice-${id}`,
      `tokentally-invoice_void-${id}`,
    ])
    expect(netsuite.records.get(`tokentally-invoice-${id}`)).toMatchObject({
      subsidiary: { id: '1' },
      line: {
        items: [
          { account: { id: '119' }, debit: 8.5, entity: { id: '710' } },
          { account: { id: '54' }, credit: 10 },
          { account: { id: '55' }, debit: 1.5 },
        ],
      },
    })
    expect(netsuite.records.get(`tokentally-invoice-${id}`)?.line.items).toHaveLength(3)
  })

  it('asks for another token when one is refused, waits out limits, and names what refuses', async () => {
    await openInvoice(['1.00'])
    await runToTheEnd()
    netsuite.endAccessTokens()
    netsuite.fail({ kind: 'answer', status: 429, headers: { 'retry-after': '30' } }, isPut)
    await openInvoice(['2.00'])
    await openInvoice(['3.00'], { currency: 'CHF', customer: 'swiss' })
    await runToTheEnd()
    expect(netsuite.records.size).toBe(2)
    const refused = (await steps()).filter(({ status }) => status !== 'done')
    expect(refused).toMatchObject([{ last_error: expect.stringContaining('no id for the currency CHF') }])
  })

  it('a key that is not known is refused with what to check', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const { json } = await call(service, '/api/v1/billing-systems/netsuite')
    await call(service, '/api/v1/billing-systems/netsuite', {
      method: 'PUT',
      body: {
        settings: z.object({ settings: z.unknown() }).parse(json).settings,
        secrets: { private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
      },
    })
    await openInvoice(['1.00'])
    await runToTheEnd()
    expect(await steps()).toMatchObject([
      {
        status: 'refused',
        last_error: expect.stringContaining('check client_id, certificate_id and private_key'),
      },
    ])
  })
})

describe('the journal', () => {
  it('is shown in every form, and a period as CSV that balances', async () => {
    await setUp('journal', { accounts: { receivable: '1200', revenue: '4000', discounts: '4900' } })
    clockMs = Date.parse('2027-02-10T00:00:00Z')
    const id = await openInvoice(['10.00', '-1.50'], { customer: 'books' })
    const number = await numberOf(id)
    const note = await issueCreditNote(id, '2.00')
    clockMs += HOUR_MS
    await voidInvoice(id)
    const path = `/api/v1/invoices/${id}/journal`

    const shown = await call(service, path)
    expect(shown.json).toMatchObject({
      entries: [{ reference: number }, { reference: note }, { reference: `${number}-V` }],
    })
    const csv = await call(service, `${path}?format=csv`)
    const rows = [
      'entry_id,reference,kind,date,customer_id,currency,account,debit,credit,memo',
      `invoice:${id},${number},invoice,2027-02-10,books,USD,1200,8.5,,${number} books`,
      `invoice:${id},${number},invoice,2027-02-10,books,USD,4000,,10,model-1`,
      `invoice:${id},${number},invoice,2027-02-10,books,USD,4900,1.5,,model-2`,
    ]
    expect(csv.text.split('\r\n').slice(0, 4)).toEqual(rows)
    const period = await call(service, '/api/v1/journal.csv?start=2027-02-10&end=2027-02-11')
    expect(period.text).toBe(csv.text)
    const before = await call(service, '/api/v1/journal.csv?start=2027-02-09&end=2027-02-10')
    expect(before.text).toBe(`${rows[0]}\r\n`)

    expect(await call(service, `${path}?format=quickbooks`)).toMatchObject({ status: 409 })
    await setUp('quickbooks', {
      realm_id: '1',
      client_id: 'c',
      default_customer: '9',
      accounts: { receivable: '84', revenue: '79' },
    })
    const quickbooks = await call(service, `${path}?format=quickbooks`)
    expect(quickbooks.json).toMatchObject({ entries: [{ DocNumber: number }, {}, {}] })
    await setUp('netsuite', {
      account_id: '1',
      client_id: 'c',
      certificate_id: 'k',
      accounts: { receivable: '119', revenue: '54' },
    })
    const netsuite = await call(service, `${path}?format=netsuite`)
    expect(netsuite.json).toMatchObject({ entries: [{ externalId: `tokentally-invoice-${id}` }, {}, {}] })
    const imported = await call(service, `${path}?format=netsuite_csv`)
    expect(imported.text.split('\r\n')[1]).toBe(
      `tokentally-invoice-${id},02/10/2027,,USD,,Invoice ${number},119,8.5,,${number} books,`,
    )
    expect(await call(service, `/api/v1/invoices/${randomUUID()}/journal`)).toMatchObject({ status: 404 })
  })

  it('names the setting that is wrong', async () => {
    const { json } = await call(service, '/api/v1/billing-systems/journal', {
      method: 'PUT',
      body: { settings: { accounts: { receivable: '', revenue: '1', revenue_rules: [{ account: '2' }] } } },
    })
    expect(json).toMatchObject({
      errors: [{ path: 'settings.accounts.receivable' }, { path: 'settings.accounts.revenue_rules.0' }],
    })
  })
})

it('a third of all answers is lost, and each system has each invoice once', async () => {
  const random = lcg(20_261_124)
  const isLost = () => random() < 1 / 3
  const chargebee = await startFakeChargebee(now)
  const quickbooks = await startFakeQuickbooks()
  const receiver = await startReceiver()
  systems = newSystems()
  await setUp('file', {})
  await setUp(
    'webhook',
    { url: receiver.url },
    { signing_secret: `whsec_${Buffer.alloc(32).toString('base64')}` },
  )
  await setUp('chargebee', { site: 'acme-test', api_url: chargebee.url }, { api_key: CHARGEBEE_KEY })
  await setUp(
    'quickbooks',
    {
      realm_id: QUICKBOOKS.realm,
      client_id: QUICKBOOKS.clientId,
      api_url: quickbooks.url,
      token_url: `${quickbooks.url}/oauth2/v1/tokens/bearer`,
      default_customer: '58',
      accounts: { receivable: QUICKBOOKS.receivable, revenue: '79' },
    },
    { client_secret: QUICKBOOKS.clientSecret, refresh_token: QUICKBOOKS.refreshToken },
  )
  receiver.answer((response) => (isLost() ? response.destroy() : response.end()))
  const numbers: string[] = []
  for (let index = 0; index < 30; index++) {
    const profile = { system: 'chargebee' as const, chargebee_customer_id: CHARGEBEE_CUSTOMER }
    const cents = 100 + Math.floor(random() * 10_000)
    const amount = `${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, '0')}`
    numbers.push(await numberOf(await openInvoice([amount, '0.01'], { profile })))
    for (const fake of [chargebee, quickbooks]) {
      if (!isLost()) continue
      fake.fail({ kind: random() < 0.7 ? 'lost_answer' : 'lost_request' }, ({ method, url }) => {
        return method === 'POST' && !url.pathname.startsWith('/oauth2')
      })
    }
  }
  await runToTheEnd()
  await Promise.all([chargebee.stop(), quickbooks.stop(), receiver.stop()])

  const expected = numbers.toSorted()
  expect(chargebee.invoices.map(({ po_number }) => po_number).toSorted()).toEqual(expected)
  expect(quickbooks.entries.map(({ DocNumber }) => DocNumber).toSorted()).toEqual(expected)
  expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(30)
  const files = await readdir(join(directory, organizationId, 'documents'))
  expect(numbers.every((number) => files.includes(`${number}.json`) && files.includes(`${number}.csv`))).toBe(
    true,
  )
  const { rows } = await database.pool.query<{ number: string; cents: string }>(
    'select number, round(total * 100)::text as cents from invoice where number = any($1)',
    [numbers],
  )
  const told = new Map(chargebee.invoices.map(({ po_number, total }) => [po_number, String(total)]))
  for (const { number, cents } of rows) expect([number, told.get(number)]).toEqual([number, cents])
  expect((await steps()).every(({ status }) => status === 'done')).toBe(true)
})

/** Chance that is the same in every run. */
function lcg(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
}
