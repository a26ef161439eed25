import { randomUUID } from 'node:crypto'
import { decimal, decimalText, ZERO } from '@tokentally/core'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, submissionOf } from './api-client.ts'

/** Credit notes and the closing of cycles: every entry of the ledger is in one invoice, or settled by one note. */

let database: TestDatabase
let service: TestService
let nowMs = 0
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date(nowMs), roles: 'api' })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const idSchema = z.looseObject({ id: z.string() })
const textOf = async (path: string, body?: object, method = 'POST') => {
  const answer = await call(service, path, { method, ...(body !== undefined && { body }) })
  return { status: answer.status, json: answer.json, text: answer.text }
}

async function closeAndFinalize(customer: string): Promise<void> {
  const closed = await textOf('/api/v1/invoices/close', { customer_id: customer })
  // Nothing is due.
  if (closed.status === 409) return
  expect([closed.status, closed.text]).toEqual([200, expect.any(String)])
  for (const id of z.object({ invoice_ids: z.array(z.string()) }).parse(closed.json).invoice_ids) {
    // Negative ones are blocked, and stay so.
    await textOf(`/api/v1/invoices/${id}/finalize`)
  }
}

/** What invoices and notes have of the ledger, and the ledger itself. */
async function sums(customer: string) {
  const { rows } = await database.pool.query<{
    ledger: string
    invoiced: string
    settled: string
    credited: string
  }>(
    `select (
       select sum(case entry_kind when 'reversal' then -sell_cost_usd else sell_cost_usd end)::text
       from usage_event where customer_id = $1
     ) as ledger, (
       select coalesce(sum(line.exact_amount), 0)::text
       from invoice
       join invoice_line as line using (organization_id, invoice_id, revision)
       where invoice.customer_id = $1 and line.kind = 'usage'
     ) as invoiced, (
       select coalesce(sum(credited.amount), 0)::text
       from credited_entry as credited
       join credit_note using (organization_id, credit_note_id)
       join invoice using (organization_id, invoice_id)
       where invoice.customer_id = $1
     ) as settled, (
       select coalesce(sum(credit_note.total), 0)::text from credit_note join invoice using (organization_id, invoice_id)
       where invoice.customer_id = $1
     ) as credited`,
    [customer],
  )
  const [row] = rows
  const text = (value: string | undefined) => decimalText(decimal(value ?? '0'))
  return {
    ledger: text(row?.ledger),
    covered: decimalText(decimal(row?.invoiced ?? '0').plus(decimal(row?.settled ?? '0'))),
    settled: text(row?.settled),
    credited: text(row?.credited),
  }
}

it('has every entry in one invoice or one note, whatever is corrected and credited when', async () => {
  const MONTHS = 3
  const step = fc.record({
    month: fc.integer({ min: 0, max: MONTHS - 1 }),
    events: fc.array(
      fc.tuple(fc.constantFrom('chat', 'search', 'draw'), fc.integer({ min: 1, max: 3_000_000 })),
      {
        minLength: 1,
        maxLength: 4,
      },
    ),
    correct: fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 0, max: 4_000_000 }), fc.boolean()), {
      maxLength: 3,
    }),
  })
  const linesBy = fc.constantFrom(['feature'], ['model'], [], ['feature', 'provider'])
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 4 }), linesBy, async (steps, lines) => {
      const customer = `closing-${run++}-${randomUUID()}`
      nowMs = Date.parse('2026-08-01T00:00:00Z')
      await database.pool.query(
        `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
         select id, $1, $2, now(), now() from organization`,
        [customer, JSON.stringify({ starts_on: '2026-08-01', lines_by: lines })],
      )
      const standing: string[] = []
      const ordered = steps.toSorted((a, b) => a.month - b.month)
      for (const [index, { month, events, correct }] of ordered.entries()) {
        nowMs = Date.UTC(2026, 7 + month, 10 + index, 12)
        const sent = events.map(([feature, tokens]) => ({
          ...{ event_id: randomUUID(), ts: new Date(nowMs).toISOString(), customer_id: customer, feature },
          ...{ provider: 'openai', model: 'gpt-4o-mini', output_tokens: tokens },
        }))
        submissionOf(await call(service, '/api/v1/usage', { body: sent }))
        standing.push(...sent.map((event) => event.event_id))
        // Past the grace of the cycle before the next.
        nowMs = Date.UTC(2026, 8 + month, 3 + index, 12)
        await closeAndFinalize(customer)
        for (const [which, tokens, isCredited] of correct) {
          const target = standing[which % standing.length] ?? ''
          const done = await textOf('/api/v1/corrections', {
            reason: 'random',
            select: { event_ids: [target] },
            change: tokens === 0 ? { void: true } : { set: { output_tokens: tokens } },
          })
          if (done.status !== 201) continue
          standing.splice(standing.indexOf(target), 1)
          const { id } = idSchema.parse(done.json)
          const { rows } = await database.pool.query<{ event_id: string }>(
            "select event_id from usage_event where correction_id = $1 and entry_kind = 'replacement'",
            [id],
          )
          standing.push(...rows.map((row) => row.event_id))
          if (standing.length === 0) standing.push(target)
          if (isCredited) {
            const noted = await textOf('/api/v1/credit-notes', { correction_id: id })
            expect([201, 409]).toContain(noted.status)
          }
        }
      }
      nowMs = Date.UTC(2026, 8 + MONTHS, 3, 12)
      await closeAndFinalize(customer)
      const { ledger, covered } = await sums(customer)
      expect(covered).toBe(ledger)
    }),
    { numRuns: 30 },
  )
})

it('leaves what a note has settled out of the next invoice', async () => {
  const customer = `settled-${randomUUID()}`
  nowMs = Date.parse('2026-10-05T00:00:00Z')
  await database.pool.query(
    `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
     select id, $1, $2, now(), now() from organization`,
    [customer, JSON.stringify({ starts_on: '2026-10-01', lines_by: ['feature'] })],
  )
  const event = {
    ...{ event_id: randomUUID(), ts: '2026-10-05T00:00:00Z', customer_id: customer, feature: 'chat' },
    ...{ provider: 'openai', model: 'gpt-4o-mini', output_tokens: 10_000_000 },
  }
  submissionOf(await call(service, '/api/v1/usage', { body: event }))
  nowMs = Date.parse('2026-11-03T00:00:00Z')
  await closeAndFinalize(customer)
  const correction = await textOf('/api/v1/corrections', {
    reason: 'a mistake',
    select: { event_ids: [event.event_id] },
    change: { void: true },
  })
  const noted = await textOf('/api/v1/credit-notes', { correction_id: idSchema.parse(correction.json).id })
  expect([noted.status, noted.text]).toEqual([201, expect.any(String)])
  nowMs = Date.parse('2026-12-03T00:00:00Z')
  await closeAndFinalize(customer)
  const { ledger, covered, settled, credited } = await sums(customer)
  expect([ledger, covered]).toEqual(['0', '0'])
  expect(decimal(settled).plus(decimal(credited)).eq(ZERO)).toBe(true)
})
