import { gzipSync } from 'node:zlib'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { compareRollups, rollUp } from '../../apps/server/src/rollups/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { type Answer, call, countEvents, submissionOf } from './api-client.ts'
import { makeSpans, recordBody } from './otel-spans.ts'

/** Whatever is sent: never a 5xx, nothing stored by half, and the service goes on. */

/** Of each property; thousands found no more. */
const RUNS = 200

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  // Rollups are made by the last test.
  service = await startService({ databaseUrl: database.url, roles: 'api' })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const settings = { numRuns: RUNS, endOnFailure: true }

/** Any text, also such that is no Unicode. */
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 8 })
    .map((units) => String.fromCharCode(...units)),
  fc.constantFrom(
    '',
    '\0',
    '\ud800',
    '__proto__',
    'constructor',
    '\\N',
    '\\.',
    "'; --",
    'é',
    'x'.repeat(600),
  ),
)
const number = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(0, -0, -1, 0.1, 5e-324, 1e-7, 1e21, 1e308, 10_000_000_000, 10_000_000_001),
)
const anything = fc.oneof(
  text,
  number,
  fc.constantFrom(null, true, false, [], {}, [[]]),
  fc.jsonValue({ stringUnit: 'binary' }),
  fc.dictionary(text, fc.oneof(text, number), { maxKeys: 4 }),
)
const instant = fc.oneof(
  {
    weight: 20,
    arbitrary: fc
      .date({ min: new Date('2024-01-01'), max: new Date('2026-11-01'), noInvalidDate: true })
      .map((date) => date.toISOString()),
  },
  fc.constantFrom(
    '2026-11-01T12:00:00+14:00',
    '2020-01-01T00:00:00Z',
    '9999-12-31T23:59:59Z',
    '0000-01-01T00:00:00Z',
  ),
)
const count = fc.oneof({ weight: 20, arbitrary: fc.integer({ min: 1, max: 100_000 }) }, number)
const name = fc.oneof({ weight: 20, arbitrary: fc.constantFrom('acme', 'globex', 'a b', 'é"\\') }, text)

/** Mostly an event: any field may be anything, now and then. */
const event = fc
  .tuple(
    fc.record(
      {
        event_id: fc.oneof({ weight: 8, arbitrary: fc.uuid() }, fc.constantFrom('one', 'two'), text),
        ts: instant,
        customer_id: name,
        feature: name,
        conversation_id: name,
        provider: fc.constantFrom('openai', 'anthropic', 'nobody'),
        model: fc.constantFrom('gpt-4o-mini', 'claude-sonnet-4-5', 'unheard-of'),
        input_tokens: count,
        cache_read_tokens: fc.constantFrom(0, 1),
        output_tokens: count,
        meters: fc.dictionary(
          fc.constantFrom('gpu_seconds', 'web_search_requests', 'pages', 'constructor'),
          count,
        ),
        tags: fc.dictionary(fc.oneof({ weight: 9, arbitrary: fc.constantFrom('plan', 'a.b') }, text), name, {
          maxKeys: 3,
        }),
        host: fc.dictionary(name, fc.oneof(name, fc.dictionary(name, name, { maxKeys: 2 })), { maxKeys: 3 }),
        latency_ms: count,
        status: fc.constantFrom('ok', 'error', 'aborted'),
        service_tier: fc.constantFrom('default', 'batch', 'priority', 'unknown'),
      },
      { requiredKeys: ['provider', 'model', 'input_tokens'] },
    ),
    fc.oneof(
      { weight: 3, arbitrary: fc.constant(null) },
      fc.tuple(
        fc.oneof(
          text,
          fc.constantFrom('provider', 'ts', 'tags', 'meters', 'input_tokens', 'status', 'host', 'latency_ms'),
        ),
        anything,
      ),
    ),
  )
  .map(([fields, change]) => (change === null ? fields : { ...fields, [change[0]]: change[1] }))

const refusalSchema = z.object({
  accepted: z.number(),
  duplicates: z.number(),
  rejected: z.array(z.unknown()),
})

