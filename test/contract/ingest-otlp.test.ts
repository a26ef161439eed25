import { randomBytes, randomUUID } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { DiagLogLevel, diag } from '@opentelemetry/api'
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node'
import { parseUsageEvent, usageEventToAttributes } from '@tokentally/core'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import {
  type Answer,
  call,
  countEvents,
  sendUsage,
  storesNothing,
  stream,
  submissionOf,
} from './api-client.ts'
import { type Attributes, exportSpans, makeSpans, recordBody } from './otel-spans.ts'

/** `POST /v1/traces`, with the exporters of the OpenTelemetry SDK and with what no exporter would send. */

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await service.stop()
  await database.drop()
})

const MIB = 1024 * 1024

const chat: Attributes = {
  'gen_ai.operation.name': 'chat',
  'gen_ai.provider.name': 'openai',
  'gen_ai.request.model': 'gpt-4o-mini',
  'gen_ai.usage.input_tokens': 1200,
  'gen_ai.usage.output_tokens': 300,
  'gen_ai.response.finish_reasons': ['stop'],
}

const eventIdOf = (span: ReadableSpan | undefined) =>
  `otel-${span?.spanContext().traceId}-${span?.spanContext().spanId}`

const stored = async (eventId: string) => (await call(service, `/api/v1/usage/${eventId}`)).json
const metric = async (name: string) =>
  Number(new RegExp(`^${name} (\\S+)$`, 'm').exec((await call(service, '/metrics')).text)?.[1])

