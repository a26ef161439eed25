import { describe, expect, it } from 'vitest'
import { exchange, type Reading, transcript, transcriptNames } from '../test/exchange.ts'
import { expectUntouched, passTranscript, STREAM } from '../test/untouched.ts'
import { createReader, recognize, type UsageReader } from './index.ts'

/** Hosts that speak OpenAI chat completions, each by its URL, with what they do differently. */

const MISTRAL = 'https://api.mistral.ai/v1/chat/completions'
const GROQ = 'https://api.groq.com/openai/v1/chat/completions'
const DEEPSEEK = 'https://api.deepseek.com/chat/completions'
const XAI = 'https://api.x.ai/v1/chat/completions'
const OPENROUTER = 'https://openrouter.ai/api/v1/chat/completions'
const TOGETHER = 'https://api.together.xyz/v1/chat/completions'
const ASKED = '{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
const NOT_ASKED = '{"model":"m","stream":true}'

function readerFor(url: string, bodyText = ASKED): UsageReader {
  const call = recognize(new URL(url), 'POST')
  if (call === undefined) throw new Error(`${url} is not recognized`)
  return createReader(call, { bodyText, injectStreamUsage: true })
}

it.each<[name: string, url: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
  ['mistral.json', MISTRAL, { input_tokens: 1300, cache_read_tokens: 1024, output_tokens: 42 }, {}],
  [
    'mistral-details.json',
    MISTRAL,
    { input_tokens: 1300, cache_read_tokens: 1024, output_tokens: 42 },
    { serviceTier: 'default' },
  ],
  ['mistral-audio.json', MISTRAL, { input_tokens: 391, output_tokens: 12, audio_seconds: 30 }, {}],
  ['mistral-stream.sse', MISTRAL, { input_tokens: 13, output_tokens: 4 }, { outputText: 'Bonjour à tous' }],
  // `x_groq.usage` of a plain answer is about something else.
  [
    'groq.json',
    GROQ,
    { input_tokens: 1412, cache_read_tokens: 1280, output_tokens: 61, reasoning_tokens: 40 },
    { serviceTier: 'on_demand' },
  ],
  [
    'groq-stream.sse',
    GROQ,
    { input_tokens: 1412, cache_read_tokens: 1280, output_tokens: 61, reasoning_tokens: 40 },
    { outputText: 'Hi.' },
  ],
  [
    'groq-stream-usage-twice.sse',
    GROQ,
    { input_tokens: 1412, cache_read_tokens: 1280, output_tokens: 61, reasoning_tokens: 40 },
    {},
  ],
  [
    'deepseek.json',
    DEEPSEEK,
    { input_tokens: 1400, cache_read_tokens: 1344, output_tokens: 350, reasoning_tokens: 320 },
    {},
  ],
  [
    'deepseek-hits-only.json',
    DEEPSEEK,
    { input_tokens: 1400, cache_read_tokens: 1344, output_tokens: 3 },
    {},
  ],
  [
    'deepseek-stream.with-usage.sse',
    DEEPSEEK,
    { input_tokens: 1400, cache_read_tokens: 1344, output_tokens: 350, reasoning_tokens: 320 },
    { outputText: 'Hm42' },
  ],
  // 182 tokens of completion and, beside them, 672 of reasoning.
  [
    'xai.json',
    XAI,
    { input_tokens: 2640, cache_read_tokens: 473, output_tokens: 854, reasoning_tokens: 672 },
    {},
  ],
  [
    'xai-stream.sse',
    XAI,
    { input_tokens: 2640, cache_read_tokens: 473, output_tokens: 854, reasoning_tokens: 672 },
    { outputText: 'FirstYes.' },
  ],
  [
    'openrouter.json',
    OPENROUTER,
    { input_tokens: 194, cache_read_tokens: 64, output_tokens: 120, reasoning_tokens: 80 },
    { reportedCostUsd: '0.00014' },
  ],
  [
    'openrouter-tiny-cost.json',
    OPENROUTER,
    { input_tokens: 194, cache_read_tokens: 64, output_tokens: 120, reasoning_tokens: 80 },
    { reportedCostUsd: '0.00000015' },
  ],
  [
    'openrouter-stream.sse',
    OPENROUTER,
    { input_tokens: 194, cache_read_tokens: 64, output_tokens: 120, reasoning_tokens: 80 },
    { reportedCostUsd: '0.00014', outputText: 'Hi.' },
  ],
  ['together.json', TOGETHER, { input_tokens: 30, output_tokens: 9 }, {}],
  ['together-stream.sse', TOGETHER, { input_tokens: 30, output_tokens: 9 }, { outputText: 'Hi.' }],
])('%s', (name, url, quantities, rest) => {
  const { result } = passTranscript(readerFor(url), `openai-compatible/${name}`)
  expect(result).toMatchObject({ isComplete: true, isStreamed: name.endsWith('.sse'), ...rest })
  expect(result.quantities).toEqual(quantities)
  expect(result).not.toHaveProperty('mismatch')
})