/** Sends, and checks what must hold of every answer. @returns it */
async function send(path: string, body: unknown, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const answer = await call(service, path, { body, headers })
  expect([answer.status, answer.text]).toEqual([
    expect.toSatisfy((status) => status < 500),
    expect.any(String),
  ])
  return answer
}

/** How many events an answer of the JSON door acknowledges. */
function acceptedBy(answer: Answer): number {
  return answer.status === 200 ? submissionOf(answer).accepted : 0
}

/**
 * Runs a property, and then counts: the ledger must hold what was acknowledged, no more, no less.
 *
 * @returns how many events that is
 */
async function check<Input>(
  inputs: fc.Arbitrary<Input>,
  acknowledged: (input: Input) => Promise<number>,
): Promise<number> {
  const before = await countEvents(database.pool)
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(inputs, async (input) => {
      accepted += await acknowledged(input)
    }),
    settings,
  )
  expect(await countEvents(database.pool)).toBe(before + accepted)
  expect((await call(service, '/readyz')).status).toBe(200)
  return accepted
}

const JSON_TYPE = { 'content-type': 'application/json' }
const contentTypes = fc.constantFrom(
  'application/json',
  'application/x-ndjson',
  'application/cloudevents+json',
  'application/cloudevents-batch+json',
  'text/plain',
)

describe('POST /api/v1/usage', () => {
  it('takes any JSON', async () => {
    await check(fc.tuple(anything, contentTypes), async ([json, contentType]) =>
      acceptedBy(await send('/api/v1/usage', JSON.stringify(json), { 'content-type': contentType })),
    )
  })

  it('takes lists of things that are nearly events, and accounts for each', async () => {
    const accepted = await check(
      fc.array(fc.oneof({ weight: 9, arbitrary: event }, anything), { minLength: 1, maxLength: 8 }),
      async (events) => {
        const answer = await send('/api/v1/usage', JSON.stringify(events), JSON_TYPE)
        const { accepted, duplicates, rejected } = refusalSchema.parse(answer.json)
        expect(accepted + duplicates + rejected.length).toBe(events.length)
        expect(answer.status === 200).toBe(accepted + duplicates > 0)
        return accepted
      },
    )
    expect(accepted).toBeGreaterThan(0)
  })

  it('takes any bytes, in any encoding', async () => {
    const headers = fc.record(
      {
        'content-type': fc.oneof(contentTypes, fc.constant('application/x-protobuf')),
        'content-encoding': fc.constantFrom('gzip', 'deflate', 'br', 'identity', 'zstd'),
        'ce-specversion': fc.constantFrom('1.0', '2.0', '%', ''),
        'ce-id': fc.string({ unit: fc.constantFrom('a', '%', '2', '5', ' ') }),
      },
      { requiredKeys: ['content-type'] },
    )
    await check(fc.tuple(fc.uint8Array({ maxLength: 200 }), headers), async ([bytes, chosen]) =>
      acceptedBy(await send('/api/v1/usage', bytes, chosen)),
    )
  })

  it('takes events with a few bytes changed', async () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 })
    const accepted = await check(
      fc.tuple(fc.array(event, { minLength: 1, maxLength: 3 }), changes, fc.boolean()),
      async ([events, spots, isGzip]) => {
        const json = Buffer.from(JSON.stringify(events))
        const bytes = isGzip ? gzipSync(json) : json
        for (const [at, byte] of spots) bytes[at % bytes.length] = byte
        return acceptedBy(
          await send('/api/v1/usage', bytes, { ...JSON_TYPE, ...(isGzip && { 'content-encoding': 'gzip' }) }),
        )
      },
    )
    expect(accepted).toBeGreaterThan(0)
  })
})