describe.each([
  ['protobuf', ProtobufExporter],
  ['JSON', JsonExporter],
] as const)('the %s exporter of the OpenTelemetry SDK', (_, OtlpExporter) => {
  const exporterTo = (key: string, compression: 'gzip' | 'none') => {
    vi.stubEnv('OTEL_EXPORTER_OTLP_COMPRESSION', compression)
    return new OtlpExporter({
      url: `${service.url}/v1/traces`,
      headers: { authorization: `Bearer ${key}` },
    })
  }

  it.each(['none', 'gzip'] as const)('is understood, compression: %s', async (compression) => {
    const spans = makeSpans(
      { attributes: chat },
      { attributes: { 'http.request.method': 'GET' } },
      { attributes: { ...chat, 'tokentally.customer_id': 'acme', 'tokentally.tag.plan': 'pro' } },
    )
    const [events, ignored] = [
      await countEvents(database.pool),
      await metric('tokentally_ignored_spans_total'),
    ]
    expect(await exportSpans(exporterTo(service.ownerKey, compression), spans)).toEqual({ code: 0 })
    expect(await countEvents(database.pool)).toBe(events + 2)
    expect(await metric('tokentally_ignored_spans_total')).toBe(ignored + 1)
    expect(await stored(eventIdOf(spans[0]))).toMatchObject({
      provider: 'openai',
      model: 'gpt-4o-mini',
      operation: 'chat',
      input_tokens: 1200,
      output_tokens: 300,
      status: 'ok',
      trace_id: spans[0]?.spanContext().traceId,
      span_id: spans[0]?.spanContext().spanId,
    })
    expect(await stored(eventIdOf(spans[2]))).toMatchObject({ customer_id: 'acme', tags: { plan: 'pro' } })
  })

  it('may send the same spans again: they count once', async () => {
    const spans = makeSpans({ attributes: chat }, { attributes: chat })
    const before = await countEvents(database.pool)
    for (let time = 0; time < 3; time++) {
      expect(await exportSpans(exporterTo(service.ownerKey, 'none'), spans)).toEqual({ code: 0 })
    }
    expect(await countEvents(database.pool)).toBe(before + 2)
  })

  it('learns of spans that were refused, beside good ones that were taken', async () => {
    const warnings: string[] = []
    const warn = (...words: unknown[]) => void warnings.push(words.join(' '))
    const silent = () => undefined
    diag.setLogger(
      { warn, error: warn, info: silent, debug: silent, verbose: silent },
      { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
    )
    const spans = makeSpans(
      { attributes: chat },
      { attributes: { ...chat, 'gen_ai.usage.output_tokens': -7 } },
      { attributes: chat },
    )
    const before = await countEvents(database.pool)
    expect(await exportSpans(exporterTo(service.ownerKey, 'none'), spans)).toEqual({ code: 0 })
    diag.disable()
    expect(await countEvents(database.pool)).toBe(before + 2)
    expect(warnings.join('\n')).toMatch(/partial success/i)
    expect(warnings.join('\n')).toMatch(/"rejectedSpans":"?1"?/)
    expect(warnings.join('\n')).toContain(`${eventIdOf(spans[1])}: output_tokens`)
  })

  it('fails for good with a wrong key', async () => {
    await storesNothing(database.pool, async () => {
      const result = await exportSpans(exporterTo('wrong', 'none'), makeSpans({ attributes: chat }))
      expect(result).toMatchObject({ code: 1, error: { code: 401 } })
    })
  })
})

interface JsonSpan {
  readonly traceId?: unknown
  readonly spanId?: unknown
  readonly startTimeUnixNano?: unknown
  readonly endTimeUnixNano?: unknown
  readonly attributes?: unknown
  readonly status?: unknown
  readonly events?: unknown
}
const attribute = (key: string, value: unknown) => ({
  key,
  value:
    typeof value === 'string'
      ? { stringValue: value }
      : typeof value === 'boolean'
        ? { boolValue: value }
        : Number.isInteger(value)
          ? { intValue: String(value) }
          : { doubleValue: value },
})
const jsonSpan = (attributes: Readonly<Record<string, unknown>>, fields: JsonSpan = {}) => ({
  traceId: randomBytes(16).toString('hex'),
  spanId: randomBytes(8).toString('hex'),
  startTimeUnixNano: '1793534400000000000',
  endTimeUnixNano: '1793534400812000000',
  attributes: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
  ...fields,
})
type Span = ReturnType<typeof jsonSpan>
const sendSpans = (spans: readonly unknown[], resource: Readonly<Record<string, unknown>> = {}) =>
  call(service, '/v1/traces', {
    body: {
      resourceSpans: [
        {
          resource: { attributes: Object.entries(resource).map(([key, value]) => attribute(key, value)) },
          scopeSpans: [{ scope: { name: 'test' }, spans }],
        },
      ],
    },
  })
const idOf = (span: Span) => `otel-${span.traceId}-${span.spanId}`
const base = { 'gen_ai.provider.name': 'openai', 'gen_ai.request.model': 'gpt-4o-mini' }
const partialSchema = z.object({
  partialSuccess: z
    .object({ rejectedSpans: z.coerce.number(), errorMessage: z.string() })
    .default({ rejectedSpans: 0, errorMessage: '' }),
})
const partialOf = (answer: Answer) => {
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return partialSchema.parse(answer.json).partialSuccess
}

describe('a span', () => {
  it.each<[string, Readonly<Record<string, unknown>>, object]>([
    [
      'of the current conventions',
      {
        ...base,
        'gen_ai.operation.name': 'chat',
        'gen_ai.response.model': 'gpt-4o-mini-2024-07-18',
        'gen_ai.response.id': 'chatcmpl-1',
        'gen_ai.usage.input_tokens': 1200,
        'gen_ai.usage.cache_read.input_tokens': 1024,
        'gen_ai.usage.cache_write.input_tokens': 6,
        'gen_ai.usage.output_tokens': 300,
        'gen_ai.usage.reasoning.output_tokens': 128,
        'gen_ai.conversation.id': 'c9',
        'gen_ai.request.stream': true,
        'gen_ai.response.time_to_first_chunk': 0.19,
      },
      {
        response_model: 'gpt-4o-mini-2024-07-18',
        provider_request_id: 'chatcmpl-1',
        input_tokens: 1200,
        cache_read_tokens: 1024,
        cache_write_tokens: 6,
        output_tokens: 300,
        reasoning_tokens: 128,
        conversation_id: 'c9',
        streamed: true,
        time_to_first_token_ms: 190,
        latency_ms: 812,
        ts: '2026-11-01T12:00:00.000Z',
      },
    ],
    [
      'of 1.41, which named cache writes otherwise',
      { ...base, 'gen_ai.usage.input_tokens': 10, 'gen_ai.usage.cache_creation.input_tokens': 4 },
      { input_tokens: 10, cache_write_tokens: 4 },
    ],
    [
      'of 1.36, with gen_ai.system',
      {
        'gen_ai.system': 'anthropic',
        'gen_ai.request.model': 'claude-sonnet-4-5',
        'gen_ai.usage.input_tokens': 10,
        'gen_ai.usage.output_tokens': 3,
      },
      { provider: 'anthropic', model: 'claude-sonnet-4-5', input_tokens: 10, output_tokens: 3 },
    ],
    [
      'of 1.26, with prompt and completion tokens',
      {
        'gen_ai.system': 'openai',
        'gen_ai.request.model': 'gpt-4o',
        'gen_ai.usage.prompt_tokens': 10,
        'gen_ai.usage.completion_tokens': 3,
      },
      { provider: 'openai', model: 'gpt-4o', input_tokens: 10, output_tokens: 3 },
    ],
    [
      'of an instrumentation that writes counts as text',
      { ...base, 'gen_ai.usage.input_tokens': '10', 'gen_ai.usage.output_tokens': '3' },
      { input_tokens: 10, output_tokens: 3 },
    ],
    [
      'that names only the model that answered',
      { 'gen_ai.system': 'openai', 'gen_ai.response.model': 'gpt-4o', 'gen_ai.usage.input_tokens': 10 },
      { model: 'gpt-4o', input_tokens: 10 },
    ],
  ])('%s becomes a usage event', async (_, attributes, event) => {
    const span = jsonSpan(attributes)
    expect(partialOf(await sendSpans([span])).rejectedSpans).toBe(0)
    expect(await stored(idOf(span))).toMatchObject(event)
  })

  it('takes what it does not say from its resource', async () => {
    const span = jsonSpan({ ...base, 'gen_ai.usage.input_tokens': 1 })
    await sendSpans([span], { 'deployment.environment.name': 'staging', 'cloud.region': 'eu-west-1' })
    expect(await stored(idOf(span))).toMatchObject({ environment: 'staging', region: 'eu-west-1' })
  })

  it('of a failed call costs nothing; one that failed after some usage is aborted', async () => {
    const failed = jsonSpan(base, { status: { code: 2 } })
    const left = jsonSpan({ ...base, 'gen_ai.usage.input_tokens': 5, 'error.type': 'timeout' })
    expect(partialOf(await sendSpans([failed, left])).rejectedSpans).toBe(0)
    expect(await stored(idOf(failed))).toMatchObject({ status: 'error', rating: { total_cost: '0' } })
    expect(await stored(idOf(left))).toMatchObject({ status: 'aborted', input_tokens: 5 })
  })

  it('without GenAI attributes is ignored and counted, whatever it looks like', async () => {
    const others = [
      jsonSpan({ 'http.request.method': 'GET' }),
      jsonSpan({}, { traceId: '', spanId: undefined, startTimeUnixNano: undefined }),
      jsonSpan({ 'db.system': 'postgresql' }, { traceId: 'not hex', startTimeUnixNano: 1e300 }),
      jsonSpan({ 'gen_ai.operation.name': 'execute_tool', 'gen_ai.tool.name': 'search' }),
      jsonSpan({ 'gen_ai.operation.name': 'invoke_agent', 'gen_ai.usage.input_tokens': 9 }),
    ]
    const before = await metric('tokentally_ignored_spans_total')
    await storesNothing(database.pool, async () => {
      expect(partialOf(await sendSpans(others)).rejectedSpans).toBe(0)
    })
    expect(await metric('tokentally_ignored_spans_total')).toBe(before + others.length)
  })

  it('that is bad costs its neighbours nothing', async () => {
    const usage = { ...base, 'gen_ai.usage.input_tokens': 5 }
    const [first, last] = [jsonSpan(usage), jsonSpan(usage)]
    const bad = [
      jsonSpan(usage, { traceId: 'xyz' }),
      jsonSpan(usage, { traceId: null }),
      jsonSpan(usage, { spanId: '00' }),
      jsonSpan(usage, { startTimeUnixNano: '99999999999999999999' }),
      jsonSpan(usage, { startTimeUnixNano: -1 }),
      jsonSpan(usage, { startTimeUnixNano: 1e300 }),
      jsonSpan(usage, { startTimeUnixNano: undefined }),
      jsonSpan({ ...usage, 'gen_ai.usage.output_tokens': -1 }),
      jsonSpan({ ...usage, 'gen_ai.usage.output_tokens': 1.5 }),
      jsonSpan(base, { attributes: [attribute('gen_ai.usage.input_tokens', 5)] }),
      jsonSpan({ ...usage, 'gen_ai.provider.name': 'x'.repeat(1000) }),
      jsonSpan({ ...usage, 'tokentally.customer_id': 'a\0b' }),
    ]
    const before = await countEvents(database.pool)
    const partial = partialOf(await sendSpans([first, ...bad, last]))
    expect(partial.rejectedSpans).toBe(bad.length)
    expect(partial.errorMessage).toContain('trace_id')
    expect(await countEvents(database.pool)).toBe(before + 2)
    expect(await stored(idOf(first))).toMatchObject({ input_tokens: 5 })
    expect(await stored(idOf(last))).toMatchObject({ input_tokens: 5 })
  })

  it('never brings a prompt along', async () => {
    const secret = 'What is the capital of France?'
    const prompts = {
      'gen_ai.prompt.0.content': secret,
      'gen_ai.completion.0.content': secret,
      'gen_ai.input.messages': secret,
      'gen_ai.system_instructions': secret,
      'input.value': secret,
    }
    const event = { name: 'gen_ai.content.prompt', attributes: [attribute('gen_ai.prompt', secret)] }
    const good = jsonSpan({ ...base, ...prompts, 'gen_ai.usage.input_tokens': 5 }, { events: [event] })
    const bad = jsonSpan(
      { ...base, ...prompts, 'gen_ai.usage.input_tokens': 5, 'gen_ai.usage.output_tokens': -5 },
      { events: [event] },
    )
    const answer = await sendSpans([good, bad])
    expect(partialOf(answer).rejectedSpans).toBe(1)
    const { rows } = await database.pool.query(
      'select usage_event::text as text from usage_event union all select dead_letter::text from dead_letter',
    )
    expect(answer.text + JSON.stringify(rows)).not.toContain('France')
  })
})

describe('an event counts once', () => {
  const attributesOf = (json: object) => {
    const parsed = parseUsageEvent(json, { nowMs: Date.UTC(2026, 10, 23), newEventId: randomUUID })
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues))
    return usageEventToAttributes(parsed.event)
  }

  it.each(['JSON first', 'the span first'])('whether it comes as JSON or as a span: %s', async (order) => {
    const json = {
      event_id: randomUUID(),
      ts: '2026-11-01T12:00:00.123Z',
      customer_id: 'acme',
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 10,
      cache_read_tokens: 4,
      meters: { web_search_requests: 1 },
      tags: { plan: 'pro' },
      host: { k8s: { pod: 'p' } },
      latency_ms: 0.5,
    }
    const span = jsonSpan(attributesOf(json))
    const before = await countEvents(database.pool)
    const asSpan = async () => expect(partialOf(await sendSpans([span])).rejectedSpans).toBe(0)
    const asJson = async () => submissionOf(await sendUsage(service, json))
    if (order === 'JSON first') {
      expect(await asJson()).toMatchObject({ accepted: 1 })
      await asSpan()
    } else {
      await asSpan()
      expect(await asJson()).toMatchObject({ accepted: 0, duplicates: 1 })
    }
    expect(await countEvents(database.pool)).toBe(before + 1)
    expect(await stored(json.event_id)).toMatchObject(json)
  })

  it('and another one under the same ids is refused, the first stands', async () => {
    const span = jsonSpan({ ...base, 'gen_ai.usage.input_tokens': 5 })
    const other = {
      ...jsonSpan({ ...base, 'gen_ai.usage.input_tokens': 6 }),
      traceId: span.traceId,
      spanId: span.spanId,
    }
    await sendSpans([span])
    await storesNothing(database.pool, async () => {
      const partial = partialOf(await sendSpans([other, span]))
      expect(partial).toMatchObject({ rejectedSpans: 1, errorMessage: expect.stringContaining('event_id') })
    })
    expect(await stored(idOf(span))).toMatchObject({ input_tokens: 5 })
  })
})

