import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import {
  call,
  countEvents,
  pathsOf,
  problemOf,
  sendUsage,
  storesNothing,
  submissionOf,
} from './api-client.ts'

/** What could not be understood is set aside, shown, and replayed once. */

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const listSchema = z.object({
  dead_letters: z.array(
    z.object({
      dead_letter_id: z.uuid(),
      received_at: z.iso.datetime(),
      door: z.enum(['usage', 'traces']),
      event_id: z.string().nullable(),
      content: z.record(z.string(), z.unknown()),
      issues: z.array(z.object({ path: z.string(), message: z.string() })),
    }),
  ),
})
const letters = async (query = '') =>
  listSchema.parse((await call(service, `/api/v1/dead-letters${query}`)).json).dead_letters
const replay = async (query = '') =>
  z
    .object({ replayed: z.number(), still_rejected: z.number() })
    .parse((await call(service, `/api/v1/dead-letters/replay${query}`, { method: 'POST' })).json)

const bad = (fields: object = {}) => ({
  event_id: randomUUID(),
  ts: '2026-11-01T00:00:00.000Z',
  provider: 'openai',
  model: 'gpt-4o-mini',
  input_tokens: 10,
  ...fields,
})

describe('a dead letter', () => {
  it('keeps an event that was rejected, with the reasons, and is listed newest first', async () => {
    const [first, second] = [bad({ input_tokens: -1 }), bad({ colour: 'red' })]
    problemOf(await sendUsage(service, first), 400)
    const answer = await sendUsage(service, [bad(), second])
    expect(submissionOf(answer)).toMatchObject({ accepted: 1, rejected: [{ index: 1 }] })
    const [newest, older] = await letters()
    expect(newest).toMatchObject({ door: 'usage', event_id: second.event_id, issues: [{ path: 'colour' }] })
    expect(older).toMatchObject({
      event_id: first.event_id,
      content: first,
      issues: [{ path: 'input_tokens' }],
    })
    expect(await letters('?limit=1')).toEqual([newest])
    expect(pathsOf(problemOf(await call(service, '/api/v1/dead-letters?limit=0'), 400))).toEqual(['limit'])
  })

  it('becomes an event when it is replayed, once', async () => {
    const event = bad({ colour: 'red' })
    problemOf(await sendUsage(service, event), 400)
    const letter = (await letters()).find(({ event_id }) => event_id === event.event_id)
    const before = await countEvents(database.pool)
    expect(await replay(`?id=${letter?.dead_letter_id}`)).toEqual({ replayed: 1, still_rejected: 0 })
    expect(await replay(`?id=${letter?.dead_letter_id}`)).toEqual({ replayed: 0, still_rejected: 0 })
    expect(await countEvents(database.pool)).toBe(before + 1)
    const { colour: _, ...good } = { colour: '', ...event }
    expect((await call(service, `/api/v1/usage/${event.event_id}`)).json).toMatchObject(good)
    expect(submissionOf(await sendUsage(service, good))).toMatchObject({ accepted: 0, duplicates: 1 })
    expect(await letters()).not.toContainEqual(expect.objectContaining({ event_id: event.event_id }))
  })

  it('without an id or a time has those of its receipt', async () => {
    const { event_id: _, ts: __, ...anonymous } = bad({ colour: 'blue' })
    problemOf(await sendUsage(service, { ...anonymous, customer_id: 'anonymous' }), 400)
    const [letter] = await letters('?limit=1')
    expect(await replay(`?id=${letter?.dead_letter_id}`)).toEqual({ replayed: 1, still_rejected: 0 })
    expect((await call(service, `/api/v1/usage/${letter?.dead_letter_id}`)).json).toMatchObject({
      customer_id: 'anonymous',
      ts: letter?.received_at,
    })
  })

  it('stays while it is still wrong', async () => {
    const event = bad({ cache_read_tokens: 11 })
    problemOf(await sendUsage(service, event), 400)
    await storesNothing(database.pool, async () => {
      const { dead_letter_id: id } = (await letters('?limit=1'))[0] ?? {}
      expect(await replay(`?id=${id}`)).toEqual({ replayed: 0, still_rejected: 1 })
    })
    expect((await letters('?limit=1'))[0]).toMatchObject({ event_id: event.event_id })
  })

  it('is kept once, however often the same is sent', async () => {
    const event = bad({ status: 'odd' })
    for (let time = 0; time < 3; time++) problemOf(await sendUsage(service, event), 400)
    const same = (await letters()).filter(({ event_id }) => event_id === event.event_id)
    expect(same).toHaveLength(1)
  })

  it('holds no text that may be a prompt', async () => {
    const text = 'What is the capital of France? '.repeat(40)
    problemOf(
      await sendUsage(service, bad({ 'the capital of France?': 1, prompt: 'France', feature: text })),
      400,
    )
    problemOf(await sendUsage(service, bad({ tags: { [text]: 'x', note: text }, messages: [{ text }] })), 400)
    const { rows } = await database.pool.query('select dead_letter::text as text from dead_letter')
    expect(rows.length).toBeGreaterThan(1)
    expect(JSON.stringify(rows)).not.toContain('France')
  })

  it('is not made of conflicts, nor of what holds no event', async () => {
    const event = bad()
    submissionOf(await sendUsage(service, event))
    const before = await letters('?limit=1000')
    problemOf(await sendUsage(service, { ...event, input_tokens: 11 }), 409)
    problemOf(await sendUsage(service, '{"provider":'), 400)
    const lines = await sendUsage(service, `${JSON.stringify(bad())}\n{"provider":\n`, {
      'content-type': 'application/x-ndjson',
    })
    expect(submissionOf(lines).rejected).toHaveLength(1)
    expect(await letters('?limit=1000')).toEqual(before)
  })

  it('may hold anything that JSON can', async () => {
    const odd = {
      event_id: 'odd\0\ud800',
      provider: '\udfff',
      model: { a: { b: { c: 1 } } },
      ts: ['\0'],
      tags: { '\0': '\0', '\ud800': 'x', __proto__: null },
      meters: { '\\u0000': 1e308 },
      host: null,
    }
    const { status } = await sendUsage(service, odd)
    expect(status).toBe(400)
    expect(await letters('?limit=1')).toMatchObject([{ event_id: 'odd\ufffd' }])
  })

  it('of a span is replayed like any other', async () => {
    const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } })
    const span = {
      traceId: randomUUID().replaceAll('-', ''),
      spanId: '00f067aa0ba902b7',
      startTimeUnixNano: '1793534400000000000',
      endTimeUnixNano: '1793534401000000000',
      attributes: [
        attribute('gen_ai.provider.name', 'openai'),
        attribute('gen_ai.request.model', 'gpt-4o-mini'),
        attribute('gen_ai.usage.input_tokens', 'many'),
      ],
    }
    const answer = await call(service, '/v1/traces', {
      body: { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] },
    })
    expect(answer.json).toMatchObject({ partialSuccess: { rejectedSpans: 1 } })
    expect((await letters('?limit=1'))[0]).toMatchObject({
      door: 'traces',
      event_id: `otel-${span.traceId}-${span.spanId}`,
      issues: [{ path: 'input_tokens' }],
    })
  })
})

describe('npm run dead-letters', () => {
  const run = async (...args: string[]) => {
    const command = fileURLToPath(new URL('../../apps/server/src/dead-letters.ts', import.meta.url))
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--conditions=source', command, ...args],
      {
        env: { PATH: process.env['PATH'], TOKENTALLY_URL: service.url, TOKENTALLY_API_KEY: service.ownerKey },
      },
    )
    return stdout
  }

  it('lists and replays them', async () => {
    const event = bad({ colour: 'green' })
    problemOf(await sendUsage(service, event), 400)
    expect(await run('list', '--limit', '1')).toMatch(
      new RegExp(`usage +${event.event_id} +colour .*\n1 dead`),
    )
    const [letter] = await letters('?limit=1')
    expect(await run('replay', '--id', letter?.dead_letter_id ?? '')).toBe('1 replayed, 0 still rejected\n')
    expect(await run('replay')).toMatch(/^\d+ replayed, [1-9]\d* still rejected\n$/)
    expect((await call(service, `/api/v1/usage/${event.event_id}`)).status).toBe(200)
  })
})
