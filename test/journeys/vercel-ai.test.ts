import { createAnthropic } from '@ai-sdk/anthropic'
import { createGoogle } from '@ai-sdk/google'
import { createOpenAI } from '@ai-sdk/openai'
import type { EmbeddingModelV3Middleware, LanguageModelV3Middleware } from '@ai-sdk/provider'
import { attribute } from '@tokentally/meter'
import { tokenTallyEmbeddingMiddleware, tokenTallyMiddleware } from '@tokentally/meter/vercel-ai'
import {
  type EmbeddingModelMiddleware,
  embedMany,
  generateText,
  type LanguageModel,
  type LanguageModelMiddleware,
  streamText,
  wrapEmbeddingModel,
  wrapLanguageModel,
} from 'ai'
import { MockLanguageModelV4 } from 'ai/test'
import { afterAll, beforeAll, beforeEach, describe, expect, expectTypeOf, it } from 'vitest'
import { waitFor } from '../harness/index.ts'
import {
  answering,
  baseUrl,
  type RunningMeter,
  startMeter,
  TRANSPORTS,
  type Transport,
} from './in-process-provider.ts'

/** The Vercel AI SDK with our middleware: one event a call, whether a tap sees its transport or not. */

let meter: RunningMeter
beforeAll(async () => {
  meter = await startMeter()
})
afterAll(() => meter.stop())
beforeEach(() => {
  meter.events.length = 0
  meter.errors.length = 0
})

async function theEvent() {
  await waitFor(() => meter.events.length > 0, 'no event came')
  expect(meter.errors).toEqual([])
  expect(meter.events).toHaveLength(1)
  return meter.events[0]
}

const openai = (transport: Transport, ...transcripts: string[]) =>
  createOpenAI({ apiKey: 'k', baseURL: baseUrl('openai'), fetch: answering(transport, ...transcripts) })
const anthropic = (transport: Transport, ...transcripts: string[]) =>
  createAnthropic({
    apiKey: 'k',
    baseURL: `${baseUrl('anthropic')}/v1`,
    fetch: answering(transport, ...transcripts),
  })
const google = (transport: Transport, ...transcripts: string[]) =>
  createGoogle({
    apiKey: 'k',
    baseURL: `${baseUrl('gemini')}/v1beta`,
    fetch: answering(transport, ...transcripts),
  })

type Unwrapped = Parameters<typeof wrapLanguageModel>[0]['model']
const wrapped = (model: Unwrapped) => wrapLanguageModel({ model, middleware: tokenTallyMiddleware() })

const generate = (model: LanguageModel) => generateText({ model, prompt: 'Hi', maxRetries: 0 })
const stream = (model: LanguageModel) => streamText({ model, prompt: 'Hi', maxRetries: 0 }).consumeStream()

describe.each<
  [string, (transport: Transport) => Unwrapped, (model: LanguageModel) => PromiseLike<unknown>, object]
>([
  [
    'OpenAI chat',
    (transport) => openai(transport, 'openai-chat/cached.json').chat('gpt-4o-mini'),
    generate,
    { provider: 'openai', operation: 'chat', model: 'gpt-4o-mini', streamed: false },
  ],
  [
    'OpenAI chat, streamed',
    (transport) => openai(transport, 'openai-chat/stream-reasoning.with-usage.sse').chat('o3'),
    stream,
    { provider: 'openai', model: 'o3', streamed: true },
  ],
  [
    'OpenAI responses, streamed',
    (transport) => openai(transport, 'openai-responses/stream-cached-reasoning.sse').responses('gpt-5'),
    stream,
    { provider: 'openai', streamed: true },
  ],
  [
    'Anthropic with writes of an hour',
    (transport) => anthropic(transport, 'anthropic-messages/cache-write-1h.json')('claude-sonnet-4-5'),
    generate,
    { provider: 'anthropic', operation: 'chat', streamed: false },
  ],
  [
    'Anthropic, streamed',
    (transport) => anthropic(transport, 'anthropic-messages/stream-cache.sse')('claude-sonnet-4-5'),
    stream,
    { provider: 'anthropic', streamed: true },
  ],
  [
    'Gemini with thoughts',
    (transport) => google(transport, 'gemini/thoughts.json')('gemini-2.5-pro'),
    generate,
    { provider: 'gcp.gemini', operation: 'generate_content', streamed: false },
  ],
])('%s', (_name, modelFor, ask, expected) => {
  it('is one event with the same counts, whichever transport', async () => {
    const seen = []
    for (const transport of TRANSPORTS) {
      meter.events.length = 0
      await attribute({ customer: 'acme' }, () => ask(wrapped(modelFor(transport))))
      const event = await theEvent()
      expect(event).toMatchObject({ status: 'ok', estimated: false, customer: 'acme', ...expected })
      seen.push(event)
    }
    const [metered, unseen] = seen
    expect(unseen?.quantities).toEqual(metered?.quantities)
    expect(Object.keys(unseen?.quantities ?? {}).length).toBeGreaterThan(1)
    expect(unseen?.operation).toBe(metered?.operation)
    // Of Gemini's answers, the SDK does not say which model made them.
    expect(unseen?.responseModel ?? unseen?.model).toBe(metered?.responseModel)
    expect(unseen?.providerRequestId).toBe('req_1')
  })
})

