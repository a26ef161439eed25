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
import { readOpenaiChat } from './openai-chat.ts'
import type { UsageReader } from './reader.ts'

const STREAM = 'text/event-stream; charset=utf-8'
const JSON_TYPE = 'application/json'
const ASKED = '{"model":"gpt-4o-mini","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
const NOT_ASKED = '{"model":"gpt-4o-mini","messages":[],"stream":true}'
const PLAIN = '{"model":"gpt-4o-mini","messages":[]}'

const readerOf = (bodyText: string | undefined, injectStreamUsage = true): UsageReader =>
  readOpenaiChat({ bodyText, injectStreamUsage })
const utf8 = (text: string) => new Uint8Array(Buffer.from(text))

function readPlain(bytes: Uint8Array, status = 200, cuts: readonly number[] = []): Exchange {
  return exchange(readerOf(PLAIN), { bytes, status, contentType: JSON_TYPE, cuts })
}

/** A stream as it arrives; `bodyText` says whether the application asked for its usage. */
function readStream(bytes: Uint8Array, bodyText: string, cuts: readonly number[] = []): Exchange {
  return exchange(readerOf(bodyText), { bytes, contentType: STREAM, cuts })
}

/** Counts as a row of a table: input, output, then the parts. */
function counts(input_tokens: number, output_tokens: number, parts: Record<string, number> = {}) {
  return { input_tokens, output_tokens, ...parts }
}