it('DeepSeek’s cache hits and misses that do not add up to the prompt are told of', () => {
  const { result } = passTranscript(readerFor(DEEPSEEK), 'openai-compatible/deepseek-mismatch.json')
  expect(result).toMatchObject({
    quantities: { input_tokens: 1400, cache_read_tokens: 1344, output_tokens: 3 },
    mismatch: 'prompt_tokens is 1400, cache hits and misses add up to 1394',
  })
})

it.each<[name: string, status: number, errorType: string]>([
  ['mistral-error-401.json', 401, 'http_401'],
  ['mistral-error-422.json', 422, 'http_422'],
])('%s counts nothing', (name, status, errorType) => {
  const { result } = passTranscript(readerFor(MISTRAL), `openai-compatible/${name}`, status)
  expect(result).toMatchObject({ errorType })
  expect(result).not.toHaveProperty('quantities')
})

describe('a stream whose usage was not asked for', () => {
  it.each<[name: string, url: string]>([
    ['mistral-stream.sse', MISTRAL],
    ['groq-stream.sse', GROQ],
    ['groq-stream-usage-twice.sse', GROQ],
    ['openrouter-stream.sse', OPENROUTER],
    ['together-stream.sse', TOGETHER],
  ])('has it all the same, and nothing is asked for or hidden: %s', (name, url) => {
    const reader = readerFor(url, NOT_ASKED)
    expect(reader.rewrittenBody).toBeUndefined()
    const bytes = transcript(`openai-compatible/${name}`)
    const { seen, result } = exchange(reader, { bytes, contentType: STREAM })
    expect(seen).toEqual(Buffer.from(bytes))
    expect(result.quantities).toMatchObject({ input_tokens: expect.any(Number) })
  })

  it('is asked for at DeepSeek, and hidden again', () => {
    const reader = readerFor(DEEPSEEK, NOT_ASKED)
    expect(reader.rewrittenBody).toContain('"include_usage":true')
    const bytes = transcript('openai-compatible/deepseek-stream.with-usage.sse')
    const { seen, result } = exchange(reader, { bytes, contentType: STREAM })
    expect(seen.toString()).toBe(Buffer.from(transcript('openai-compatible/deepseek-stream.sse')).toString())
    expect(result.quantities).toMatchObject({ output_tokens: 350 })
  })

  it('of OpenRouter behind another host is not hidden: its cost gives it away', () => {
    const call = { provider: 'openai', format: 'openai-chat', operation: 'chat' } as const
    const reader = createReader(call, { bodyText: NOT_ASKED, injectStreamUsage: true })
    const bytes = transcript('openai-compatible/openrouter-stream.sse')
    const { seen } = exchange(reader, { bytes, contentType: STREAM })
    expect(seen.toString()).toBe(Buffer.from(bytes).toString())
  })
})

it.each([...transcriptNames('openai-compatible', '.json'), ...transcriptNames('openai-compatible', '.sse')])(
  '%s is untouched, cut anywhere',
  (name) => {
    expectUntouched(() => readerFor(OPENROUTER), name)
  },
)
