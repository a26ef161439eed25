import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Anthropic from '@anthropic-ai/sdk'
import { attribute, flush, meter, shutdown, tokenTally } from '@tokentally/express'
import { tokenTally as koaTokenTally } from '@tokentally/koa'
import express from 'express'
import Koa from 'koa'
import OpenAI from 'openai'
import * as undici from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'

/** The whole path: app.use, official SDKs, spool, OTLP, ledger, report. */

let provider: FakeProvider
let database: TestDatabase
let service: TestService
let spool: string
const errors: unknown[] = []
const servers: Server[] = []

beforeAll(async () => {
  provider = await startFakeProvider()
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  spool = await mkdtemp(join(tmpdir(), 'tokentally-'))
})

afterAll(async () => {
  await shutdown()
  for (const server of servers) server.close()
  await service.stop()
  await provider.close()
  await database.drop()
  await rm(spool, { recursive: true })
})

beforeEach(() => {
  errors.length = 0
})

const options = () => ({
  url: service.url,
  apiKey: service.ownerKey,
  endpoints: `${provider.url}/v1=openai,${provider.url}=anthropic`,
  spool: join(spool, 'events'),
  onError: (error: unknown) => errors.push(error),
})

const usagePage = z.object({ events: z.array(z.looseObject({ status: z.string() })) })

async function eventsOf(customer: string) {
  expect(await flush()).toBe(0)
  const response = await fetch(`${service.url}/api/v1/usage?customer_id=${customer}&limit=1000`, {
    headers: { authorization: `Bearer ${service.ownerKey}` },
  })
  return usagePage.parse(await response.json()).events.toReversed()
}

function listen(server: Server): Promise<string> {
  servers.push(server)
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(`http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`)
    })
  })
}

const openai = (wishes = '') =>
  new OpenAI({
    apiKey: 'sk-test',
    baseURL: `${provider.url}/v1`,
    defaultHeaders: wishes === '' ? {} : { 'x-fake': wishes },
  })
const anthropic = (wishes = '') =>
  new Anthropic({
    apiKey: 'sk-ant-test',
    baseURL: provider.url,
    defaultHeaders: wishes === '' ? {} : { 'x-fake': wishes },
  })
const CANARY = 'the canary sings at midnight'
const messages = [{ role: 'user' as const, content: `Say something. ${CANARY}` }]

describe('an Express app with app.use(tokenTally())', () => {
  let url: string
  beforeAll(async () => {
    const app = express()
    app.use(
      tokenTally({ ...options(), customer: (req) => req.get('x-customer-id'), feature: (req) => req.path }),
    )
    app.get('/chat', async (req, res) => {
      const wishes = req.get('x-wishes')
      const completion = await openai(wishes).chat.completions.create({ model: 'gpt-4o-mini', messages })
      res.json({ text: completion.choices[0]?.message.content, usage: req.tokenTally.usage })
    })
    app.get('/stream', async (req, res) => {
      const wishes = req.get('x-wishes')
      req.tokenTally.add({ tags: { plan: 'pro' }, user: 'u1' })
      const stream = await openai(wishes).chat.completions.create({
        model: 'gpt-4o-mini',
        messages,
        stream: true,
      })
      const chunks: unknown[] = []
      for await (const chunk of stream) chunks.push(chunk)
      res.json(chunks)
    })
    app.get('/left', async (_req, res) => {
      const stream = await openai().chat.completions.create({ model: 'gpt-4o-mini', messages, stream: true })
      for await (const _ of stream) break
      res.end()
    })
    app.get('/aborted', async (_req, res) => {
      const controller = new AbortController()
      const stream = await anthropic('slow=5').messages.create(
        { model: 'claude-sonnet-4-5', max_tokens: 12, messages, stream: true },
        { signal: controller.signal },
      )
      for await (const event of stream) if (event.type === 'content_block_delta') controller.abort()
      res.end()
    })
    app.get('/claude', async (req, res) => {
      const client = anthropic(req.get('x-wishes'))
      await client.messages.create({ model: 'claude-sonnet-4-5', max_tokens: 7, messages })
      const stream = client.messages.stream({ model: 'claude-sonnet-4-5', max_tokens: 9, messages })
      res.json((await stream.finalMessage()).usage)
    })
    url = await listen(createServer(app))
  })

  const call = async (path: string, customer: string, wishes = '') => {
    const response = await fetch(url + path, { headers: { 'x-customer-id': customer, 'x-wishes': wishes } })
    expect(response.status).toBe(200)
    return response.text()
  }
  /** What the provider billed since, as the report should show it. */
  const billedSince = (start: number) =>
    provider.billed.slice(start).map((call) => ({
      provider: call.provider,
      model: call.model,
      input_tokens: call.inputTokens,
      output_tokens: call.outputTokens,
      provider_request_id: call.requestId,
    }))

  it.each([
    ['plain', '/chat', ''],
    ['with cached and reasoning tokens', '/chat', 'cached=100;reasoning=20'],
    ['gzip', '/chat', 'gzip'],
    ['streamed', '/stream', ''],
    ['streamed in pieces inside characters', '/stream', 'split'],
    ['Anthropic, plain and streamed', '/claude', 'cached=50'],
  ])('reports what the provider billed: %s', async (name, path, wishes) => {
    const before = provider.billed.length
    const customer = encodeURIComponent(name)
    await call(path, customer, wishes)
    const events = await eventsOf(encodeURIComponent(customer))
    expect(events).toMatchObject(billedSince(before))
    for (const event of events) {
      expect(event).toMatchObject({ status: 'ok', estimated: false, feature: path })
    }
    expect(errors).toEqual([])
  })

  it('shows the app the stream it asked for, without the usage that it did not', async () => {
    const text = await call('/stream', 'stream-as-asked')
    const chunks: { choices: unknown[]; usage?: unknown }[] = JSON.parse(text)
    expect(chunks.every((chunk) => chunk.choices.length === 1 && !('usage' in chunk))).toBe(true)
    expect(await eventsOf('stream-as-asked')).toMatchObject([{ user_id: 'u1', tags: { plan: 'pro' } }])
  })

  it('counts one event for what was answered, and its failed attempts as errors without cost', async () => {
    await call('/chat', 'retried', 'fail=429,500')
    const events = await eventsOf('retried')
    expect(events.map((event) => [event.status, event['attempt']])).toEqual([
      ['error', 0],
      ['error', 1],
      ['ok', 2],
    ])
    expect(new Set(events.map((event) => event['call_id'])).size).toBe(1)
  })

  it.each(['/left', '/aborted'])(
    'learns the true usage of a stream that was left early: %s',
    async (path) => {
      const before = provider.billed.length
      const customer = path.slice(1)
      await call(path, customer)
      await waitFor(async () => (await eventsOf(customer)).length > 0, 'the event of the left stream')
      expect(await eventsOf(customer)).toMatchObject(billedSince(before))
    },
  )

  it('estimates what a broken stream used, and says so', async () => {
    const response = await fetch(`${url}/stream`, {
      headers: { 'x-customer-id': 'dropped', 'x-wishes': 'drop' },
    })
    expect(response.status).toBe(500)
    await waitFor(async () => (await eventsOf('dropped')).length > 0, 'the estimated event')
    expect(await eventsOf('dropped')).toMatchObject([{ status: 'aborted', estimated: true }])
  })

  it('keeps the customers of concurrent requests apart', async () => {
    await Promise.all(
      Array.from({ length: 30 }, (_, index) => call(index % 2 ? '/chat' : '/stream', `many-${index % 3}`)),
    )
    for (const customer of ['many-0', 'many-1', 'many-2']) expect(await eventsOf(customer)).toHaveLength(10)
  })

  it('tells the request what it has used', async () => {
    const before = provider.billed.length
    const { usage } = JSON.parse(await call('/chat', 'usage-so-far'))
    const [billed] = provider.billed.slice(before)
    expect(usage).toEqual({ calls: 1, inputTokens: billed?.inputTokens, outputTokens: billed?.outputTokens })
  })
})

