import { randomUUID } from 'node:crypto'
import { decimal, decimalText, ZERO } from '@tokentally/core'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { findInvoice } from '../../apps/server/src/invoicing/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, submissionOf } from './api-client.ts'
import { type ClosedInvoice, insertFinalizedInvoice, onlyOrganization } from './invoices.ts'

/** Credit notes: by hand, and from corrections. */

let database: TestDatabase
let service: TestService
let test = 0
let customer = ''

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api' })
  for (const [model, price] of [
    ['unit', '1'],
    ['double', '2'],
  ]) {
    const rates = { output_tokens: { price, per: 1 } }
    const answer = await call(service, '/api/v1/prices', {
      body: { provider: 'acme-llm', model, rates, effective_from: '2026-09-01T00:00:00Z' },
    })
    expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  }
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})
beforeEach(() => {
  test++
  customer = `customer-${test}`
})

const noteSchema = z.looseObject({
  id: z.string().nullable(),
  number: z.string().nullable(),
  total: z.string(),
  status: z.string(),
  lines: z.array(z.looseObject({ line_no: z.number(), amount: z.string() })),
})
const issuedSchema = z.looseObject({
  credit_notes: z.array(noteSchema),
  not_credited: z.array(z.looseObject({ entries: z.number(), reason: z.string() })),
})
const invoiced = (lines: ClosedInvoice['lines'], rest: Partial<ClosedInvoice> = {}) =>
  insertFinalizedInvoice(database.pool, { customer, lines, ...rest })
const credit = (invoiceId: string, body: object, headers: Readonly<Record<string, string>> = {}) =>
  call(service, `/api/v1/invoices/${invoiceId}/credit-notes`, {
    body: { reason: 'goodwill', ...body },
    headers,
  })
const creditedOf = async (invoiceId: string) =>
  (await findInvoice(database.pool, await onlyOrganization(database.pool), invoiceId))?.credited
const issued = (answer: { readonly status: number; readonly text: string; readonly json: unknown }) => {
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return noteSchema.parse(answer.json)
}

describe('a credit note by hand', () => {
  it('gives back a part of lines, then the rest in full', async () => {
    const id = await invoiced([{ amount: '100' }, { amount: '50' }, { amount: '-15', kind: 'discount' }])
    const first = issued(await credit(id, { lines: [{ line_no: 2, amount: '12.50' }] }))
    expect(first).toMatchObject({
      number: expect.stringMatching(/^CN-\d{4}-\d{6}$/),
      status: 'issued',
      invoice_id: id,
      customer_id: customer,
      reason: 'goodwill',
      correction_id: null,
      issued_by: 'api',
      total: '12.5',
      lines: [{ line_no: 2, description: 'line 2', amount: '12.5' }],
    })
    const second = issued(await credit(id, { full: true }))
    expect(second.total).toBe('122.5')
    expect(Number(second.number?.slice(-6))).toBe(Number(first.number?.slice(-6)) + 1)
    expect(await creditedOf(id)).toBe('135.0')
    expect(pathsOf(problemOf(await credit(id, { full: true }), 400))).toEqual(['full'])

    const listed = await call(service, `/api/v1/credit-notes?invoice_id=${id}&limit=1`)
    const page = z
      .looseObject({ credit_notes: z.array(noteSchema), next_cursor: z.string() })
      .parse(listed.json)
    expect(page.credit_notes).toMatchObject([{ id: second.id }])
    const rest = await call(
      service,
      `/api/v1/credit-notes?customer_id=${customer}&cursor=${page.next_cursor}`,
    )
    expect(rest.json).toMatchObject({ credit_notes: [{ id: first.id }], next_cursor: null })
    expect((await call(service, `/api/v1/credit-notes/${first.id}`)).json).toEqual(first)
  })

  it('is only shown in a preview', async () => {
    const id = await invoiced([{ amount: '10' }])
    const answer = await credit(id, { full: true, preview: true })
    expect([answer.status, answer.json]).toMatchObject([200, { id: null, status: 'preview', total: '10' }])
    expect(await creditedOf(id)).toBe('0')
  })

  it('is issued once for each key', async () => {
    const id = await invoiced([{ amount: '10' }])
    const key = { 'idempotency-key': randomUUID() }
    const body = { lines: [{ line_no: 1, amount: '4' }] }
    const answers = await Promise.all([credit(id, body, key), credit(id, body, key), credit(id, body, key)])
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 201])
    expect(await creditedOf(id)).toBe('4')
    expect(pathsOf(problemOf(await credit(id, { full: true }, key), 409))).toEqual(['idempotency_key'])
    expect(pathsOf(problemOf(await credit(id, { ...body, idempotency_key: 'x' }, key), 400))).toEqual([
      'idempotency_key',
    ])
  })

  it('never exceeds a line, however many are issued at once', async () => {
    const id = await invoiced([{ amount: '10' }, { amount: '5' }])
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => credit(id, { lines: [{ line_no: 1, amount: '3' }] })),
    )
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3)
    for (const refused of answers.filter(({ status }) => status !== 201)) {
      expect(pathsOf(problemOf(refused, 400))).toEqual(['lines.0.amount'])
    }
    expect(await creditedOf(id)).toBe('9')
  })

  it('is refused for what is not finalized, void or not there, and names wrong fields', async () => {
    problemOf(await credit(randomUUID(), { full: true }), 404)
    problemOf(await credit(await invoiced([{ amount: '10' }], { status: 'void' }), { full: true }), 409)
    const draft = await invoiced([{ amount: '10' }], {
      status: 'draft',
      start: '2026-11-01',
      end: '2026-12-01',
    })
    problemOf(await credit(draft, { full: true }), 409)
    const id = await invoiced([{ amount: '10' }], { start: '2026-12-01', end: '2027-01-01', status: 'paid' })
    expect(pathsOf(problemOf(await credit(id, {}), 400))).toEqual(['lines'])
    expect(pathsOf(problemOf(await credit(id, { lines: [{ line_no: 1, amount: '10.01' }] }), 400))).toEqual([
      'lines.0.amount',
    ])
    expect(pathsOf(problemOf(await credit(id, { full: true, reason: '' }), 400))).toEqual(['reason'])
    const { key } = await createKey(service, ['read'])
    problemOf(
      await call(service, `/api/v1/invoices/${id}/credit-notes`, { body: { reason: 'x', full: true }, key }),
      403,
    )
  })

  it('can be voided, and gives back what it held', async () => {
    const id = await invoiced([{ amount: '10' }])
    const note = issued(await credit(id, { full: true }))
    const voided = await call(service, `/api/v1/credit-notes/${note.id}/void`, { method: 'POST' })
    expect(voided.json).toMatchObject({ status: 'void', number: note.number })
    expect(await creditedOf(id)).toBe('0')
    issued(await credit(id, { full: true }))
    problemOf(await call(service, `/api/v1/credit-notes/${randomUUID()}/void`, { method: 'POST' }), 404)
  })
})