describe('plain answers', () => {
  it.each<[name: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
    ['plain', counts(19, 10), { outputText: 'Hello! How can I assist you today?' }],
    ['cached', counts(2006, 300, { cache_read_tokens: 1920 }), { responseModel: 'gpt-4o-2024-08-06' }],
    [
      'cache-write',
      counts(1500, 40, { cache_read_tokens: 512, cache_write_tokens: 896 }),
      { responseModel: 'gpt-5.6-sol-2026-07-09' },
    ],
    ['reasoning', counts(75, 1186, { reasoning_tokens: 1024 }), { serviceTier: 'flex' }],
    // Accepted and rejected predictions are inside the completion and billed with it.
    ['prediction', counts(120, 64), {}],
    ['tool-calls', counts(82, 51), { outputText: 'get_weather{"city":"Paris"}get_weather{"city":"東京"}' }],
    ['refusal', counts(88, 11), { outputText: "I'm sorry, I cannot assist with that request." }],
    ['audio', counts(117, 215, { audio_input_tokens: 98, audio_output_tokens: 172 }), {}],
    ['two-choices', counts(19, 22), { outputText: 'Heads.It came up tails, I am afraid.' }],
    ['completions', counts(5, 7), { outputText: '\n\nThis is indeed a test' }],
    ['azure-content-filter', counts(31, 7), { responseId: 'chatcmpl-CfAzureFilter00000000000000010' }],
  ])('%s', (name, quantities, rest) => {
    const bytes = transcript(`openai-chat/${name}.json`)
    const { seen, result } = readPlain(bytes)
    expect(result).toMatchObject({ quantities, isComplete: true, isStreamed: false, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    expect(result).not.toHaveProperty('errorType')
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it.each<[name: string, status: number, errorType: string]>([
    ['error-400', 400, 'invalid_request_error'],
    ['error-429-rate-limit', 429, 'tokens'],
    ['error-429-quota', 429, 'insufficient_quota'],
    ['error-500', 500, 'server_error'],
    ['azure-error-400-content-filter', 400, 'content_filter'],
    ['azure-error-429', 429, '429'],
  ])('%s counts nothing and has a name', (name, status, errorType) => {
    const bytes = transcript(`openai-chat/${name}.json`)
    const { seen, result } = readPlain(bytes, status)
    expect(result).toEqual({ isComplete: true, isStreamed: false, errorType, outputText: '' })
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it.each<[what: string, body: string, status: number, expected: Reading]>([
    ['a proxy’s page', '<html>Bad Gateway</html>', 502, { ...nothing(false), errorType: 'http_502' }],
    ['an empty error', '', 503, { ...nothing(false), errorType: 'http_503' }],
    [
      'an error that is a text',
      '{"error":"model not found"}',
      404,
      { ...nothing(true), errorType: 'http_404' },
    ],
    [
      'an error with status 200',
      '{"error":{"type":"api_error"}}',
      200,
      { ...nothing(true), errorType: 'api_error' },
    ],
    ['no usage', '{"choices":[{"message":{"content":"Hi"}}]}', 200, { ...nothing(true), outputText: 'Hi' }],
    ['half a body', '{"usage":{"prompt_tokens":5,', 200, { ...nothing(false), reason: 'unreadable_body' }],
    ['no object', '[1]', 200, { ...nothing(false), reason: 'unreadable_body' }],
    ['nothing', '', 200, { ...nothing(false), reason: 'unreadable_body' }],
  ])('%s', (_, body, status, expected) => {
    expect(readPlain(utf8(body), status).result).toEqual(expected)
  })

  it.each(transcriptNames('openai-chat', '.json'))('%s is the same whichever way it is cut', (name) => {
    const bytes = transcript(name)
    const { result } = readPlain(bytes)
    for (const cuts of everyCut(bytes.length)) {
      expect(textOf(readPlain(bytes, 200, cuts))).toBe(textOf({ seen: Buffer.from(bytes), result }))
    }
  })
})

function nothing(isComplete: boolean): Reading {
  return { isComplete, isStreamed: false, outputText: '' }
}

describe('a plain answer that was cut', () => {
  it.each([
    ['{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Half an ans', 'Half an ans'],
    [
      '{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{\\"a\\":',
      'f{"a":',
    ],
  ])('gives the text that came: %s', (body, outputText) => {
    expect(readPlain(utf8(body)).result).toMatchObject({ outputText, isComplete: false })
  })

  it('says nothing of its usage, which may be cut as well', () => {
    const { result } = readPlain(utf8('{"choices":[],"usage":{"prompt_tokens":12'))
    expect(result.quantities).toBeUndefined()
  })
})

describe('usage', () => {
  const read = (usage: object) => readPlain(utf8(JSON.stringify({ usage }))).result

  it.each<[what: string, usage: object, quantities: Record<string, number> | undefined]>([
    [
      'details of zero are left out',
      { prompt_tokens: 1, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 0 } },
      counts(1, 2),
    ],
    [
      'images',
      { prompt_tokens: 800, completion_tokens: 2, prompt_tokens_details: { image_tokens: 765 } },
      counts(800, 2, { image_input_tokens: 765 }),
    ],
    [
      'images that are cached as well',
      {
        prompt_tokens: 1100,
        completion_tokens: 2,
        prompt_tokens_details: { cached_tokens: 1024, image_tokens: 765 },
      },
      counts(1100, 2, { cache_read_tokens: 1024, image_input_tokens: 76, image_cache_read_tokens: 689 }),
    ],
    [
      'parts above their whole are left out',
      {
        prompt_tokens: 10,
        completion_tokens: 2,
        prompt_tokens_details: { cached_tokens: 11 },
        completion_tokens_details: { reasoning_tokens: 3 },
      },
      counts(10, 2),
    ],
    ['no output is zero output', { prompt_tokens: 3, completion_tokens: 0, total_tokens: 3 }, counts(3, 0)],
    ['one side missing is not zero', { prompt_tokens: 3 }, { input_tokens: 3 }],
    ['the other side missing', { completion_tokens: 4 }, { output_tokens: 4 }],
    [
      'details without their total',
      { completion_tokens: 4, prompt_tokens_details: { cached_tokens: 9 } },
      { output_tokens: 4 },
    ],
    ['a count as text is none', { prompt_tokens: '3', completion_tokens: 4 }, { output_tokens: 4 }],
    ['negative counts are none', { prompt_tokens: -3, completion_tokens: -4 }, undefined],
    ['fractional counts are none', { prompt_tokens: 0.5, completion_tokens: 1.5 }, undefined],
    ['nothing reported', {}, undefined],
  ])('%s', (_, usage, quantities) => {
    expect(read(usage).quantities).toEqual(quantities)
  })

  it('that contradicts its total says so', () => {
    const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 35 }
    expect(read(usage)).toMatchObject({
      quantities: counts(10, 5),
      mismatch: 'total_tokens is 35, prompt and completion add up to 15',
    })
  })
})

/** Streams that exist as they come without and with `include_usage`. */
const TWINS = transcriptNames('openai-chat', '.with-usage.sse').map((name) =>
  name.replace('.with-usage.sse', ''),
)

describe('streams', () => {
  it.each<[name: string, quantities: Record<string, number> | undefined, rest: Partial<Reading>]>([
    [
      'stream.with-usage',
      counts(24, 17),
      {
        responseModel: 'gpt-4o-mini-2024-07-18',
        responseId: 'chatcmpl-CfB1stream00000000000000000001',
        serviceTier: 'default',
        outputText: 'The field is `{"usage":null,"choices":[]}` – naïve, 数えた 🙂.',
      },
    ],
    ['stream', undefined, { outputText: 'The field is `{"usage":null,"choices":[]}` – naïve, 数えた 🙂.' }],
    [
      'stream-tool-calls.with-usage',
      counts(2082, 46, { cache_read_tokens: 1920 }),
      { serviceTier: 'priority', outputText: 'get_weather{"city":"Paris"}get_time{"zone":"Asia/東京"}' },
    ],
    ['completions-stream.with-usage', counts(5, 7), { outputText: 'This is naïve' }],
    ['stream-two-choices.with-usage', counts(19, 9), { outputText: 'HeadsTails., twice.' }],
    ['stream-refusal.with-usage', counts(88, 10), { outputText: "I'm sorry, I cannot assist." }],
    ['stream-reasoning.with-usage', counts(75, 1186, { reasoning_tokens: 1024 }), { serviceTier: 'flex' }],
    ['gateway-crlf-bom.with-usage', counts(24, 17), { responseModel: 'gpt-4o-mini-2024-07-18' }],
    [
      'azure-stream.with-usage',
      counts(1412, 5, { cache_read_tokens: 1280 }),
      {
        responseModel: 'gpt-4o-2024-11-20',
        responseId: 'chatcmpl-CfAzureStream00000000000000006',
        outputText: 'Bonjour à tous',
      },
    ],
    // Its last chunk has an empty id and model.
    [
      'azure-stream',
      undefined,
      {
        responseModel: 'gpt-4o-2024-11-20',
        responseId: 'chatcmpl-CfAzureStream00000000000000006',
        outputText: 'Bonjour à tous',
      },
    ],
    [
      'openrouter-stream',
      counts(194, 2, { cache_read_tokens: 64 }),
      { responseModel: 'openai/gpt-4o-mini', outputText: '亚洲' },
    ],
    // Running totals: the last one counts, nothing is added up.
    ['vllm-running-usage', counts(13, 3), { outputText: 'One two' }],
    ['stream-cut.with-usage', undefined, { isComplete: false, responseModel: 'gpt-4o-mini-2024-07-18' }],
    ['stream-error.with-usage', undefined, { isComplete: false, errorType: 'server_error' }],
  ])('%s', (name, quantities, rest) => {
    const { result } = readStream(transcript(`openai-chat/${name}.sse`), ASKED)
    expect(result).toMatchObject({ isComplete: true, isStreamed: true, ...rest })
    expect(result.quantities).toEqual(quantities)
  })

  it('a cut one keeps the text that came, whole characters only', () => {
    const { result } = readStream(transcript('openai-chat/stream-cut.with-usage.sse'), ASKED)
    expect(result.outputText).toBe('The field is `{"usage":null,"choices":[]}` – naïve, 数えた')
  })

  it('with its usage is complete even if the end mark never came', () => {
    const whole = Buffer.from(transcript('openai-chat/stream.with-usage.sse')).toString()
    const cut = utf8(whole.replace('data: [DONE]\n\n', ''))
    for (const body of [ASKED, NOT_ASKED]) {
      expect(readStream(cut, body).result).toMatchObject({ quantities: counts(24, 17), isComplete: true })
    }
  })

  it.each(['data: [DONE]\n\n', 'data:[DONE]\n\n', 'data: [DONE] \r\n\r\n', 'data: [DONE]'])(
    'ends with %j',
    (mark) => {
      const chunk = 'data: {"choices":[]}\n\n'
      expect(readStream(utf8(chunk + mark), ASKED).result.isComplete).toBe(true)
      expect(readStream(utf8(chunk), ASKED).result.isComplete).toBe(false)
    },
  )

  it('with running totals is not complete before its end', () => {
    const whole = Buffer.from(transcript('openai-chat/vllm-running-usage.sse')).toString()
    const cut = utf8(whole.slice(0, whole.indexOf('data:', whole.indexOf(' two'))))
    for (const body of [ASKED, NOT_ASKED]) {
      expect(readStream(cut, body).result).toMatchObject({ quantities: counts(13, 2), isComplete: false })
    }
  })

  it.each(['text/event-stream', 'Text/Event-Stream;charset=UTF-8'])(
    'are known by the type %s',
    (contentType) => {
      const bytes = transcript('openai-chat/stream.with-usage.sse')
      const { result } = exchange(readerOf(ASKED), { bytes, contentType })
      expect(result).toMatchObject({ isStreamed: true, quantities: counts(24, 17) })
    },
  )
})

describe('what the application sees', () => {
  it.each(transcriptNames('openai-chat', '.sse'))(
    'of %s that it asked for is every byte, cut anywhere',
    (name) => {
      const bytes = transcript(name)
      const { seen, result } = readStream(bytes, ASKED)
      expect(seen).toEqual(Buffer.from(bytes))
      for (const cuts of everyCut(bytes.length)) {
        expect(textOf(readStream(bytes, ASKED, cuts))).toBe(textOf({ seen, result }))
      }
    },
  )

  it.each(TWINS)('of %s is the stream without usage where usage was added, cut anywhere', (name) => {
    const bytes = transcript(`${name}.with-usage.sse`)
    const asAskedFor = Buffer.from(transcript(`${name}.sse`))
    const { seen, result } = readStream(bytes, NOT_ASKED)
    expect(seen.toString()).toBe(asAskedFor.toString())
    expect(seen).toEqual(asAskedFor)
    expect(result).toEqual(readStream(bytes, ASKED).result)
    for (const cuts of everyCut(bytes.length)) {
      expect(textOf(readStream(bytes, NOT_ASKED, cuts))).toBe(textOf({ seen: asAskedFor, result }))
    }
    fc.assert(
      fc.property(cutsOf(bytes.length), (cuts) => {
        expect(textOf(readStream(bytes, NOT_ASKED, cuts))).toBe(textOf({ seen: asAskedFor, result }))
      }),
    )
  })

  it.each(TWINS)('of %s is every byte where the provider ignored what was added', (name) => {
    const bytes = transcript(`${name}.sse`)
    expect(readStream(bytes, NOT_ASKED).seen).toEqual(Buffer.from(bytes))
  })

  it('is the very same object where nothing can be hidden', () => {
    const chunk = utf8('data: {"choices":[]}\n\n')
    for (const [body, inject] of [
      [ASKED, true],
      [NOT_ASKED, false],
    ] as const) {
      const reader = readerOf(body, inject)
      reader.respond(200, () => STREAM)
      expect(reader.push(chunk)).toBe(chunk)
    }
  })

  it.each<[what: string, arrives: string, seen: string]>([
    ['usage first', '{"usage":null,"id":"x","choices":[]}', '{"id":"x","choices":[]}'],
    ['usage last, with spaces', '{"id":"x", "usage" : null }', '{"id":"x" }'],
    ['usage alone', '{"usage":null}', '{"usage":null}'],
    [
      'running totals',
      '{"choices":[{}],"usage":{"prompt_tokens":1}}',
      '{"choices":[{}],"usage":{"prompt_tokens":1}}',
    ],
    [
      'two of them: which one is unclear',
      '{"a":{"b":1,"usage":null},"usage":null}',
      '{"a":{"b":1,"usage":null},"usage":null}',
    ],
    ['an inner one only', '{"a":{"b":1,"usage":null}}', '{"a":{"b":1,"usage":null}}'],
    ['a text about it', '{"a":",\\"usage\\":null","usage":null}', '{"a":",\\"usage\\":null"}'],
    ['no JSON', '{"usage":null,', '{"usage":null,'],
  ])('of a chunk without usage: %s', (_, arrives, seen) => {
    expect(readStream(utf8(`data: ${arrives}\n\n`), NOT_ASKED).seen.toString()).toBe(`data: ${seen}\n\n`)
  })

  it('of a chunk over several lines keeps its lines', () => {
    const bytes = utf8('data: {"usage":null,\ndata: "id":"x"}\n\n')
    expect(readStream(bytes, NOT_ASKED).seen.toString()).toBe('data: {\ndata: "id":"x"}\n\n')
  })

  it('of a chunk with broken UTF-8 keeps the broken bytes', () => {
    const bytes = Buffer.from('data: {"a":"\u00FF\u00A0\u00C3","usage":null}\n\n', 'latin1')
    const expected = Buffer.from('data: {"a":"\u00FF\u00A0\u00C3"}\n\n', 'latin1')
    expect(readStream(new Uint8Array(bytes), NOT_ASKED).seen).toEqual(expected)
  })
})

describe('the request', () => {
  const rewritten = (bodyText: string | undefined) => readerOf(bodyText).rewrittenBody
  const options = '"stream_options":{"include_usage":true}'

  it.each<[what: string, body: string, sent: string]>([
    ['no options', '{"model":"m","stream":true}', `{${options},"model":"m","stream":true}`],
    ['white space stays', '\n {\n  "stream" : true\n}\n', `\n {${options},\n  "stream" : true\n}\n`],
    ['options null', '{"stream":true,"stream_options":null,"n":2}', `{"stream":true,${options},"n":2}`],
    ['options empty', '{"stream":true,"stream_options":{}}', `{"stream":true,${options}}`],
    [
      'usage false, other options stay',
      '{"z":1,"stream_options":{"include_usage":false,"include_obfuscation":false},"stream":true,"a":[{"b":null}]}',
      '{"z":1,"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true,"a":[{"b":null}]}',
    ],
    ['usage null', '{"stream":true,"stream_options":{"include_usage":null}}', `{"stream":true,${options}}`],
    [
      'the last of two keys counts',
      '{"stream":false,"stream":true}',
      `{${options},"stream":false,"stream":true}`,
    ],
    [
      'the last of two options counts',
      `{"stream":true,${options},"stream_options":null}`,
      `{"stream":true,${options}}`,
    ],
    [
      'options in a message are none',
      '{"stream":true,"messages":[{"content":"{\\"stream_options\\":{\\"include_usage\\":true}}"}]}',
      `{${options},"stream":true,"messages":[{"content":"{\\"stream_options\\":{\\"include_usage\\":true}}"}]}`,
    ],
    [
      'numbers stay as written',
      '{"stream":true,"seed":12345678901234567890}',
      `{${options},"stream":true,"seed":12345678901234567890}`,
    ],
  ])('asks for usage: %s', (_, body, sent) => {
    expect(rewritten(body)).toBe(sent)
  })

  it.each<[what: string, body: string | undefined]>([
    ['usage asked for', ASKED],
    ['no stream', PLAIN],
    ['stream false', '{"stream":false}'],
    ['stream as a text', '{"stream":"true"}'],
    ['the last of two keys counts', '{"stream":true,"stream":false}'],
    ['a stream in a message', '{"messages":[{"role":"user","content":"\\"stream\\":true","stream":true}]}'],
    ['an empty object', '{}'],
    ['a list', '[{"stream":true}]'],
    ['no JSON', '{"stream":true'],
    ['nothing', ''],
    ['no body', undefined],
    // The provider refuses these, and must go on refusing them.
    ['options that are a text', '{"stream":true,"stream_options":"usage"}'],
    ['options that are a list', '{"stream":true,"stream_options":[]}'],
    ['options that are false', '{"stream":true,"stream_options":false}'],
    ['usage as a text', '{"stream":true,"stream_options":{"include_usage":"yes"}}'],
    ['usage as a number', '{"stream":true,"stream_options":{"include_usage":1}}'],
  ])('is left alone: %s', (_, body) => {
    expect(rewritten(body)).toBeUndefined()
    const bytes = transcript('openai-chat/stream.with-usage.sse')
    expect(exchange(readerOf(body), { bytes, contentType: STREAM }).seen).toEqual(Buffer.from(bytes))
  })

  it('is left alone where asking is switched off', () => {
    expect(readerOf(NOT_ASKED, false).rewrittenBody).toBeUndefined()
  })

  it('says all else as before, in the same order', () => {
    const body = fc
      .dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), { noNullPrototype: true })
      .filter((members) => !('stream_options' in members))
    const given = fc.constantFrom<unknown>(undefined, null, {}, { include_usage: false, x: 1 })
    fc.assert(
      fc.property(body, given, fc.nat(3), (members, stream_options, indent) => {
        const all = { ...members, stream: true, ...(stream_options !== undefined && { stream_options }) }
        const text = JSON.stringify(all, null, indent)
        const sent = rewritten(text) ?? ''
        const { stream_options: asked, ...others }: Record<string, unknown> = JSON.parse(sent)
        const { stream_options: before, ...expected }: Record<string, unknown> = JSON.parse(text)
        expect(asked).toEqual({ ...Object(before), include_usage: true })
        expect(JSON.stringify(others)).toBe(JSON.stringify(expected))
      }),
    )
  })

  it('without a model has that of its URL', () => {
    for (const bodyText of ['{}', '{"model":""}']) {
      const reader = readOpenaiChat({ model: 'my-gpt', bodyText, injectStreamUsage: true })
      expect(reader.requestedModel).toBe('my-gpt')
    }
  })

  it('of a completion gives its prompt for an estimate', () => {
    expect(readerOf('{"prompt":["Say","this"],"suffix":"!"}').promptText()).toBe('Say\nthis\n!\n')
  })

  it('names the model, and gives its text for an estimate', () => {
    const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }
    const reader = readerOf(
      JSON.stringify({
        model: 'gpt-4o',
        user: 'u-1',
        messages: [{ role: 'user', content: [{ type: 'text', text: 'Look' }, image] }],
      }),
    )
    expect(reader.requestedModel).toBe('gpt-4o')
    expect(reader.promptText().split('\n')).toEqual(['user', 'text', 'Look', 'image_url', ''])
  })
})