describe('POST /usage', () => {
  it('takes anything', async () => {
    const old = fc.record(
      {
        tenant_id: name,
        provider: name,
        model: name,
        prompt_tokens: count,
        completion_tokens: count,
        timestamp: fc.oneof({ weight: 8, arbitrary: instant }, number, text),
        latency_ms: count,
        host: fc.oneof({ weight: 8, arbitrary: name }, anything),
      },
      { requiredKeys: ['tenant_id', 'provider', 'model', 'prompt_tokens', 'completion_tokens'] },
    )
    const accepted = await check(fc.oneof({ weight: 5, arbitrary: old }, anything), async (json) =>
      acceptedBy(await send('/usage', JSON.stringify(json), JSON_TYPE)),
    )
    expect(accepted).toBeGreaterThan(0)
  })
})

describe('POST /v1/traces', () => {
  /** What the ledger gained: an exporter is not told how many spans became events. */
  const gained = async (act: () => Promise<unknown>) => {
    const before = await countEvents(database.pool)
    await act()
    return (await countEvents(database.pool)) - before
  }
  const attribute = fc.record({
    key: fc.oneof(
      fc.constantFrom(
        'gen_ai.provider.name',
        'gen_ai.request.model',
        'gen_ai.usage.input_tokens',
        'gen_ai.usage.output_tokens',
        'gen_ai.usage.cache_read.input_tokens',
        'tokentally.event_id',
        'tokentally.ts',
        'tokentally.host',
        'tokentally.tag.plan',
        'tokentally.meter.pages',
        'tokentally.status',
      ),
      text,
    ),
    value: fc.oneof(
      fc.record({ stringValue: fc.oneof(text, instant, count.map(String)) }),
      fc.record({ intValue: fc.oneof(count.map(Math.trunc), fc.maxSafeInteger().map(String)) }),
      fc.record({ doubleValue: fc.oneof(number, fc.constantFrom('NaN', 'Infinity')) }),
      fc.record({ boolValue: fc.boolean() }),
      fc.record({ arrayValue: fc.anything() }),
      fc.constantFrom({}, null),
    ),
  })
  const USAGE = [
    { key: 'gen_ai.provider.name', value: { stringValue: 'openai' } },
    { key: 'gen_ai.request.model', value: { stringValue: 'gpt-4o' } },
    { key: 'gen_ai.usage.input_tokens', value: { intValue: 10 } },
  ]
  const hex = (digits: number) =>
    fc.oneof(
      {
        weight: 5,
        arbitrary: fc.string({
          unit: fc.constantFrom(...'0123456789abcdefAB'),
          minLength: digits,
          maxLength: digits,
        }),
      },
      text,
    )
  const nanos = fc.oneof(
    { weight: 5, arbitrary: instant.map((ts) => `${Math.max(0, Date.parse(ts))}000000`) },
    number,
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n }).map(String),
  )
  const span = fc.record(
    {
      traceId: hex(32),
      spanId: hex(16),
      startTimeUnixNano: nanos,
      endTimeUnixNano: nanos,
      attributes: fc
        .tuple(fc.constantFrom(USAGE, []), fc.array(attribute, { maxLength: 5 }))
        .map(([usage, others]) => [...usage, ...others]),
      status: fc.record({ code: fc.oneof(fc.nat(3), fc.constant('STATUS_CODE_ERROR')) }),
    },
    { requiredKeys: ['traceId', 'spanId', 'startTimeUnixNano', 'attributes'] },
  )

  it('takes any JSON, and anything that is nearly a span', async () => {
    const request = fc
      .array(span, { maxLength: 4 })
      .map((spans) => ({ resourceSpans: [{ scopeSpans: [{ spans }] }] }))
    const accepted = await check(fc.oneof({ weight: 5, arbitrary: request }, anything), (json) =>
      gained(() => send('/v1/traces', JSON.stringify(json), JSON_TYPE)),
    )
    expect(accepted).toBeGreaterThan(0)
  })

  it('takes any bytes, and protobuf with a few bytes changed', async () => {
    const spans = makeSpans(
      {
        attributes: {
          'gen_ai.provider.name': 'openai',
          'gen_ai.request.model': 'gpt-4o',
          'gen_ai.usage.input_tokens': 7,
        },
      },
      { attributes: { 'http.request.method': 'GET' } },
    )
    const body = await recordBody((url) => new OTLPTraceExporter({ url }), spans)
    const changed = fc
      .array(fc.tuple(fc.nat(body.length - 1), fc.integer({ min: 0, max: 255 })), {
        minLength: 1,
        maxLength: 5,
      })
      .map((changes) => {
        const bytes = Buffer.from(body)
        for (const [at, byte] of changes) bytes[at] = byte
        return bytes
      })
    const type = { 'content-type': 'application/x-protobuf' }
    await check(fc.oneof({ weight: 5, arbitrary: changed }, fc.uint8Array({ maxLength: 200 })), (bytes) =>
      gained(() => send('/v1/traces', bytes, type)),
    )
  })
})

