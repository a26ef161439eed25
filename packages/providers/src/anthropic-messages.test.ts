import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  badCounts,
  cutsOf,
  type Exchange,
  everyCut,
  exchange,
  type Reading,
  textOf,
  transcript,
  transcriptNames,
  usageLike,
} from '../test/exchange.ts'
import { readAnthropicMessages } from './anthropic-messages.ts'

const STREAM = 'text/event-stream; charset=utf-8'
const BODY = '{"model":"claude-sonnet-4-5","max_tokens":1024,"messages":[]}'

const readerOf = (bodyText: string | undefined = BODY) =>
  readAnthropicMessages({ bodyText, injectStreamUsage: true })
const utf8 = (text: string) => new Uint8Array(Buffer.from(text))

function readPlain(bytes: Uint8Array, status = 200, cuts: readonly number[] = []): Exchange {
  return exchange(readerOf(), { bytes, status, contentType: 'application/json', cuts })
}

function readStream(bytes: Uint8Array, cuts: readonly number[] = []): Exchange {
  return exchange(readerOf(), { bytes, contentType: STREAM, cuts })
}

/** Counts as a row of a table: all input, all output, then the parts. */
function counts(input_tokens: number, output_tokens: number, parts: Record<string, number> = {}) {
  return { input_tokens, output_tokens, ...parts }
}

function nothing(isComplete: boolean): Reading {
  return { isComplete, isStreamed: false, outputText: '' }
}