describe('an answer', () => {
  const protobuf = { 'content-type': 'application/x-protobuf' }
  const JSON_TYPE = expect.stringMatching(/^application\/json(; charset=utf-8)?$/)

  it('speaks the language of the request', async () => {
    const json = await call(service, '/v1/traces', { body: '{}' })
    expect([json.status, json.headers.get('content-type'), json.text]).toEqual([200, JSON_TYPE, '{}'])
    const empty = await call(service, '/v1/traces', { body: new Uint8Array(), headers: protobuf })
    expect([empty.status, empty.headers.get('content-type'), empty.text]).toEqual([
      200,
      protobuf['content-type'],
      '',
    ])
  })

  it('to a broken body is a google.rpc.Status', async () => {
    const json = await call(service, '/v1/traces', { body: '{"resourceSpans": 7}' })
    expect([json.status, json.headers.get('content-type')]).toEqual([400, JSON_TYPE])
    expect(json.json).toEqual({ code: 3, message: expect.stringContaining('resourceSpans') })
    const broken = await call(service, '/v1/traces', { body: Buffer.from([0xff]), headers: protobuf })
    expect([broken.status, broken.headers.get('content-type')]).toEqual([400, protobuf['content-type']])
    // Field 1, a varint: code 3. Field 2, text: the message.
    expect([...broken.bytes.subarray(0, 3)]).toEqual([0x08, 3, 0x12])
    expect(broken.text).toContain('protobuf')
  })
})

