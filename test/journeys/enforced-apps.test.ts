import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { budgetErrors, tokenTally as tallyExpress } from '@tokentally/express'
import { tokenTally as tallyKoa } from '@tokentally/koa'
import { decisionsReady, type MeterOptions, shutdown } from '@tokentally/meter'
import express from 'express'
import Koa from 'koa'
import OpenAI from 'openai'
import request from 'supertest'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type FakeDecisions, startFakeDecisions } from '../fake-provider/decisions.ts'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import { waitFor } from '../harness/index.ts'

/** Express and Koa apps with `enforce`, over HTTP: what their clients see of a refused call. */

let service: FakeDecisions
let provider: FakeProvider
let directory: string
const options = (): MeterOptions => ({
  url: service.url,
  apiKey: 'key',
  spool: join(directory, 'spool'),
  enforce: 'closed',
  endpoints: `${provider.url}/v1=openai`,
  onError: () => undefined,
})
const BLOCK = {
  action: 'block',
  scope: { customer: 'acme' },
  reason: 'budget_exceeded',
  budget: { id: 'b1', name: 'acme-budget' },
  detail: 'The budget acme-budget of 500 USD for this month is used up.',
  until: '2099-01-01T00:00:00.000Z',
}
const PROBLEM = {
  type: 'urn:tokentally:problem:budget-exceeded',
  title: 'The budget is used up',
  status: 429,
  detail: 'The budget acme-budget of 500 USD for this month is used up.',
  code: 'budget_exceeded',
  scope: { customer: 'acme' },
  budget: { id: 'b1', name: 'acme-budget' },
  until: '2099-01-01T00:00:00.000Z',
  retry_after_s: expect.any(Number),
}

beforeAll(async () => {
  service = await startFakeDecisions()
  provider = await startFakeProvider()
  directory = await mkdtemp(join(tmpdir(), 'tokentally-enforced-apps-'))
  service.decide(BLOCK)
})
afterAll(async () => {
  await shutdown()
  await service.close()
  await provider.close()
  await rm(directory, { recursive: true, force: true })
})

const openai = () => new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1` })
const chat = { model: 'gpt-4o', messages: [{ role: 'user' as const, content: 'Hi' }] }
const byFetch = () =>
  fetch(`${provider.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(chat),
  })
const CALLS: Readonly<Record<string, () => Promise<unknown>>> = {
  '/sdk': () => openai().chat.completions.create(chat),
  '/fetch': byFetch,
  '/wrapped': () =>
    byFetch().catch((cause: unknown) => Promise.reject(new Error('no summary today', { cause }))),
}

function expressApp(): express.Express {
  const app = express()
  app.use(tallyExpress({ ...options(), customer: (req) => req.get('x-customer-id') }))
  for (const [path, call] of Object.entries(CALLS)) {
    app.get(path, async (_req, res) => {
      await call()
      res.json({ ok: true })
    })
  }
  app.get('/broken', () => {
    throw new Error('broken')
  })
  app.get('/late', async (_req, res) => {
    res.write('begun ')
    await byFetch()
    res.end()
  })
  app.use((_req, res) => void res.status(404).send('nothing here'))
  return app
}

function koaApp() {
  const app = new Koa()
  app.silent = true
  app.use(tallyKoa({ ...options(), customer: (ctx) => ctx.get('x-customer-id') }))
  app.use(async (ctx) => {
    if (ctx.path === '/broken') throw new Error('broken')
    await CALLS[ctx.path]?.()
    ctx.body = { ok: true }
  })
  return app.callback()
}

const APPS = { Express: expressApp, Koa: koaApp }

describe.each(Object.entries(APPS))('an %s app', (_name, makeApp) => {
  let app: Parameters<typeof request>[0]
  beforeAll(async () => {
    app = makeApp()
    expect(await decisionsReady(10_000)).toBe(true)
  })

  it.each(Object.keys(CALLS))('answers 429 with problem details and Retry-After: %s', async (path) => {
    const billed = provider.billed.length
    for (let times = 0; times < 2; times++) {
      const response = await request(app).get(path).set('x-customer-id', 'acme')
      expect(response.status).toBe(429)
      expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
      expect(JSON.parse(response.text)).toEqual(PROBLEM)
      expect(Number(response.headers['retry-after'])).toBe(JSON.parse(response.text).retry_after_s)
    }
    expect(provider.billed).toHaveLength(billed)
  })

  it('serves everybody else, and its own failures stay its own', async () => {
    for (const path of Object.keys(CALLS)) {
      await request(app).get(path).set('x-customer-id', 'globex').expect(200, { ok: true })
    }
    await request(app).get('/broken').set('x-customer-id', 'acme').expect(500)
  })
})

describe('an Express app with error handlers of its own', () => {
  const withHandlers = (...handlers: express.ErrorRequestHandler[]) => {
    const app = express()
    app.use(tallyExpress({ ...options(), customer: (req) => req.get('x-customer-id') }))
    app.get('/', async (_req, res) => void res.json(await CALLS['/sdk']?.()))
    for (const handler of handlers) app.use(handler)
    return request(app).get('/').set('x-customer-id', 'acme')
  }
  const answersAll: express.ErrorRequestHandler = (_error, _req, res, _next) =>
    void res.status(500).send('sorry')
  const passesOn: express.ErrorRequestHandler = (error, _req, _res, next) => next(error)

  it('keeps what they answer', async () => {
    await withHandlers(answersAll).expect(500, 'sorry')
  })

  it('answers 429 where they pass it on, or come after budgetErrors()', async () => {
    await withHandlers(passesOn).expect(429)
    await withHandlers(budgetErrors(), answersAll).expect(429)
  })

  it('cannot answer what is answered already', async () => {
    const late = request(expressApp()).get('/late').set('x-customer-id', 'acme')
    await expect(late).rejects.toThrow()
  })
})

describe('a service that cannot be asked', () => {
  beforeEach(() => {
    service.failWith = 500
    service.cut()
  })

  it('answers 503 where limits are to hold without it', async () => {
    const app = expressApp()
    await waitFor(
      async () => (await request(app).get('/sdk').set('x-customer-id', 'globex')).status === 503,
      'the app knows that it does not know',
    )
    const response = await request(app).get('/fetch').set('x-customer-id', 'globex')
    expect(response.headers['retry-after']).toBe('5')
    expect(JSON.parse(response.text)).toMatchObject({ code: 'decisions_unavailable', status: 503 })
    // What was decided before holds on.
    const blocked = await request(app).get('/fetch').set('x-customer-id', 'acme')
    expect(JSON.parse(blocked.text)).toMatchObject({ code: 'budget_exceeded', status: 429 })
    service.failWith = undefined
    await waitFor(
      async () => (await request(app).get('/sdk').set('x-customer-id', 'globex')).status === 200,
      'it is asked again',
    )
  })
})
