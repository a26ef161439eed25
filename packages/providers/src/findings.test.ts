import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exchange, type Reading, transcript, usageLike } from '../test/exchange.ts'
import { utf8 } from '../test/untouched.ts'
import { READERS, type WireFormat } from './formats.ts'
import { PLAIN_BODY_MAX_BYTES } from './plain-body.ts'

const TYPES: Readonly<Record<string, string>> = {
  json: 'application/json',
  sse: 'text/event-stream',
  ndjson: 'application/x-ndjson',
}

const readerOf = (format: WireFormat) =>
  READERS[format]({ model: 'a-model', bodyText: '{"model":"a-model","input":"a"}', injectStreamUsage: false })

function read(format: WireFormat, name: string): Reading {
  const contentType = TYPES[name.split('.').at(-1) ?? ''] ?? ''
  return exchange(readerOf(format), { bytes: transcript(name), contentType }).result
}

function readBody(format: WireFormat, body: unknown): Reading {
  const bytes = typeof body === 'string' ? utf8(body) : utf8(JSON.stringify(body))
  return exchange(readerOf(format), { bytes, contentType: 'application/json' }).result
}

describe('the provider’s usage is kept as it came, numbers alone', () => {
  it.each<[format: WireFormat, name: string, expected: object]>([
    ['openai-chat', 'openai-chat/plain.json', { prompt_tokens: 19, completion_tokens: 10, total_tokens: 29 }],
    ['openai-chat', 'openai-chat/stream.with-usage.sse', { total_tokens: expect.any(Number) }],
    // Once from `x_groq`, once from `usage`: the same numbers, kept once.
    [
      'openai-chat',
      'openai-compatible/groq-stream-usage-twice.sse',
      { queue_time: 0.01, total_time: 0.12, completion_tokens_details: { reasoning_tokens: 40 } },
    ],
    ['openai-chat', 'openai-compatible/groq-compound.json', { x_groq: { sram_cached_tokens: 128 } }],
    ['openai-chat', 'openai-compatible/openrouter.json', { cost: expect.any(Number), prompt_tokens: 194 }],
    ['openai-responses', 'openai-responses/web-search-tool-usage.json', { tool_usage: expect.any(Object) }],
    ['openai-embeddings', 'openai-embeddings/plain.json', { prompt_tokens: 8, total_tokens: 8 }],
    ['openai-images', 'openai-images/gpt-image.json', { input_tokens_details: { text_tokens: 13 } }],
    // What the start says of the input, and the end of the output.
    ['anthropic-messages', 'anthropic-messages/stream.sse', { input_tokens: 25, output_tokens: 15 }],
    ['bedrock-converse', 'bedrock-converse/plain.json', { totalTokens: expect.any(Number) }],
    ['bedrock-invoke', 'bedrock-invoke/llama.json', { prompt_token_count: 25, generation_token_count: 6 }],
    ['bedrock-invoke', 'bedrock-invoke/titan.json', { results: { 0: { tokenCount: expect.any(Number) } } }],
    ['gemini', 'gemini/stream-cut.sse', { promptTokenCount: 8 }],
    ['gemini-embeddings', 'gemini-embeddings/vertex.json', { 0: { token_count: 4 } }],
    [
      'cohere',
      'cohere/chat.sse',
      { billed_units: { input_tokens: 5, output_tokens: 418 }, tokens: { input_tokens: 71 } },
    ],
    [
      'ollama',
      'ollama/chat.ndjson',
      { prompt_eval_count: 26, eval_count: 282, eval_duration: 4_535_599_000 },
    ],
  ])('%s: %s', (format, name, expected) => {
    const { vendorUsage, ...rest } = read(format, name)
    expect(vendorUsage).toMatchObject(expected)
    expect(rest).not.toHaveProperty('reason')
  })

  it.each(Object.keys(READERS))('%s says nothing where nothing came', (name) => {
    const format = Object.keys(READERS).find((known): known is WireFormat => known === name)
    if (format !== undefined) expect(readBody(format, {})).not.toHaveProperty('vendorUsage')
  })

  it('never with a text, whatever comes', () => {
    const usage = usageLike({ prompt_tokens: null, completion_tokens: null, details: ['a', 'cached_tokens'] })
    fc.assert(
      fc.property(usage, (reported) => {
        const { vendorUsage } = readBody('openai-chat', { choices: [], usage: reported })
        expect(
          JSON.stringify(vendorUsage ?? {}, (_, value) => (typeof value === 'string' ? 'text' : value)),
        ).not.toContain('text')
      }),
    )
  })
})