describe('a body that is no export request is a 4xx, and nothing is stored', () => {
  const sendBytes = (body: Uint8Array, headers: Readonly<Record<string, string>> = {}) =>
    call(service, '/v1/traces', { body, headers: { 'content-type': 'application/x-protobuf', ...headers } })

  it('wherever protobuf was cut', async () => {
    const body = await recordBody(
      (url) => new ProtobufExporter({ url }),
      makeSpans({ attributes: chat }, { attributes: chat }),
    )
    expect(body.length).toBeGreaterThan(500)
    await storesNothing(database.pool, async () => {
      for (let length = 1; length < body.length; length += 7) {
        expect([length, (await sendBytes(body.subarray(0, length))).status]).toEqual([length, 400])
      }
      expect((await sendBytes(Buffer.concat([body, Buffer.from([0x0a])]))).status).toBe(400)
    })
    const before = await countEvents(database.pool)
    expect((await sendBytes(body)).status).toBe(200)
    expect(await countEvents(database.pool)).toBe(before + 2)
  })

  it('whatever bytes it has', async () => {
    await storesNothing(database.pool, async () => {
      for (let round = 0; round < 100; round++) {
        const answer = await sendBytes(randomBytes(1 + round * 11))
        // A few of them are messages of fields that nobody knows.
        expect([200, 400]).toContain(answer.status)
      }
    })
  })

  it.each<[string, number, Uint8Array | string, Readonly<Record<string, string>>]>([
    ['groups a million deep', 400, Buffer.alloc(MIB, 0x0b), {}],
    ['a length beyond the end', 400, Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), {}],
    ['JSON in the place of protobuf', 400, '{"resourceSpans": []}', {}],
    ['protobuf in the place of JSON', 400, Buffer.from([0x0a, 0]), { 'content-type': 'application/json' }],
    ['no JSON', 400, '{"resourceSpans": [', { 'content-type': 'application/json' }],
    ['broken UTF-8', 400, Buffer.from([0x22, 0xff, 0x22]), { 'content-type': 'application/json' }],
    ['null', 400, 'null', { 'content-type': 'application/json' }],
    ['a list', 400, '[]', { 'content-type': 'application/json' }],
    ['nothing where JSON should be', 400, '', { 'content-type': 'application/json' }],
    ['another type', 415, 'x', { 'content-type': 'text/plain' }],
    ['another encoding', 415, '', { 'content-encoding': 'snappy' }],
    ['no gzip', 400, 'x', { 'content-encoding': 'gzip' }],
    ['half a gzip', 400, gzipSync('x'.repeat(99)).subarray(0, 20), { 'content-encoding': 'gzip' }],
    ['a bomb', 413, gzipSync(Buffer.alloc(100 * MIB)), { 'content-encoding': 'gzip' }],
  ])('%s', async (_, status, body, headers) => {
    await storesNothing(database.pool, async () => {
      const bytes = typeof body === 'string' ? Buffer.from(body) : body
      const answer = await sendBytes(bytes, headers)
      expect([answer.status, answer.text]).toEqual([status, expect.any(String)])
    })
  })

  it('100 MiB', async () => {
    function* chunks() {
      for (let index = 0; index < 100; index++) yield Buffer.alloc(MIB)
    }
    await storesNothing(database.pool, async () => {
      const headers = { 'content-type': 'application/x-protobuf' }
      expect((await stream(service, '/v1/traces', headers, chunks())).status).toBe(413)
    })
  })

  it('more than 10,000 spans', async () => {
    await storesNothing(database.pool, async () => {
      const span = jsonSpan({ ...base, 'gen_ai.usage.input_tokens': 5 })
      expect((await sendSpans(Array.from({ length: 10_001 }, () => span))).status).toBe(413)
    })
  })

  it('text that is no UTF-8', async () => {
    const spans = makeSpans({ attributes: { ...chat, 'tokentally.customer_id': 'QQQQ' } })
    const body = await recordBody((url) => new ProtobufExporter({ url }), spans)
    const at = body.indexOf('QQQQ')
    await storesNothing(database.pool, async () => {
      body.write('\xff\xfe', at, 'latin1')
      expect((await sendBytes(body)).status).toBe(400)
    })
    body.write('\ufffdQ', at)
    expect((await sendBytes(body)).status).toBe(200)
    expect(await stored(eventIdOf(spans[0]))).toMatchObject({ customer_id: '\ufffdQ' })
  })

  it('an attribute without a key, which protobuf leaves out when it is empty, is none', async () => {
    // resource_spans { resource { attributes { value { string_value: "" } } } }
    const bytes = Buffer.from([0x0a, 0x08, 0x0a, 0x06, 0x0a, 0x04, 0x12, 0x02, 0x0a, 0x00])
    expect((await sendBytes(bytes)).status).toBe(200)
  })

  it('wrong types, wherever they stand', async () => {
    const span = jsonSpan({ ...base, 'gen_ai.usage.input_tokens': 5 })
    const wrong: readonly JsonSpan[] = [
      { traceId: 7 },
      { startTimeUnixNano: {} },
      { startTimeUnixNano: 'noon' },
      { startTimeUnixNano: '9'.repeat(1_000_000) },
      { attributes: 'gen_ai' },
      { attributes: [{ key: 7, value: {} }] },
      { attributes: [{ key: 'gen_ai.system', value: { intValue: 'many' } }] },
      { attributes: [{ key: 'gen_ai.system', value: { stringValue: 7 } }] },
      { status: 'bad' },
    ]
    await storesNothing(database.pool, async () => {
      for (const fields of wrong) {
        const answer = await sendSpans([{ ...span, ...fields }])
        const [field] = Object.keys(fields)
        expect([fields, answer.status]).toEqual([fields, 400])
        expect(answer.json).toEqual({
          code: 3,
          message: expect.stringContaining(`resourceSpans.0.scopeSpans.0.spans.0.${field}`),
        })
      }
    })
  })
})