describe.each(TRANSPORTS)('over a transport that is %s', (transport) => {
  it('a call that is refused costs nothing, and its repetition is another event', async () => {
    const model = wrapped(
      anthropic(
        transport,
        'anthropic-messages/error-529.json',
        'anthropic-messages/plain.json',
      )('claude-opus-4-6'),
    )
    await expect(generate(model)).rejects.toThrow()
    expect(await theEvent()).toMatchObject({ status: 'error', reason: 'overloaded_error', quantities: {} })
    await generate(model)
    expect(meter.events.map(({ status }) => status)).toEqual(['error', 'ok'])
  })

  it('calls at the same time are one event each', async () => {
    const model = wrapped(openai(transport, 'openai-chat/plain.json').chat('gpt-4o-mini'))
    await Promise.all([generate(model), generate(model), generate(model)])
    expect(meter.events).toHaveLength(3)
  })

  it('a model wrapped twice is counted once', async () => {
    await generate(wrapped(wrapped(openai(transport, 'openai-chat/plain.json').chat('gpt-4o-mini'))))
    expect(meter.events).toHaveLength(1)
  })

  it('embeddings are counted once', async () => {
    const model = wrapEmbeddingModel({
      model: openai(transport, 'openai-embeddings/mistral.json').embedding('text-embedding-3-small'),
      middleware: tokenTallyEmbeddingMiddleware(),
    })
    await embedMany({ model, values: ['One'] })
    expect(await theEvent()).toMatchObject({
      provider: 'openai',
      operation: 'embeddings',
      model: 'text-embedding-3-small',
      estimated: false,
      quantities: { input_tokens: expect.any(Number) },
    })
  })
})

it('a stream that nobody else sees, left early, has what came until then', async () => {
  const model = wrapped(openai('unseen', 'openai-chat/stream.with-usage.sse').chat('gpt-4o-mini'))
  const { stream } = await model.doStream({
    prompt: [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }],
  })
  const reader = stream.getReader()
  for (let text = ''; text === ''; ) {
    const { value } = await reader.read()
    if (value?.type === 'text-delta') text = value.delta
  }
  await reader.cancel()
  expect(await theEvent()).toMatchObject({
    status: 'aborted',
    reason: 'left_early',
    estimated: true,
    streamed: true,
    quantities: { input_tokens: 1, output_tokens: 1 },
    timeToFirstTokenMs: expect.any(Number),
  })
})

it('a stream that sends its request when it is first read is counted once', async () => {
  const answer = answering('metered', 'openai-chat/cached.json')
  const request = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Hi' }] }),
  }
  const source = new ReadableStream(
    {
      async pull(controller) {
        const response = await answer(`${baseUrl('openai')}/chat/completions`, request)
        await response.text()
        controller.enqueue({
          type: 'finish',
          usage: { inputTokens: { total: 10 }, outputTokens: { total: 5 } },
        })
        controller.close()
      },
    },
    { highWaterMark: 0 },
  )
  const { stream: watched } = await tokenTallyMiddleware().wrapStream({
    doStream: async () => ({ stream: source }),
    params: { prompt: [] },
    model: { provider: 'openai', modelId: 'gpt-4o-mini' },
  })
  for await (const _ of watched);
  await theEvent()
})

it('a model in the process that reports no usage is estimated', async () => {
  const none = { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined }
  const model = new MockLanguageModelV4({
    provider: 'my-host.chat',
    modelId: 'llama',
    doGenerate: {
      content: [{ type: 'text', text: 'hello world' }],
      finishReason: { unified: 'stop', raw: 'stop' },
      usage: { inputTokens: none, outputTokens: { total: undefined, text: undefined, reasoning: undefined } },
      warnings: [],
    },
  })
  await generate(wrapped(model))
  expect(await theEvent()).toMatchObject({
    provider: 'my-host',
    model: 'llama',
    estimated: true,
    reason: 'no_usage',
    quantities: { input_tokens: 1, output_tokens: 2 },
  })
})

it('the middleware has the types of ai 6 and 7', () => {
  expectTypeOf(tokenTallyMiddleware()).toExtend<LanguageModelMiddleware>()
  expectTypeOf(tokenTallyMiddleware()).toExtend<LanguageModelV3Middleware>()
  expectTypeOf(tokenTallyEmbeddingMiddleware()).toExtend<EmbeddingModelMiddleware>()
  expectTypeOf(tokenTallyEmbeddingMiddleware()).toExtend<EmbeddingModelV3Middleware>()
})
