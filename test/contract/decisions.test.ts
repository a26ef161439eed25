import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  type EventStream,
  openEventStream,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, createKey, problemOf, submissionOf } from './api-client.ts'

/** Decisions: what follows from limits that are used up, on two replicas and a clock that the tests move. */

const DAY_MS = 24 * 3_600_000
let clockMs = Date.UTC(2026, 10, 15, 12)
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let other: TestService
let streams: EventStream[] = []
let test = 0
let team = ''

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  other = await startService({ databaseUrl: database.url, roles: 'api', now })
  const price = await call(service, '/api/v1/prices', {
    body: { provider: 'acme-llm', model: 'unit', rates: { output_tokens: { price: '1', per: 1 } } },
  })
  expect(price.status).toBe(201)
})
afterAll(async () => {
  await service.stop()
  await other.stop()
  await database.drop()
})
beforeEach(async () => {
  const listed = z.object({ budgets: z.array(z.object({ id: z.string() })) })
  for (const { id } of listed.parse((await call(service, '/api/v1/budgets')).json).budgets) {
    await call(service, `/api/v1/budgets/${id}`, { method: 'DELETE' })
  }
  for (const stream of streams) stream.close()
  streams = []
  test++
  clockMs += 40 * DAY_MS
  team = `team-${test}`
})

const snapshotSchema = z.strictObject({
  as_of: z.iso.datetime(),
  decisions: z.array(
    z.strictObject({
      action: z.enum(['block', 'rate_limit', 'downgrade']),
      scope: z.record(z.string(), z.string()),
      reason: z.enum(['budget_exceeded', 'credit_exhausted']),
      budget: z.strictObject({ id: z.string(), name: z.string() }).nullable(),
      detail: z.string(),
      until: z.iso.datetime().nullable(),
      requests_per_minute: z.number().optional(),
      models: z.array(z.string()).optional(),
    }),
  ),
  preferences: z.array(
    z.strictObject({
      scope: z.record(z.string(), z.string()),
      prefer: z.array(z.string()),
      fallback: z.string().nullable(),
    }),
  ),
})
const snapshot = async (key?: string) =>
  snapshotSchema.parse((await call(service, '/api/v1/decisions', { ...(key !== undefined && { key }) })).json)
async function open(replica: TestService, key = replica.ownerKey): Promise<EventStream> {
  const stream = await openEventStream(`${replica.url}/api/v1/decisions/stream`, key)
  streams.push(stream)
  await waitFor(() => stream.events.length > 0, 'the stream says how it is')
  return stream
}
const latest = (stream: EventStream) => snapshotSchema.parse(stream.events.at(-1)?.data)

async function create(fields: object): Promise<string> {
  const answer = await call(service, '/api/v1/budgets', {
    body: {
      name: `of ${team}`,
      amount: '10',
      period: 'month',
      scope: { dimension: 'team', value: team },
      ...fields,
    },
  })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return z.object({ id: z.string() }).parse(answer.json).id
}
async function spend(usd: number, fields: object = {}, key?: string): Promise<void> {
  const event = {
    ts: now().toISOString(),
    team_id: team,
    provider: 'acme-llm',
    model: 'unit',
    output_tokens: usd,
    ...fields,
  }
  const answer = await call(service, '/api/v1/usage', { body: event, ...(key !== undefined && { key }) })
  expect(submissionOf(answer).accepted).toBe(1)
}
const monthEnd = () => {
  const date = now()
  return new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1)).toISOString()
}