describe('counts that are none are absent, and that is said', () => {
  it.each<[format: WireFormat, body: object, quantities: object | undefined]>([
    [
      'openai-chat',
      { choices: [], usage: { prompt_tokens: '12', completion_tokens: 3 } },
      { output_tokens: 3 },
    ],
    [
      'openai-chat',
      { choices: [], usage: { prompt_tokens: 12, completion_tokens: -3 } },
      { input_tokens: 12 },
    ],
    [
      'openai-responses',
      { output: [], usage: { input_tokens: 1.5, output_tokens: 3 } },
      { output_tokens: 3 },
    ],
    ['openai-embeddings', { usage: { prompt_tokens: -1 } }, undefined],
    ['anthropic-messages', { usage: { input_tokens: 5, output_tokens: true } }, { input_tokens: 5 }],
    ['gemini', { usageMetadata: { promptTokenCount: 5, candidatesTokenCount: '7' } }, { input_tokens: 5 }],
    ['bedrock-converse', { usage: { inputTokens: 5, outputTokens: 1e300 } }, { input_tokens: 5 }],
    ['bedrock-invoke', { prompt_token_count: 5, generation_token_count: '6' }, { input_tokens: 5 }],
    ['cohere', { usage: { billed_units: { input_tokens: '5', output_tokens: 6 } } }, { output_tokens: 6 }],
    ['ollama', { done: true, prompt_eval_count: -5, eval_count: 6 }, { output_tokens: 6 }],
  ])('%s: %j', (format, body, quantities) => {
    const result = readBody(format, body)
    expect(result.reason).toBe('invalid_usage')
    expect(result.quantities).toEqual(quantities)
  })

  it('but null is the provider’s way to report nothing', () => {
    const body = { choices: [], usage: { prompt_tokens: 1, completion_tokens: null, total_tokens: null } }
    expect(readBody('openai-chat', body)).not.toHaveProperty('reason')
  })
})

describe('totals that contradict their parts are said aloud, in numbers', () => {
  it.each<[format: WireFormat, body: object, mismatch: string]>([
    [
      'openai-chat',
      { choices: [], usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 9 } },
      'total_tokens is 9, prompt and completion add up to 7',
    ],
    [
      'openai-chat',
      {
        model: 'groq/compound',
        usage: { prompt_tokens: 9, completion_tokens: 2 },
        usage_breakdown: { models: [{ model: 'a', usage: { prompt_tokens: 5, completion_tokens: 2 } }] },
      },
      'usage has 9 input_tokens, its breakdown by model 5',
    ],
    [
      'openai-responses',
      { output: [], usage: { input_tokens: 5, output_tokens: 2, total_tokens: 9 } },
      'total_tokens is 9, input and output add up to 7',
    ],
    [
      'anthropic-messages',
      {
        usage: {
          input_tokens: 5,
          output_tokens: 2,
          cache_creation_input_tokens: 7,
          cache_creation: { ephemeral_5m_input_tokens: 1, ephemeral_1h_input_tokens: 2 },
        },
      },
      'cache_creation_input_tokens is 7, its parts add up to 3',
    ],
    [
      'gemini',
      { usageMetadata: { promptTokenCount: 5, candidatesTokenCount: 2, totalTokenCount: 9 } },
      'totalTokenCount is 9, prompt, tool use, candidates and thoughts add up to 7',
    ],
    [
      'bedrock-converse',
      { usage: { inputTokens: 5, outputTokens: 2, cacheReadInputTokens: 3, totalTokens: 8 } },
      'totalTokens is 8, but the parts add up to 7, with the cache to 10',
    ],
    [
      'bedrock-invoke',
      { usage: { inputTokens: 5, outputTokens: 2, totalTokens: 9 } },
      'the total is 9, but the parts add up to 7, without the cache to 7',
    ],
  ])('%s: %j', (format, body, mismatch) => {
    expect(readBody(format, body).mismatch).toBe(mismatch)
  })

  it.each([10, 7])('of Bedrock, with the cache in the total or without it: %i', (totalTokens) => {
    const usage = { inputTokens: 5, outputTokens: 2, cacheReadInputTokens: 3, totalTokens }
    for (const format of ['bedrock-converse', 'bedrock-invoke'] as const) {
      expect(readBody(format, { usage })).not.toHaveProperty('mismatch')
    }
  })
})

