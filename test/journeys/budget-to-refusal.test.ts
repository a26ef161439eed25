import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decisionsReady, flush, shutdown, tokenTally } from '@tokentally/express'
import express from 'express'
import OpenAI from 'openai'
import request from 'supertest'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'

/** The whole way back: usage, ledger, budget, decision, stream, and the app's call that is not made. */

let provider: FakeProvider
let database: TestDatabase
let service: TestService
let directory: string

beforeAll(async () => {
  provider = await startFakeProvider()
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  directory = await mkdtemp(join(tmpdir(), 'tokentally-refusal-'))
})
afterAll(async () => {
  await shutdown()
  await service.stop()
  await provider.close()
  await database.drop()
  await rm(directory, { recursive: true })
})

async function api(path: string, method: string, body?: object): Promise<string> {
  const response = await fetch(`${service.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  expect([path, response.ok]).toEqual([path, true])
  return response.text()
}

it('a budget that is used up stops the next call of its customer, and of nobody else, until it is raised', async () => {
  const budget = { name: 'acme', amount: '0.00001', period: 'month', enforcement: 'block' }
  const scope = { dimension: 'customer', value: 'acme' }
  const created = await api('/api/v1/budgets', 'POST', { ...budget, scope })
  const id = /"id":"([^"]+)"/.exec(created)?.[1]

  const app = express()
  app.use(
    tokenTally({
      url: service.url,
      apiKey: service.ownerKey,
      spool: join(directory, 'spool'),
      endpoints: `${provider.url}/v1=openai`,
      enforce: 'closed',
      customer: (req) => req.get('x-customer-id'),
    }),
  )
  const openai = new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1` })
  app.get('/ask', async (_req, res) => {
    const answer = await openai.chat.completions.create({
      model: 'gpt-4o',
      messages: [{ role: 'user', content: 'Hi' }],
    })
    res.send(answer.choices[0]?.message.content)
  })
  const ask = (customer: string) => request(app).get('/ask').set('x-customer-id', customer)
  await decisionsReady()

  expect((await ask('acme')).status).toBe(200)
  expect(await flush()).toBe(0)
  await waitFor(async () => (await ask('acme')).status === 429, 'the budget holds')
  const billed = provider.billed.length
  const refused = await ask('acme')
  expect([refused.status, refused.type]).toEqual([429, 'application/problem+json'])
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
  expect(refused.body).toMatchObject({
    code: 'budget_exceeded',
    scope: { customer: 'acme' },
    budget: { name: 'acme' },
  })
  expect(provider.billed.length).toBe(billed)
  expect((await ask('globex')).status).toBe(200)

  await api(`/api/v1/budgets/${id}`, 'PUT', { ...budget, scope, amount: '1000' })
  await waitFor(async () => (await ask('acme')).status === 200, 'the raised budget is known')
})
