import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf } from './api-client.ts'
import { insertInvoice } from './invoices.ts'

/** How customers are invoiced, as the API keeps it. */

const PROFILES = '/api/v1/billing-profiles'
let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date('2026-11-24T12:00:00Z') })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const profileSchema = z.looseObject({
  customer_id: z.string(),
  currency: z.string(),
  starts_on: z.string(),
  invoiced_until: z.string().nullable(),
  next_cycle: z.object({ start: z.string(), end: z.string(), closes_at: z.string() }).nullable(),
})

const put = (customer: string, body: object) =>
  call(service, `${PROFILES}/${encodeURIComponent(customer)}`, { method: 'PUT', body })

async function putProfile(customer: string, body: object) {
  const answer = await put(customer, body)
  expect([200, 201], answer.text).toContain(answer.status)
  return profileSchema.parse(answer.json)
}

describe('PUT /api/v1/billing-profiles/{customer_id}', () => {
  it('fills in what is left out, and tells the first cycle', async () => {
    const answer = await put('acme / Łódź', { starts_on: '2026-11-10', timezone: 'Europe/Paris' })
    expect(answer.status).toBe(201)
    expect(answer.json).toMatchObject({
      customer_id: 'acme / Łódź',
      currency: 'USD',
      lines_by: ['model'],
      cycle: { interval: 'month', anchor_day: 1 },
      finalize: 'manual',
      invoiced_until: null,
      next_cycle: {
        start: '2026-11-09T23:00:00.000Z',
        end: '2026-11-30T23:00:00.000Z',
        closes_at: '2026-12-01T23:00:00.000Z',
      },
    })
    const read = await call(service, `${PROFILES}/${encodeURIComponent('acme / Łódź')}`)
    expect(read.json).toEqual(answer.json)
  })

  it('takes the place of the whole profile before', async () => {
    await putProfile('replaced', { starts_on: '2026-11-01', discount: '0.1' })
    const after = await put('replaced', { starts_on: '2026-10-01' })
    expect([after.status, after.json]).toEqual([
      200,
      expect.objectContaining({ starts_on: '2026-10-01', discount: '0' }),
    ])
  })

  it.each([
    ['no currency', { currency: 'XQQ' }, 'currency'],
    ['an unknown zone', { timezone: 'Mars/Base' }, 'timezone'],
    ['an amount that is a number', { minimum: 5 }, 'minimum'],
    ['a discount above 1', { discount: '1.5' }, 'discount'],
    ['lines by the same twice', { lines_by: ['model', 'model'] }, 'lines_by'],
    ['an end before the start', { ends_on: '2026-10-01' }, 'ends_on'],
    ['an anchor day that no month has', { cycle: { interval: 'month', anchor_day: 32 } }, 'cycle.anchor_day'],
    ['an id that is none of Stripe', { stripe_customer_id: 'acme' }, 'stripe_customer_id'],
    ['an unknown field', { curency: 'EUR' }, 'curency'],
  ])('refuses %s, and names the field', async (_, fields, path) => {
    const answer = await put('refused', { starts_on: '2026-11-01', ...fields })
    expect(pathsOf(problemOf(answer, 400))).toContain(path)
    expect((await call(service, `${PROFILES}/refused`)).status).toBe(404)
  })

  it('keeps the days that are invoiced, and goes on where the last invoice ended', async () => {
    await putProfile('invoiced', { starts_on: '2026-10-01' })
    await insertInvoice(database.pool, { customer: 'invoiced', start: '2026-10-01', end: '2026-11-01' })

    const moved = problemOf(await put('invoiced', { starts_on: '2026-09-01', ends_on: '2026-10-15' }), 409)
    expect(pathsOf(moved)).toEqual(['starts_on', 'ends_on'])

    const weekly = await putProfile('invoiced', { starts_on: '2026-10-01', cycle: { interval: 'week' } })
    expect(weekly).toMatchObject({
      invoiced_until: '2026-11-01T00:00:00.000Z',
      next_cycle: { start: '2026-11-01T00:00:00.000Z', end: '2026-11-02T00:00:00.000Z' },
    })
    const ended = await putProfile('invoiced', { starts_on: '2026-10-01', ends_on: '2026-11-01' })
    expect(ended.next_cycle).toBeNull()
  })

  it('needs the scope write', async () => {
    const { key } = await createKey(service, ['read'])
    const answer = await call(service, `${PROFILES}/acme`, {
      method: 'PUT',
      body: { starts_on: '2026-11-01' },
      key,
    })
    problemOf(answer, 403)
  })
})

describe('DELETE /api/v1/billing-profiles/{customer_id}', () => {
  it('removes a profile that made no invoices, once', async () => {
    await putProfile('gone', { starts_on: '2026-10-01' })
    expect((await call(service, `${PROFILES}/gone`, { method: 'DELETE' })).status).toBe(204)
    problemOf(await call(service, `${PROFILES}/gone`, { method: 'DELETE' }), 404)
  })

  it('refuses while there are invoices, and tells what to do', async () => {
    await putProfile('kept', { starts_on: '2026-10-01' })
    await insertInvoice(database.pool, { customer: 'kept', start: '2026-10-01', end: '2026-11-01' })
    const problem = problemOf(await call(service, `${PROFILES}/kept`, { method: 'DELETE' }), 409)
    expect(problem.detail).toContain('ends_on')
  })
})

describe('GET /api/v1/billing-profiles', () => {
  it('pages by customer id, each once', async () => {
    for (const customer of ['p-a', 'p-B', 'p-ä']) await putProfile(customer, { starts_on: '2026-11-01' })
    const pageSchema = z.object({
      billing_profiles: z.array(profileSchema),
      next_cursor: z.string().nullable(),
    })
    const seen: string[] = []
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const url: string = `${PROFILES}?limit=2${cursor === undefined ? '' : `&cursor=${cursor}`}`
      const page = pageSchema.parse((await call(service, url)).json)
      seen.push(...page.billing_profiles.map(({ customer_id }) => customer_id))
      cursor = page.next_cursor
    }
    expect(seen.filter((customer) => customer.startsWith('p-'))).toEqual(['p-B', 'p-a', 'p-ä'])
    expect(new Set(seen).size).toBe(seen.length)
    problemOf(await call(service, `${PROFILES}?cursor=nonsense`), 400)
  })
})