describe('whatever a provider sends', () => {
  const usage = usageLike({
    prompt_tokens: null,
    completion_tokens: null,
    total_tokens: null,
    prompt_tokens_details: ['cached_tokens', 'cache_write_tokens', 'audio_tokens', 'image_tokens'],
    completion_tokens_details: ['reasoning_tokens', 'audio_tokens'],
  })

  it('as usage, counts are whole, exact and not negative', () => {
    fc.assert(
      fc.property(usage, fc.boolean(), (reported, isStream) => {
        const json = JSON.stringify({ choices: [], usage: reported })
        const read = isStream ? readStream(utf8(`data: ${json}\n\n`), NOT_ASKED) : readPlain(utf8(json))
        expect(badCounts(read.result)).toEqual([])
      }),
      { numRuns: 2_000 },
    )
  })

  it('as JSON, nothing is thrown', () => {
    const known = fc.record(
      { id: fc.jsonValue(), model: fc.jsonValue(), error: fc.jsonValue(), choices: fc.jsonValue(), usage },
      { requiredKeys: [] },
    )
    const message = fc.jsonValue({ maxDepth: 3 })
    const choices = message.map((delta) => ({ choices: [{ delta, message: delta }, delta] }))
    const calls = message.map((call) => ({
      choices: [{ delta: { tool_calls: [call, { function: call }] } }],
    }))
    fc.assert(
      fc.property(
        fc.oneof(fc.jsonValue(), known, choices, calls),
        fc.integer({ min: 100, max: 599 }),
        (json, status) => {
          const text = JSON.stringify(json)
          expect(badCounts(readPlain(utf8(text), status).result)).toEqual([])
          const { seen, result } = readStream(utf8(`data: ${text}\n\n`), ASKED)
          expect(seen.toString()).toBe(`data: ${text}\n\n`)
          expect(badCounts(result)).toEqual([])
        },
      ),
      { numRuns: 1_000 },
    )
  })

  it('as bytes, nothing is thrown and no byte is lost', () => {
    const piece = fc.oneof(
      fc
        .constantFrom(
          'data: ',
          '\n\n',
          '\r\n\r\n',
          '\r',
          '[DONE]',
          '{"choices":[{"delta":{"content":"x"}}]}',
          '"usage":null',
        )
        .map(utf8),
      fc.uint8Array({ maxLength: 8 }),
    )
    const body = fc.array(piece, { maxLength: 20 }).map((pieces) => new Uint8Array(Buffer.concat(pieces)))
    const contentType = fc.constantFrom(STREAM, JSON_TYPE, '')
    const request = fc.oneof(fc.constantFrom(NOT_ASKED, ASKED, PLAIN, undefined), fc.string())
    fc.assert(
      fc.property(
        body.chain((bytes) => fc.tuple(fc.constant(bytes), cutsOf(bytes.length))),
        contentType,
        request,
        ([bytes, cuts], type, bodyText) => {
          const { seen } = exchange(readerOf(bodyText), { bytes, contentType: type, cuts })
          expect(seen).toEqual(Buffer.from(bytes))
        },
      ),
      { numRuns: 2_000 },
    )
  })

  it('or an application nests ten thousand levels deep, nothing is thrown', () => {
    const deep = `${'['.repeat(10_000)}"x"${']'.repeat(10_000)}`
    const reader = readerOf(`{"stream":true,"stream_options":null,"messages":${deep}}`)
    const bytes = utf8(`data: {"choices":[{"delta":{"content":${deep}}}],"usage":${deep}}\n\n`)
    expect(exchange(reader, { bytes, contentType: STREAM }).result).toMatchObject({ outputText: '' })
    expect(reader.promptText()).toBeTypeOf('string')
  })
})