describe('plain answers', () => {
  it.each<[name: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
    [
      'plain',
      counts(2095, 503),
      {
        responseModel: 'claude-sonnet-4-5-20250929',
        responseId: 'msg_01XFDUDYJgAACzvnptvVoYEL',
        serviceTier: 'standard',
        outputText: "Hi! I'm Claude.",
      },
    ],
    // All input is what the cache did not know, plus what it was given, plus what it gave.
    ['cache-write-5m', counts(21 + 1800, 120, { cache_write_tokens: 1800 }), {}],
    ['cache-write-1h', counts(14 + 2300, 80, { cache_write_tokens: 2300, cache_write_1h_tokens: 2000 }), {}],
    [
      'cache-read',
      counts(50 + 248 + 100_000, 503, {
        cache_read_tokens: 100_000,
        cache_write_tokens: 248,
        cache_write_1h_tokens: 100,
      }),
      {},
    ],
    [
      'thinking',
      counts(38, 1450, { reasoning_tokens: 1312 }),
      { outputText: 'Let me count the primes below 30.There are 10.' },
    ],
    ['tool-use', counts(472, 89), { outputText: 'I\'ll check both.{"city":"Paris"}{"zone":"Asia/東京"}' }],
    ['web-search', counts(10_682, 510, { web_search_requests: 2 }), {}],
    ['refusal', counts(62, 4), { outputText: '' }],
    ['priority-without-details', counts(11, 4), { serviceTier: 'priority' }],
  ])('%s', (name, quantities, rest) => {
    const bytes = transcript(`anthropic-messages/${name}.json`)
    const { seen, result } = readPlain(bytes)
    expect(result).toMatchObject({ isComplete: true, isStreamed: false, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('errorType')
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it.each<[name: string, status: number, errorType: string]>([
    ['error-400', 400, 'invalid_request_error'],
    ['error-429', 429, 'rate_limit_error'],
    ['error-529', 529, 'overloaded_error'],
  ])('%s counts nothing and has a name', (name, status, errorType) => {
    const bytes = transcript(`anthropic-messages/${name}.json`)
    const { seen, result } = readPlain(bytes, status)
    expect(result).toEqual({ ...nothing(true), errorType })
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it.each<[what: string, body: string, status: number, expected: Reading]>([
    ['a proxy’s page', '<html>Bad Gateway</html>', 502, { ...nothing(false), errorType: 'http_502' }],
    ['an empty error', '', 503, { ...nothing(false), errorType: 'http_503' }],
    ['an error without a type', '{"error":"no"}', 404, { ...nothing(true), errorType: 'http_404' }],
    [
      'an error with status 200',
      '{"type":"error","error":{"type":"api_error"}}',
      200,
      { ...nothing(true), errorType: 'api_error' },
    ],
    ['no usage', '{"content":[{"type":"text","text":"Hi"}]}', 200, { ...nothing(true), outputText: 'Hi' }],
    ['half a body', '{"usage":{"input_tokens":5,', 200, { ...nothing(false), reason: 'unreadable_body' }],
    ['no object', '[1]', 200, { ...nothing(false), reason: 'unreadable_body' }],
    ['nothing', '', 200, { ...nothing(false), reason: 'unreadable_body' }],
  ])('%s', (_, body, status, expected) => {
    expect(readPlain(utf8(body), status).result).toEqual(expected)
  })

  it.each(transcriptNames('anthropic-messages', '.json'))(
    '%s is the same whichever way it is cut',
    (name) => {
      const bytes = transcript(name)
      const { result } = readPlain(bytes)
      for (const cuts of everyCut(bytes.length)) {
        expect(textOf(readPlain(bytes, 200, cuts))).toBe(textOf({ seen: Buffer.from(bytes), result }))
      }
    },
  )
})

describe('usage', () => {
  it.each<[what: string, usage: object, quantities: Record<string, number> | undefined]>([
    [
      'details of zero are left out',
      { input_tokens: 1, output_tokens: 2, cache_read_input_tokens: 0 },
      counts(1, 2),
    ],
    [
      'all of it from the cache',
      { input_tokens: 0, output_tokens: 2, cache_read_input_tokens: 9 },
      counts(9, 2, { cache_read_tokens: 9 }),
    ],
    ['no output is zero output', { input_tokens: 3, output_tokens: 0 }, counts(3, 0)],
    ['one side missing is not zero', { input_tokens: 3 }, { input_tokens: 3 }],
    ['the other side missing', { output_tokens: 4 }, { output_tokens: 4 }],
    [
      'the cache alone is not all input',
      { output_tokens: 4, cache_read_input_tokens: 9 },
      { output_tokens: 4 },
    ],
    ['a count as text is none', { input_tokens: '3', output_tokens: 4 }, { output_tokens: 4 }],
    ['negative counts are none', { input_tokens: -3, output_tokens: -4 }, undefined],
    ['fractional counts are none', { input_tokens: 0.5, output_tokens: 1.5 }, undefined],
    [
      'a sum that is not exact is none',
      { input_tokens: Number.MAX_SAFE_INTEGER, cache_read_input_tokens: 1, output_tokens: 4 },
      { output_tokens: 4 },
    ],
    ['nothing reported', {}, undefined],
  ])('%s', (_, usage, quantities) => {
    expect(readPlain(utf8(JSON.stringify({ usage }))).result.quantities).toEqual(quantities)
  })
})

describe('what changes the price of every token', () => {
  it.each<[what: string, usage: object, serviceTier: string | undefined]>([
    ['nothing', { service_tier: 'standard', speed: 'standard', inference_geo: 'global' }, 'standard'],
    ['inference in the US alone', { service_tier: 'standard', inference_geo: 'us' }, 'standard_us'],
    ['the same of a batch', { service_tier: 'batch', inference_geo: 'us' }, 'batch_us'],
    ['the same without a tier', { inference_geo: 'us' }, 'standard_us'],
    ['fast mode', { service_tier: 'standard', speed: 'fast', inference_geo: 'us' }, 'fast'],
    ['no tier at all', { inference_geo: 'not_available' }, undefined],
  ])('is in the tier: %s', (_, said, serviceTier) => {
    const usage = { input_tokens: 9, output_tokens: 5, ...said }
    expect(readPlain(utf8(JSON.stringify({ usage }))).result.serviceTier).toBe(serviceTier)
    // A stream says it in its first event only.
    const events = [
      { type: 'message_start', message: { usage } },
      { type: 'message_delta', usage: { output_tokens: 5 } },
    ]
    const stream = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')
    expect(readStream(utf8(stream)).result.serviceTier).toBe(serviceTier)
  })
})

describe('streams', () => {
  it.each<[name: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
    [
      'stream',
      counts(25, 15),
      {
        responseModel: 'claude-sonnet-4-5-20250929',
        responseId: 'msg_01Stream00000000000000001',
        serviceTier: 'standard',
        outputText: 'Counted – naïve, 数えた 🙂.',
      },
    ],
    ['gateway-crlf-bom', counts(25, 15), { outputText: 'Counted – naïve, 数えた 🙂.' }],
    // The last event repeats the cache's counts but not their split by duration.
    [
      'stream-cache',
      counts(3 + 1111 + 5000, 87, {
        cache_read_tokens: 5000,
        cache_write_tokens: 1111,
        cache_write_1h_tokens: 1000,
      }),
      {},
    ],
    [
      'stream-thinking',
      counts(42, 316, { reasoning_tokens: 201 }),
      { responseModel: 'claude-opus-4-5-20251101', outputText: 'Let me think it through.42' },
    ],
    [
      'stream-tool-use',
      counts(472, 89),
      { outputText: 'Both.get_weather{"city": "Paris"}get_time{"zone": "東京"}' },
    ],
    // What the search found is input too: the last event knows, the first did not.
    ['stream-web-search', counts(10_682, 510, { web_search_requests: 1 }), {}],
    // Cumulative: the last event replaces the one before, nothing is added up.
    [
      'stream-two-deltas',
      counts(190 + 350 + 300, 95, {
        cache_read_tokens: 300,
        cache_write_tokens: 350,
        cache_write_1h_tokens: 200,
        web_search_requests: 3,
      }),
      { outputText: 'First. Second.' },
    ],
    ['stream-refusal', counts(62, 7), { outputText: 'First,' }],
    ['stream-unknown-events', counts(25, 6), { outputText: 'Ok.' }],
    // Without the last event the output is unknown: the first one's is a placeholder.
    ['stream-cut', { input_tokens: 25 }, { isComplete: false, outputText: 'Counted – naïve, 数えた' }],
    ['stream-error', { input_tokens: 25 }, { isComplete: false, errorType: 'overloaded_error' }],
  ])('%s', (name, quantities, rest) => {
    const { result } = readStream(transcript(`anthropic-messages/${name}.sse`))
    expect(result).toMatchObject({ isComplete: true, isStreamed: true, ...rest })
    expect(result.quantities).toEqual(quantities)
    if (rest.errorType === undefined) expect(result).not.toHaveProperty('errorType')
  })

  const event = (json: object) => `data: ${JSON.stringify(json)}\n\n`
  const start = event({ type: 'message_start', message: { usage: { input_tokens: 9, output_tokens: 1 } } })

  it.each<[what: string, events: string, quantities: Record<string, number> | undefined]>([
    [
      'an end without usage leaves the output unknown',
      start + event({ type: 'message_delta', delta: {} }),
      { input_tokens: 9 },
    ],
    [
      'an end without a count of output, too',
      start + event({ type: 'message_delta', usage: { input_tokens: 9 } }),
      { input_tokens: 9 },
    ],
    [
      'nulls replace nothing',
      start + event({ type: 'message_delta', usage: { input_tokens: null, output_tokens: 5 } }),
      counts(9, 5),
    ],
    [
      'an end without a start',
      event({ type: 'message_delta', usage: { output_tokens: 5 } }),
      { output_tokens: 5 },
    ],
    [
      'an end without its empty line',
      start + event({ type: 'message_delta', usage: { output_tokens: 5 } }).trimEnd(),
      counts(9, 5),
    ],
    [
      'usage of no known event is none',
      event({ type: 'other', usage: { input_tokens: 9, output_tokens: 5 } }),
      undefined,
    ],
  ])('%s', (_, events, quantities) => {
    expect(readStream(utf8(events)).result.quantities).toEqual(quantities)
  })

  it.each(['text/event-stream', 'Text/Event-Stream;charset=UTF-8'])(
    'are known by the type %s',
    (contentType) => {
      const bytes = transcript('anthropic-messages/stream.sse')
      expect(exchange(readerOf(), { bytes, contentType }).result).toMatchObject({
        isStreamed: true,
        quantities: counts(25, 15),
      })
    },
  )
})

describe('what the application sees', () => {
  it.each(transcriptNames('anthropic-messages', '.sse'))('of %s is every byte, cut anywhere', (name) => {
    const bytes = transcript(name)
    const { seen, result } = readStream(bytes)
    expect(seen).toEqual(Buffer.from(bytes))
    for (const cuts of everyCut(bytes.length))
      expect(textOf(readStream(bytes, cuts))).toBe(textOf({ seen, result }))
    fc.assert(
      fc.property(cutsOf(bytes.length), (cuts) => {
        expect(textOf(readStream(bytes, cuts))).toBe(textOf({ seen, result }))
      }),
    )
  })

  it.each([STREAM, 'application/json'])('is the very same object (%s)', (contentType) => {
    const reader = readerOf()
    reader.respond(200, () => contentType)
    const chunk = utf8('event: ping\ndata: {"type":"ping"}\n\n')
    expect(reader.push(chunk)).toBe(chunk)
  })
})

describe('the request', () => {
  it('is never rewritten', () => {
    for (const body of [BODY, '{"stream":true}', 'no JSON', undefined]) {
      expect(readAnthropicMessages({ bodyText: body, injectStreamUsage: true }).rewrittenBody).toBeUndefined()
    }
  })

  it('takes the model from the URL where the body has none, as on Vertex AI', () => {
    const bodyText = '{"anthropic_version":"vertex-2023-10-16","messages":[]}'
    const model = 'claude-sonnet-4-5@20250929'
    const reader = readAnthropicMessages({ model, bodyText, injectStreamUsage: true })
    expect(reader.requestedModel).toBe(model)
  })

  it('names the model, and gives its text for an estimate', () => {
    const image = { type: 'image', source: { type: 'base64', data: 'AAAA' } }
    const reader = readerOf(
      JSON.stringify({
        model: 'claude-sonnet-4-5',
        system: 'Be brief',
        metadata: { user_id: 'u-1' },
        messages: [{ role: 'user', content: [{ type: 'text', text: 'Look' }, image] }],
      }),
    )
    expect(reader.requestedModel).toBe('claude-sonnet-4-5')
    expect(reader.promptText().split('\n')).toEqual(['Be brief', 'user', 'text', 'Look', 'image', ''])
  })
})

describe('whatever a provider sends', () => {
  const usage = usageLike({
    input_tokens: null,
    output_tokens: null,
    cache_read_input_tokens: null,
    cache_creation_input_tokens: null,
    cache_creation: ['ephemeral_5m_input_tokens', 'ephemeral_1h_input_tokens'],
    output_tokens_details: ['thinking_tokens'],
    server_tool_use: ['web_search_requests'],
    service_tier: null,
  })
  const stream = (events: readonly unknown[]) =>
    utf8(events.map((event) => `event: x\ndata: ${JSON.stringify(event)}\n\n`).join(''))

  it('as usage, counts are whole, exact and not negative', () => {
    fc.assert(
      fc.property(usage, usage, usage, (first, second, third) => {
        const plain = readPlain(utf8(JSON.stringify({ usage: first })))
        expect(badCounts(plain.result)).toEqual([])
        const { result } = readStream(
          stream([
            { type: 'message_start', message: { usage: first } },
            { type: 'message_delta', usage: second },
            { type: 'message_delta', usage: third },
          ]),
        )
        expect(badCounts(result)).toEqual([])
      }),
      { numRuns: 2_000 },
    )
  })

  it('as JSON, nothing is thrown', () => {
    const type = fc.constantFrom(
      'message_start',
      'message_delta',
      'message_stop',
      'content_block_start',
      'content_block_delta',
      'error',
      'message',
      'ping',
    )
    const value = fc.jsonValue({ maxDepth: 3 })
    const event = fc.record(
      {
        type: fc.oneof(type, value),
        message: value,
        usage,
        delta: value,
        content_block: value,
        content: value,
        error: value,
      },
      { requiredKeys: ['type'] },
    )
    const answer = fc.oneof(
      value,
      event,
      fc.array(value).map((content) => ({ content })),
    )
    fc.assert(
      fc.property(answer, fc.array(event), fc.integer({ min: 100, max: 599 }), (json, events, status) => {
        expect(badCounts(readPlain(utf8(JSON.stringify(json)), status).result)).toEqual([])
        const bytes = stream([json, ...events])
        const { seen, result } = readStream(bytes)
        expect(seen).toEqual(Buffer.from(bytes))
        expect(badCounts(result)).toEqual([])
      }),
      { numRuns: 1_000 },
    )
  })

  it('as bytes, nothing is thrown and no byte is lost', () => {
    const piece = fc.oneof(
      fc
        .constantFrom('event: message_delta\n', 'data: ', '\n\n', '\r\n\r\n', '\r', '{"type":"ping"}')
        .map(utf8),
      fc.uint8Array({ maxLength: 8 }),
    )
    const body = fc.array(piece, { maxLength: 20 }).map((pieces) => new Uint8Array(Buffer.concat(pieces)))
    fc.assert(
      fc.property(
        body.chain((bytes) => fc.tuple(fc.constant(bytes), cutsOf(bytes.length))),
        fc.constantFrom(STREAM, 'application/json', ''),
        fc.option(fc.string(), { nil: undefined }),
        ([bytes, cuts], contentType, bodyText) => {
          const reader = readAnthropicMessages({ bodyText, injectStreamUsage: true })
          expect(exchange(reader, { bytes, contentType, cuts }).seen).toEqual(Buffer.from(bytes))
        },
      ),
      { numRuns: 2_000 },
    )
  })

  it('or an application nests ten thousand levels deep, nothing is thrown', () => {
    const deep = `${'['.repeat(10_000)}"x"${']'.repeat(10_000)}`
    const answer = `{"content":[{"type":"tool_use","input":${deep}}],"usage":{"input_tokens":3,"output_tokens":4}}`
    expect(readPlain(utf8(answer)).result.quantities).toEqual(counts(3, 4))
    expect(readerOf(`{"messages":${deep}}`).promptText()).toBeTypeOf('string')
  })
})
