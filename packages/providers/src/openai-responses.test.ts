import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exchange, type Reading, transcriptNames, usageLike } from '../test/exchange.ts'
import {
  expectGoodCounts,
  expectNoByteLost,
  expectUntouched,
  JSON_TYPE,
  passTranscript,
  STREAM,
  utf8,
} from '../test/untouched.ts'
import { readOpenaiResponses } from './openai-responses.ts'

const BODY = '{"model":"gpt-4o-mini","input":"Hi"}'
const readerOf = (bodyText: string | undefined = BODY) =>
  readOpenaiResponses({ bodyText, injectStreamUsage: true })
const read = (name: string, status?: number) =>
  passTranscript(readerOf(), `openai-responses/${name}`, status).result

/** Counts as a row of a table: input, output, then the parts and what is billed beside them. */
function counts(input_tokens: number, output_tokens: number, others: Record<string, number> = {}) {
  return { input_tokens, output_tokens, ...others }
}

describe('plain answers', () => {
  it.each<[name: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
    [
      'plain',
      counts(36, 11),
      {
        responseModel: 'gpt-4o-mini-2024-07-18',
        responseId: 'resp_01plain',
        serviceTier: 'default',
        outputText: 'Naïve, 数えた 🙂.',
      },
    ],
    ['cached', counts(2006, 3, { cache_read_tokens: 1920 }), {}],
    ['cache-write', counts(1500, 40, { cache_read_tokens: 512, cache_write_tokens: 896 }), {}],
    [
      'reasoning',
      counts(81, 1035, { reasoning_tokens: 832 }),
      { serviceTier: 'flex', outputText: 'Thinking it over. 42' },
    ],
    ['function-call', counts(291, 23), { outputText: 'get_weather{"city":"東京"}' }],
    // Four calls, of which one opened a page and one looked for something in it.
    ['web-search', counts(12402, 88, { web_search_requests: 2 }), {}],
    // One call whose search asked three times: what the provider says it bills stands over the items.
    ['web-search-tool-usage', counts(9120, 40, { web_search_requests: 3 }), {}],
    ['file-search', counts(18307, 398, { file_search_requests: 2 }), {}],
    ['code-interpreter', counts(810, 60, { code_interpreter_calls: 1 }), { outputText: 'print(1+1)2' }],
    [
      'image-tool',
      counts(2310, 55, { image_generation_input_tokens: 48, image_generation_output_tokens: 272 }),
      {},
    ],
    ['image-tool-without-usage', counts(2310, 55, { image_generation_calls: 1 }), {}],
    ['incomplete', counts(30, 16), { outputText: 'All that is' }],
    ['compact', counts(4200, 310, { reasoning_tokens: 64 }), { responseId: 'resp_13compact' }],
    ['background-completed', counts(52, 905, { reasoning_tokens: 640 }), { serviceTier: 'default' }],
  ])('%s', (name, quantities, rest) => {
    const result = read(`${name}.json`)
    expect(result).toMatchObject({ isComplete: true, isStreamed: false, ...rest })
    expect(result.quantities).toEqual(quantities)
    for (const absent of ['mismatch', 'errorType', 'isPending']) expect(result).not.toHaveProperty(absent)
  })

  it.each(['background-queued', 'background-in-progress'])(
    '%s is still to come: nothing is counted and nothing is guessed',
    (name) => {
      expect(read(`${name}.json`)).toEqual({
        responseModel: 'gpt-5-2025-08-07',
        serviceTier: 'auto',
        isComplete: false,
        isPending: true,
        isStreamed: false,
        responseId: 'resp_14background',
        outputText: '',
      })
    },
  )

  it.each<[name: string, errorType: string]>([
    ['background-failed', 'server_error'],
    ['background-cancelled', 'cancelled'],
    ['failed', 'server_error'],
  ])('%s says why, has no usage and is not awaited any more', (name, errorType) => {
    const result = read(`${name}.json`)
    expect(result).toMatchObject({ isComplete: false, errorType })
    expect(result).not.toHaveProperty('quantities')
    expect(result).not.toHaveProperty('isPending')
  })

  it.each<[name: string, status: number, errorType: string]>([
    ['error-400', 400, 'invalid_request_error'],
    ['error-429', 429, 'tokens'],
    ['azure-error-404', 404, 'DeploymentNotFound'],
  ])('%s counts nothing and has a name', (name, status, errorType) => {
    expect(read(`${name}.json`, status)).toEqual({
      isComplete: true,
      isStreamed: false,
      errorType,
      outputText: '',
    })
  })

  it.each<[what: string, body: string, status: number, expected: Partial<Reading>]>([
    ['a proxy’s page', '<html>Bad Gateway</html>', 502, { isComplete: false, errorType: 'http_502' }],
    ['an empty error', '', 503, { isComplete: false, errorType: 'http_503' }],
    ['an error with status 200', '{"error":{"code":"oops"}}', 200, { isComplete: true, errorType: 'oops' }],
    ['half a body', '{"usage":{"input_tokens":5,', 200, { isComplete: false, reason: 'unreadable_body' }],
    ['no object', '[1]', 200, { isComplete: false, reason: 'unreadable_body' }],
  ])('%s', (_, body, status, expected) => {
    const { result } = exchange(readerOf(), { bytes: utf8(body), status, contentType: JSON_TYPE })
    expect(result).toEqual({ isStreamed: false, outputText: '', ...expected })
  })
})