describe('what other models did for a call stands apart', () => {
  it('in a compaction, which the top level leaves out', () => {
    expect(read('anthropic-messages', 'anthropic-messages/iterations-compaction.json')).toMatchObject({
      quantities: { input_tokens: 23_000, output_tokens: 1000 },
      apart: [
        { responseModel: 'claude-opus-4-6', quantities: { input_tokens: 180_000, output_tokens: 3500 } },
      ],
    })
  })

  it('in what an advisor said, at its own model’s prices; the call’s own turns add up', () => {
    const result = read('anthropic-messages', 'anthropic-messages/iterations-advisor.json')
    expect(result).toMatchObject({
      responseModel: 'claude-sonnet-4-6',
      quantities: { input_tokens: 412 + 1348 + 412, cache_read_tokens: 412, output_tokens: 531 },
      apart: [{ responseModel: 'claude-opus-4-6', quantities: { input_tokens: 823, output_tokens: 1612 } }],
    })
    expect(result).not.toHaveProperty('mismatch')
  })

  it('in the models that declined before a fallback answered', () => {
    const result = read('anthropic-messages', 'anthropic-messages/iterations-fallback.json')
    expect(result).toMatchObject({
      responseModel: 'claude-sonnet-4-5-20250929',
      quantities: { input_tokens: 450, output_tokens: 100 },
      apart: [{ responseModel: 'claude-opus-4-6', quantities: { input_tokens: 450, output_tokens: 20 } }],
    })
    expect(result).not.toHaveProperty('mismatch')
  })

  it('in the models of Groq’s compound systems', () => {
    const result = read('openai-chat', 'openai-compatible/groq-compound.json')
    expect(result).toMatchObject({
      responseModel: 'openai/gpt-oss-120b',
      quantities: { input_tokens: 2400, output_tokens: 400 },
      apart: [
        { responseModel: 'llama-3.3-70b-versatile', quantities: { input_tokens: 700, output_tokens: 120 } },
      ],
    })
    expect(result).not.toHaveProperty('mismatch')
  })

  it('in the writing of an SVG', () => {
    expect(read('openai-images', 'openai-images/gpt-image-svg.json')).toMatchObject({
      quantities: { input_tokens: 13, output_tokens: 1056, image_output_tokens: 1056 },
      apart: [
        {
          responseModel: 'gpt-5.6-sol-2026-07-09',
          quantities: { input_tokens: 420, output_tokens: 1800, reasoning_tokens: 640 },
        },
      ],
    })
  })
})

describe('a body that cannot be read', () => {
  const plain = Object.keys(READERS).filter(
    (name): name is WireFormat => name !== 'openai-speech' && !name.startsWith('batch-'),
  )

  it.each(plain)('is marked: %s', (format) => {
    expect(readBody(format, '<html>Welcome to the hotel</html>')).toMatchObject({
      isComplete: false,
      reason: 'unreadable_body',
    })
  })

  it('is no failure of a transcription that was asked for as text', () => {
    const reader = readerOf('openai-transcription')
    const answer = { bytes: utf8('Hello.\n'), contentType: 'text/plain; charset=utf-8' }
    expect(exchange(reader, answer).result).not.toHaveProperty('reason')
  })

  it.each(['openai-chat', 'anthropic-messages', 'bedrock-converse', 'gemini', 'ollama'] as const)(
    'for its size is whole, and passes unkept: %s',
    (format) => {
      const reader = readerOf(format)
      reader.respond(200, (name) => (name === 'content-type' ? 'application/json' : null))
      const mebibyte = new Uint8Array(1024 * 1024).fill(0x20)
      mebibyte[0] = 0x7b
      for (let sent = 0; sent <= PLAIN_BODY_MAX_BYTES; sent += mebibyte.length) {
        expect(reader.push(mebibyte)).toBe(mebibyte)
      }
      reader.end()
      expect(reader.result()).toMatchObject({ isComplete: true, reason: 'body_too_large' })
    },
  )
})