it('meters a Koa app', async () => {
  const app = new Koa()
  app.use(koaTokenTally({ ...options(), customer: (ctx) => ctx.get('x-customer-id') }))
  app.use(async (ctx) => {
    ctx.tokenTally.add({ feature: 'koa' })
    await attribute({ agent: 'researcher' }, () =>
      anthropic().messages.create({ model: 'claude-sonnet-4-5', max_tokens: 5, messages }),
    )
    ctx.body = ctx.tokenTally.usage
  })
  const url = await listen(createServer(app.callback()))
  const response = await fetch(url, { headers: { 'x-customer-id': 'koa-customer' } })
  expect(await response.json()).toMatchObject({ calls: 1, outputTokens: 5 })
  expect(await eventsOf('koa-customer')).toMatchObject([
    { feature: 'koa', agent: 'researcher', output_tokens: 5 },
  ])
})

it('counts a call once that two taps see', async () => {
  const client = meter(openai())
  await attribute({ customer: 'twice' }, () =>
    client.chat.completions.create({ model: 'gpt-4o-mini', messages }),
  )
  expect(await eventsOf('twice')).toHaveLength(1)
})

it("meters undici's own fetch and request, also through a dispatcher that is set later", async () => {
  const url = `${provider.url}/v1/chat/completions`
  const init = {
    method: 'POST',
    body: JSON.stringify({ model: 'gpt-4o-mini', messages }),
  } as const
  const callBoth = () =>
    attribute({ customer: 'undici' }, async () => {
      await (await undici.fetch(url, init)).text()
      await (await undici.request(url, init)).body.text()
    })
  await callBoth()
  const before = undici.getGlobalDispatcher()
  const agent = new undici.Agent()
  undici.setGlobalDispatcher(agent)
  try {
    await callBoth()
  } finally {
    undici.setGlobalDispatcher(before)
    await agent.close()
  }
  expect(await eventsOf('undici')).toHaveLength(4)
})

it('stores no prompt and no answer anywhere', async () => {
  const tables = await database.pool.query<{ name: string }>(
    "select table_name as name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'",
  )
  for (const { name } of tables.rows) {
    const { rows } = await database.pool.query(
      `select count(*)::int as found from "${name}" as t where t::text like $1`,
      [`%${CANARY}%`],
    )
    expect({ name, found: rows[0]?.found }).toEqual({ name, found: 0 })
  }
  for (const file of await readdir(join(spool, 'events'))) {
    expect(await readFile(join(spool, 'events', file), 'latin1')).not.toContain(CANARY)
  }
})