describe('reports', () => {
  it('answer any question', async () => {
    const path = fc.oneof(
      fc.constantFrom(
        '/api/v1/usage',
        '/api/v1/costs/aggregate',
        '/api/v1/usage.csv',
        '/api/v1/prices',
        '/api/v1/dead-letters',
      ),
      text.map((id) => `/api/v1/usage/${encodeURIComponent(id.toWellFormed())}`),
      text.map((id) => `/tenant/${encodeURIComponent(id.toWellFormed())}/summary`),
      text.map((id) => `/tenant/${encodeURIComponent(id.toWellFormed())}/daily`),
      text.map((id) => `/provider/${encodeURIComponent(id.toWellFormed())}/models`),
    )
    const day = fc.oneof(
      instant,
      instant.map((ts) => ts.slice(0, 10)),
      fc.constantFrom(
        '0000-01-01',
        '0001-01-01',
        '0099-12-31',
        '9999-12-31',
        '9999-12-31T23:59:59.999-12:00',
      ),
      text,
    )
    const parameter = fc.oneof(
      fc.tuple(fc.constantFrom('start', 'end'), day),
      fc.tuple(
        fc.constant('timezone'),
        fc.oneof(fc.constantFrom('Asia/Kolkata', 'America/St_Johns', 'CET', '+01:00'), text),
      ),
      fc.tuple(fc.constantFrom('limit'), fc.oneof(number.map(String), text)),
      fc.tuple(
        fc.constant('cursor'),
        fc.oneof(
          text,
          fc.tuple(number, text).map((pair) => Buffer.from(JSON.stringify(pair)).toString('base64url')),
        ),
      ),
      fc.tuple(
        fc.constant('granularity'),
        fc.constantFrom('minute', 'hour', 'day', 'week', 'month', 'none', 'year'),
      ),
      fc.tuple(
        fc.constant('group_by'),
        fc.oneof(fc.constantFrom('customer', 'user,model', 'tag.plan', 'tag.é'), text),
      ),
      fc.tuple(fc.constantFrom('customer', 'user_id', 'status', 'tag.plan', 'provider', 'model'), name),
      fc.tuple(text, text),
    )
    await check(fc.tuple(path, fc.array(parameter, { maxLength: 4 })), async ([where, parameters]) => {
      const query = new URLSearchParams(parameters.map(([key, value]): [string, string] => [key, value]))
      const answer = await call(service, `${where}?${query}`)
      expect([where, String(query), answer.status, answer.text]).toEqual([
        where,
        String(query),
        expect.toSatisfy((status) => status < 500),
        expect.any(String),
      ])
      return 0
    })
  })

  it('and the rollups of all that equal the ledger', async () => {
    await rollUp(database.pool, () => new Date())
    expect(await compareRollups(database.pool)).toEqual([])
    expect(await countEvents(database.pool)).toBeGreaterThan(0)
    for (const path of [
      '/api/v1/usage?limit=1000&',
      '/api/v1/costs/aggregate?group_by=customer,feature&',
      '/api/v1/usage.csv?',
    ]) {
      expect((await call(service, `${path}start=2020-01-01&end=2030-01-01`)).status).toBe(200)
    }
  })
})