describe('usage', () => {
  const readUsage = (usage: object) =>
    exchange(readerOf(), { bytes: utf8(JSON.stringify({ usage })), contentType: JSON_TYPE }).result

  it.each<[what: string, usage: object, quantities: Record<string, number> | undefined]>([
    [
      'zeros of details are left out',
      { input_tokens: 1, output_tokens: 0, input_tokens_details: { cached_tokens: 0 } },
      counts(1, 0),
    ],
    [
      'a part above its whole is left out',
      { input_tokens: 10, output_tokens: 2, output_tokens_details: { reasoning_tokens: 3 } },
      counts(10, 2),
    ],
    ['one side missing is not zero', { input_tokens: 3 }, { input_tokens: 3 }],
    ['counts as text are none', { input_tokens: '3', output_tokens: 4 }, { output_tokens: 4 }],
    ['negative and fractional counts are none', { input_tokens: -3, output_tokens: 0.5 }, undefined],
    ['nothing reported', {}, undefined],
  ])('%s', (_, usage, quantities) => {
    expect(readUsage(usage).quantities).toEqual(quantities)
  })

  it('that contradicts its total says so', () => {
    expect(readUsage({ input_tokens: 10, output_tokens: 5, total_tokens: 35 })).toMatchObject({
      quantities: counts(10, 5),
      mismatch: 'total_tokens is 35, input and output add up to 15',
    })
  })
})