describe('a decision', () => {
  it('blocks once the limit is reached, until the period ends', async () => {
    const id = await create({ enforcement: 'block' })
    await spend(9)
    expect((await snapshot()).decisions).toEqual([])
    await spend(1)
    expect(await snapshot()).toEqual({
      as_of: now().toISOString(),
      decisions: [
        {
          action: 'block',
          scope: { team },
          reason: 'budget_exceeded',
          budget: { id, name: `of ${team}` },
          detail: `The budget of ${team} of 10 USD for team ${team} for this month is used up.`,
          until: monthEnd(),
        },
      ],
      preferences: [],
    })
    clockMs = Date.parse(monthEnd())
    expect((await snapshot()).decisions).toEqual([])
  })

  it('says how much is left under a rate limit, and what to use instead', async () => {
    await create({ enforcement: 'rate_limit', requests_per_minute: 3 })
    await create({
      name: `models of ${team}`,
      enforcement: 'downgrade',
      downgrade_to: ['small', 'tiny'],
      scope: { dimension: 'tag.plan', value: '*' },
      amount: '2',
    })
    await create({ name: `told of ${team}` })
    await spend(20, { tags: { plan: 'pro' } })
    const { decisions } = await snapshot()
    expect(decisions).toMatchObject([
      { action: 'downgrade', scope: { 'tag.plan': 'pro' }, models: ['small', 'tiny'] },
      { action: 'rate_limit', scope: { team }, requests_per_minute: 3 },
    ])
    expect(decisions[0]).not.toHaveProperty('requests_per_minute')
  })

  it('about an API key is for that key alone, about everything', async () => {
    const { id, key } = await createKey(service, ['ingest'])
    await create({ enforcement: 'block', scope: { dimension: 'api_key', value: id } })
    await spend(11, {}, key)
    expect((await snapshot()).decisions).toEqual([])
    expect((await snapshot(key)).decisions).toMatchObject([{ action: 'block', scope: {} }])
  })

  it('about the organization is about everything', async () => {
    await create({ enforcement: 'block', scope: undefined, period: 'hour' })
    await spend(11, { team_id: 'anybody' })
    expect((await snapshot()).decisions).toMatchObject([{ scope: {} }])
  })

  it('needs a key that may send or read', async () => {
    const { key } = await createKey(service, ['write'])
    for (const path of ['/api/v1/decisions', '/api/v1/decisions/stream']) {
      problemOf(await call(service, path, { key: null }), 401)
      const { detail } = problemOf(await call(service, path, { key }), 403)
      expect(detail).toContain('the scope "ingest" or "read"')
    }
    expect((await snapshot((await createKey(service, ['ingest'])).key)).decisions).toEqual([])
  })
})

describe('a stream', () => {
  it('tells every replica of each change once, and lives in between', async () => {
    const all = [await open(service), await open(other)]
    for (const stream of all) {
      expect([stream.status, stream.contentType]).toEqual([200, expect.stringMatching(/^text\/event-stream/)])
      expect(latest(stream).decisions).toEqual([])
    }
    const everyone = (holds: (stream: EventStream) => boolean, what: string) =>
      waitFor(() => all.every(holds), what, 5_000)
    const id = await create({ enforcement: 'block' })
    await spend(10)
    await everyone((stream) => latest(stream).decisions.length === 1, 'a reached limit is told')
    await call(service, `/api/v1/budgets/${id}`, { method: 'DELETE' })
    await everyone((stream) => latest(stream).decisions.length === 0, 'a deleted budget is told')
    await create({ enforcement: 'block' })
    await everyone((stream) => latest(stream).decisions.length === 1, 'a new budget is told')
    clockMs = Date.parse(monthEnd())
    await everyone((stream) => latest(stream).decisions.length === 0, "a period's end is told")
    for (const stream of all) {
      const before = stream.heartbeats.length
      await waitFor(() => stream.heartbeats.length > before + 1, 'the stream lives')
      expect(stream.events.map((event) => event.name)).toEqual(Array(5).fill('decisions'))
      for (const event of stream.events) snapshotSchema.parse(event.data)
    }
  })

  it('of a process that stops ends, and does not hold it up', async () => {
    const third = await startService({ databaseUrl: database.url, roles: 'api', now })
    const stream = await open(third)
    await third.stop()
    await waitFor(() => stream.isEnded(), 'the stream ends')
  })
})