let events = 0
async function use(units: number, fields: object = {}): Promise<string> {
  const id = `credited-${events++}`
  const event = {
    ...{ event_id: id, ts: '2026-10-15T12:00:00Z', customer_id: customer, feature: 'chat' },
    ...{ provider: 'acme-llm', model: 'unit', output_tokens: units },
    ...fields,
  }
  expect(submissionOf(await call(service, '/api/v1/usage', { body: event })).accepted).toBe(1)
  return id
}
async function correct(eventIds: readonly string[], change: object): Promise<string> {
  const answer = await call(service, '/api/v1/corrections', {
    body: { reason: 'a mistake', select: { event_ids: eventIds }, change },
  })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return z.object({ id: z.string() }).parse(answer.json).id
}
const creditCorrection = (correctionId: string, fields: object = {}) =>
  call(service, '/api/v1/credit-notes', { body: { correction_id: correctionId, ...fields } })
const settled = async () => {
  const { rows } = await database.pool.query<{ amount: string }>(
    `select credited.amount::text from credited_entry as credited
     join credit_note using (organization_id, credit_note_id)
     join invoice using (organization_id, invoice_id)
     where invoice.customer_id = $1`,
    [customer],
  )
  return rows.map(({ amount }) => amount)
}

describe('a credit note from a correction', () => {
  it('gives back the decrease of each line, settles those entries, and is issued once', async () => {
    const chat = await use(10)
    const search = await use(7, { feature: 'search' })
    const invoice = await invoiced([
      { amount: '10', keys: { feature: 'chat' } },
      { amount: '7', keys: { feature: 'search' } },
    ])
    const correction = await correct([chat, search], { set: { output_tokens: 4 } })
    const preview = await creditCorrection(correction, { preview: true })
    expect(issuedSchema.parse(preview.json)).toMatchObject({
      preview: true,
      credit_notes: [{ id: null, total: '9' }],
    })
    expect(await settled()).toEqual([])

    const answer = await creditCorrection(correction)
    expect(answer.status).toBe(201)
    const { credit_notes: notes, not_credited: left } = issuedSchema.parse(answer.json)
    expect(notes).toMatchObject([
      {
        ...{ invoice_id: invoice, correction_id: correction, total: '9' },
        lines: [
          { line_no: 1, amount: '6' },
          { line_no: 2, amount: '3' },
        ],
      },
    ])
    expect(left).toEqual([])
    expect((await settled()).map(Number).sort((a, b) => a - b)).toEqual([-10, -7, 4, 4])
    expect(await creditedOf(invoice)).toBe('9')

    const again = await creditCorrection(correction)
    expect([again.status, issuedSchema.parse(again.json).credit_notes]).toEqual([200, notes])
    problemOf(await call(service, `/api/v1/credit-notes/${notes[0]?.id}/void`, { method: 'POST' }), 409)
  })

  it('leaves lines that become more to the next invoice', async () => {
    const chat = await use(10)
    const search = await use(2, { feature: 'search' })
    await invoiced([
      { amount: '10', keys: { feature: 'chat' } },
      { amount: '2', keys: { feature: 'search' } },
    ])
    const correction = await correct([chat, search], { set: { output_tokens: 5 } })
    const answer = issuedSchema.parse((await creditCorrection(correction)).json)
    expect(answer.credit_notes).toMatchObject([{ total: '5', lines: [{ line_no: 1 }] }])
    expect(answer.not_credited).toMatchObject([{ entries: 2, reason: 'Their lines do not become less.' }])
    expect(await settled()).toHaveLength(2)
  })

  it('credits a correction of what was corrected before on the same line', async () => {
    const id = await use(10)
    const invoice = await invoiced([{ amount: '10', keys: { feature: 'chat' } }])
    const first = await correct([id], { set: { output_tokens: 8, feature: 'search' } })
    expect(issuedSchema.parse((await creditCorrection(first)).json).credit_notes).toMatchObject([
      { total: '2' },
    ])
    const { rows } = await database.pool.query<{ event_id: string }>(
      `select event_id from usage_event where correction_id = $1 and entry_kind = 'replacement'`,
      [first],
    )
    const second = await correct([rows[0]?.event_id ?? ''], { void: true })
    expect(issuedSchema.parse((await creditCorrection(second)).json).credit_notes).toMatchObject([
      { total: '8', lines: [{ line_no: 1 }] },
    ])
    expect(await creditedOf(invoice)).toBe('10')
  })

  it('says which invoice has the entries already', async () => {
    const id = await use(10)
    await invoiced([{ amount: '10', keys: { feature: 'chat' } }])
    const correction = await correct([id], { void: true })
    await invoiced([{ amount: '-10', keys: { feature: 'chat' }, isLate: true }], {
      start: '2026-11-01',
      end: '2026-12-01',
      since: '2026-10-01',
    })
    const { rows } = await database.pool.query<{ number: string }>(
      'select number from invoice where customer_id = $1 order by period_start desc limit 1',
      [customer],
    )
    expect(problemOf(await creditCorrection(correction), 409).detail).toContain(rows[0]?.number)
  })

  it('credits the customer that loses events, and leaves them to the next invoice of the one that gets them', async () => {
    const id = await use(10)
    await invoiced([{ amount: '10', keys: { feature: 'chat' } }])
    const correction = await correct([id], { set: { customer_id: `${customer}-other` } })
    const answer = issuedSchema.parse((await creditCorrection(correction)).json)
    expect(answer.credit_notes).toMatchObject([{ customer_id: customer, total: '10' }])
    expect(answer.not_credited).toMatchObject([{ customer_id: `${customer}-other`, entries: 1 }])
  })

  it('gives back no more than the discount left', async () => {
    const id = await use(10)
    const invoice = await invoiced(
      [
        { amount: '10', keys: { feature: 'chat' } },
        { amount: '-2', kind: 'discount' },
      ],
      { profile: { discount: '0.2' } },
    )
    const correction = await correct([id], { void: true })
    expect(issuedSchema.parse((await creditCorrection(correction)).json).credit_notes).toMatchObject([
      { total: '8' },
    ])
    expect(await creditedOf(invoice)).toBe('8')
  })

  it('converts as the line was converted', async () => {
    const id = await use(10)
    await invoiced(
      [
        {
          amount: '9',
          keys: { feature: 'chat' },
          conversions: [
            { soldIn: 'USD', rate: '0.9', rateDate: '2026-10-30', sellCostUsd: '10', amount: '9' },
          ],
        },
      ],
      { currency: 'EUR' },
    )
    const correction = await correct([id], { set: { output_tokens: 5 } })
    expect(issuedSchema.parse((await creditCorrection(correction)).json).credit_notes).toMatchObject([
      { currency: 'EUR', total: '4.5' },
    ])
  })

  it('is refused where nothing was invoiced, and for what is no correction', async () => {
    problemOf(await creditCorrection(randomUUID()), 404)
    const correction = await correct([await use(10)], { void: true })
    expect(problemOf(await creditCorrection(correction), 409).detail).toContain('no finalized invoice')
  })

  it('settles each entry once, however often it is asked for at once', async () => {
    const ids = [await use(3), await use(10)]
    const invoice = await invoiced([{ amount: '13', keys: { feature: 'chat' } }])
    const corrections = [
      await correct([ids[0] ?? ''], { void: true }),
      await correct([ids[1] ?? ''], { void: true }),
    ]
    const answers = await Promise.all(
      [...corrections, ...corrections, ...corrections].map((one) => creditCorrection(one)),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 201, 201])
    const total = (await settled()).reduce((sum, amount) => sum.plus(decimal(amount)), ZERO)
    expect([decimalText(total), await creditedOf(invoice)]).toEqual(['-13', '13'])
  })
})