describe('streams', () => {
  const text = 'The event is `{"type":"response.completed"}` – naïve, 数えた 🙂.'

  it.each<[name: string, quantities: Record<string, number> | undefined, rest: Partial<Reading>]>([
    [
      'stream',
      counts(37, 15),
      {
        responseModel: 'gpt-4o-mini-2024-07-18',
        responseId: 'resp_20stream',
        serviceTier: 'default',
        outputText: text,
      },
    ],
    ['gateway-crlf-bom', counts(37, 15), { responseId: 'resp_20stream', outputText: text }],
    [
      'stream-cached-reasoning',
      counts(2086, 650, { cache_read_tokens: 1920, reasoning_tokens: 640 }),
      { serviceTier: 'priority' },
    ],
    ['stream-incomplete', counts(20, 2), { outputText: 'All that' }],
    ['stream-web-search', counts(8200, 9, { web_search_requests: 2 }), {}],
    ['stream-function-call', counts(291, 23), { outputText: 'get_weather{"city":"東京"}' }],
    ['stream-background', counts(44, 130, { reasoning_tokens: 128 }), { responseId: 'resp_25stream' }],
    ['stream-failed-with-usage', counts(31, 2), { errorType: 'server_error' }],
    ['stream-failed', undefined, { isComplete: false, errorType: 'server_error', outputText: 'All' }],
    ['stream-error', undefined, { isComplete: false, errorType: 'rate_limit_exceeded' }],
    // The service tier is the one that was asked for: which one was given is known at the end only.
    [
      'stream-cut',
      undefined,
      { isComplete: false, outputText: 'The event is `{"type":"response.completed"}` – naïve, 数えた' },
    ],
  ])('%s', (name, quantities, rest) => {
    const result = read(`${name}.sse`)
    expect(result).toMatchObject({ isComplete: true, isStreamed: true, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('isPending')
    expect(result).not.toHaveProperty('mismatch')
  })
})

describe('what the application sees', () => {
  it.each([...transcriptNames('openai-responses', '.json'), ...transcriptNames('openai-responses', '.sse')])(
    'of %s is every byte, cut anywhere',
    (name) => {
      expectUntouched(readerOf, name)
    },
  )

  it('is the very same object, and the request goes out as it is', () => {
    const reader = readerOf('{"model":"gpt-4o-mini","input":"Hi","stream":true}')
    expect(reader.rewrittenBody).toBeUndefined()
    reader.respond(200, () => STREAM)
    const chunk = utf8('data: {"type":"response.output_text.delta","delta":"x"}\n\n')
    expect(reader.push(chunk)).toBe(chunk)
  })
})

describe('the request', () => {
  it('names the model, and gives its text for an estimate', () => {
    const reader = readerOf(
      JSON.stringify({
        model: 'gpt-4o',
        user: 'u-1',
        instructions: 'Be brief.',
        input: [{ role: 'user', content: [{ type: 'input_text', text: 'Look' }] }],
      }),
    )
    expect(reader.requestedModel).toBe('gpt-4o')
    expect(reader.promptText().split('\n')).toEqual(['Be brief.', 'user', 'input_text', 'Look', ''])
  })

  it('without a model has that of its URL', () => {
    const reader = readOpenaiResponses({ model: 'my-gpt', bodyText: '{}', injectStreamUsage: true })
    expect(reader.requestedModel).toBe('my-gpt')
    expect(
      readOpenaiResponses({ bodyText: undefined, injectStreamUsage: true }).requestedModel,
    ).toBeUndefined()
  })
})

describe('whatever a provider sends', () => {
  const usage = usageLike({
    input_tokens: null,
    output_tokens: null,
    total_tokens: null,
    input_tokens_details: ['cached_tokens', 'cache_write_tokens'],
    output_tokens_details: ['reasoning_tokens'],
  })
  const item = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.record(
      {
        type: fc.constantFrom('web_search_call', 'file_search_call', 'message', 'reasoning'),
        action: fc.jsonValue({ maxDepth: 2 }),
        content: fc.jsonValue({ maxDepth: 3 }),
        summary: fc.jsonValue({ maxDepth: 3 }),
      },
      { requiredKeys: [] },
    ),
  )
  const response = fc.record(
    {
      id: fc.jsonValue(),
      model: fc.jsonValue(),
      status: fc.oneof(fc.constantFrom('completed', 'queued', 'failed', 'cancelled'), fc.jsonValue()),
      error: fc.jsonValue(),
      output: fc.oneof(fc.array(item, { maxLength: 4 }), fc.jsonValue()),
      tool_usage: usageLike({ web_search: ['num_requests'], image_gen: ['input_tokens', 'output_tokens'] }),
      usage,
    },
    { requiredKeys: [] },
  )
  const event = fc.record({
    type: fc.constantFrom('response.completed', 'response.failed', 'response.created', 'error'),
    response: fc.oneof(response, fc.jsonValue()),
  })

  it('as JSON, nothing is thrown and counts are good', () => {
    expectGoodCounts(readerOf, fc.oneof(response, event, fc.jsonValue()))
  })

  it('as bytes, nothing is thrown and no byte is lost', () => {
    expectNoByteLost((bodyText) => readOpenaiResponses({ bodyText, injectStreamUsage: true }))
  })
})
