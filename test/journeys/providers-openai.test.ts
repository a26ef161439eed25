import { trace } from '@opentelemetry/api'
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import { type UsageEvent, usageEventJsonFromSpan } from '@tokentally/core'
import OpenAI, { AzureOpenAI, toFile } from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { attribute } from '../../packages/meter/src/index.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import { startTranscriptProvider, type TranscriptProvider } from '../fake-provider/openai.ts'
import { waitFor } from '../harness/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/** OpenAI's family of APIs through the official SDK: what is metered is what the provider reported. */

let provider: TranscriptProvider
const events: UsageEvent[] = []
const errors: unknown[] = []

const dependencies = tapDependencies(events, errors)
/** Calls are made to the vendors' own URLs, and answered by the provider on this machine. */
const metered = tapFetch(
  (input, init) => fetch(String(input).replace(/^https:\/\/[^/]+/, provider.url), init),
  () => dependencies,
)

const clientOf = (baseURL = 'https://api.openai.com/v1') =>
  new OpenAI({ apiKey: 'sk-test', baseURL, fetch: metered })
const answeredBy = (names: string, fake = '') => ({ headers: { 'x-transcript': names, 'x-fake': fake } })

beforeAll(async () => {
  provider = await startTranscriptProvider()
})
afterAll(() => provider.close())
beforeEach(() => {
  events.length = 0
  errors.length = 0
})

/** The events of one call, when they are there. */
async function metering(count = 1): Promise<readonly UsageEvent[]> {
  await waitFor(() => events.length >= count, `${count} events came, not ${JSON.stringify(events)}`)
  expect(errors).toEqual([])
  expect(events).toHaveLength(count)
  return events
}

describe('responses', () => {
  const ask = { model: 'gpt-4o-mini', input: 'Hi' } as const

  it.each(['', 'gzip', 'split', 'gzip split'])('plain, %s', async (fake) => {
    const { output_text } = await clientOf().responses.create(
      ask,
      answeredBy('openai-responses/plain.json', fake),
    )
    expect(output_text).toBe('Naïve, 数えた 🙂.')
    expect(await metering()).toMatchObject([
      {
        provider: 'openai',
        operation: 'chat',
        model: 'gpt-4o-mini',
        responseModel: 'gpt-4o-mini-2024-07-18',
        serviceTier: 'default',
        quantities: { input_tokens: 36, output_tokens: 11 },
        status: 'ok',
        estimated: false,
        streamed: false,
      },
    ])
  })

  it.each(['', 'gzip', 'split', 'gzip split'])('streamed, %s', async (fake) => {
    const stream = await clientOf().responses.create(
      { ...ask, stream: true },
      answeredBy('openai-responses/stream-cached-reasoning.sse', fake),
    )
    const types: string[] = []
    for await (const { type } of stream) types.push(type)
    expect(types.at(-1)).toBe('response.completed')
    expect(await metering()).toMatchObject([
      {
        quantities: {
          input_tokens: 2086,
          cache_read_tokens: 1920,
          output_tokens: 650,
          reasoning_tokens: 640,
        },
        serviceTier: 'priority',
        status: 'ok',
        estimated: false,
        streamed: true,
      },
    ])
  })

  it('retried: the failures cost nothing, the answer counts once', async () => {
    await clientOf().responses.create(
      { ...ask, input: 'again' },
      answeredBy(
        'openai-responses/error-429.json,openai-chat/error-500.json,openai-responses/web-search.json',
      ),
    )
    const [first, second, third] = await metering(3)
    expect([first, second]).toMatchObject([
      { status: 'error', quantities: {}, attempt: 0 },
      { status: 'error', quantities: {}, attempt: 1 },
    ])
    expect(third).toMatchObject({
      status: 'ok',
      quantities: { input_tokens: 12402, output_tokens: 88, web_search_requests: 2 },
      callId: first?.callId,
    })
  })

  it('left early: the rest is read for its usage', async () => {
    const stream = await clientOf().responses.create(
      { ...ask, stream: true },
      answeredBy('openai-responses/stream.sse', 'split'),
    )
    for await (const { type } of stream) if (type === 'response.output_text.delta') break
    expect(await metering()).toMatchObject([
      { quantities: { input_tokens: 37, output_tokens: 15 }, status: 'ok', estimated: false },
    ])
  })

  it('cut by the network: estimated, and marked so', async () => {
    const stream = await clientOf().responses.create(
      { ...ask, stream: true },
      answeredBy('openai-responses/stream.sse', 'drop'),
    )
    await expect(Array.fromAsync(stream)).rejects.toThrow()
    expect(await metering()).toMatchObject([{ status: 'aborted', estimated: true, streamed: true }])
  })
})

describe('a background response', () => {
  const QUEUED = 'openai-responses/background-queued.json'
  const WORKING = 'openai-responses/background-in-progress.json'
  const DONE = 'openai-responses/background-completed.json'
  const start = (client: OpenAI) =>
    client.responses.create({ model: 'gpt-5', input: 'Think', background: true }, answeredBy(QUEUED))

  it('counts once, for whom it was asked, when it is fetched with its usage', async () => {
    const client = clientOf()
    const { id } = await attribute({ customer: 'acme' }, () => start(client))
    const fetched = answeredBy(`${WORKING},${DONE}`)
    const statuses: (string | undefined)[] = []
    for (let poll = 0; poll < 4; poll++)
      statuses.push((await client.responses.retrieve(id, {}, fetched)).status)
    expect(statuses).toEqual(['in_progress', 'completed', 'completed', 'completed'])
    expect(await metering()).toMatchObject([
      {
        customer: 'acme',
        operation: 'chat',
        model: 'gpt-5',
        responseModel: 'gpt-5-2025-08-07',
        serviceTier: 'default',
        quantities: { input_tokens: 52, output_tokens: 905, reasoning_tokens: 640 },
        status: 'ok',
        estimated: false,
      },
    ])
  })

  it('fetched by who did not ask for it is never counted', async () => {
    await clientOf().responses.retrieve('resp_14background', {}, answeredBy(DONE))
    await clientOf().responses.retrieve('resp_14background', {}, answeredBy('openai-responses/plain.json'))
    await clientOf().embeddings.create(
      { model: 'text-embedding-3-small', input: 'a', encoding_format: 'float' },
      answeredBy('openai-embeddings/many.json'),
    )
    expect(await metering()).toMatchObject([{ operation: 'embeddings' }])
  })

  it('is one span of the call, and spans of fetching that are not billed', async () => {
    const spans = new InMemorySpanExporter()
    const tracerProvider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
    tracerProvider.register()
    try {
      const client = clientOf()
      const { id } = await start(client)
      for (let poll = 0; poll < 2; poll++) await client.responses.retrieve(id, {}, answeredBy(DONE))
      await metering()
      await waitFor(() => spans.getFinishedSpans().length === 3, 'three spans ended')
      const received = spans.getFinishedSpans().map((span) =>
        usageEventJsonFromSpan({
          ...span.spanContext(),
          startTimeMs: 0,
          endTimeMs: 1,
          attributes: Object.fromEntries(
            Object.entries(span.attributes).map(([name, value]) => [
              name,
              typeof value === 'number' ? value : String(value),
            ]),
          ),
          isError: false,
        }),
      )
      expect(received.filter((event) => event !== undefined)).toMatchObject([
        { event_id: events[0]?.eventId, operation: 'chat', output_tokens: 905 },
      ])
    } finally {
      await tracerProvider.shutdown()
      trace.disable()
    }
  })

  it('that is stopped costs nothing', async () => {
    const client = clientOf()
    const { id } = await start(client)
    await client.responses.cancel(id, answeredBy('openai-responses/background-cancelled.json'))
    expect(await metering()).toMatchObject([{ status: 'error', quantities: {} }])
  })

  it('is not counted by a failed fetch, nor lost by it', async () => {
    const client = clientOf()
    const { id } = await start(client)
    const failing = answeredBy('openai-responses/azure-error-404.json')
    await expect(client.responses.retrieve(id, {}, failing)).rejects.toThrow()
    expect(events).toEqual([])
    await client.responses.retrieve(id, {}, answeredBy(DONE))
    expect(await metering()).toMatchObject([{ quantities: { output_tokens: 905 } }])
  })
})

describe('the other APIs', () => {
  it('embeddings, as base64', async () => {
    const { data } = await clientOf().embeddings.create(
      { model: 'text-embedding-3-small', input: 'a' },
      answeredBy('openai-embeddings/plain.json', 'gzip'),
    )
    expect(data[0]?.embedding).toEqual([-0.5, 0.25])
    expect(await metering()).toMatchObject([
      { operation: 'embeddings', model: 'text-embedding-3-small', quantities: { input_tokens: 8 } },
    ])
  })

  it('completions of old, streamed: the usage that was asked for is hidden again', async () => {
    const stream = await clientOf().completions.create(
      { model: 'gpt-3.5-turbo-instruct', prompt: 'Say', stream: true },
      answeredBy('openai-chat/completions-stream.with-usage.sse', 'split'),
    )
    const chunks = await Array.fromAsync(stream)
    expect(chunks.map(({ choices }) => choices[0]?.text)).toEqual(['This', ' is', ' naïve', ''])
    expect(await metering()).toMatchObject([
      { operation: 'text_completion', quantities: { input_tokens: 5, output_tokens: 7 }, estimated: false },
    ])
  })

  it('images, made and edited', async () => {
    const client = clientOf()
    await client.images.generate(
      { model: 'gpt-image-1', prompt: 'A cat' },
      answeredBy('openai-images/gpt-image.json'),
    )
    const image = await toFile(Buffer.from('png'), 'cat.png', { type: 'image/png' })
    await client.images.edit(
      { model: 'gpt-image-1.5', image, prompt: 'A dog' },
      answeredBy('openai-images/gpt-image-edit.json'),
    )
    expect(await metering(2)).toMatchObject([
      { operation: 'image_generation', model: 'gpt-image-1', quantities: { image_output_tokens: 1056 } },
      { operation: 'image_generation', model: 'gpt-image-1.5', quantities: { image_input_tokens: 388 } },
    ])
  })

  it('transcriptions, whose model is a field of a form', async () => {
    const file = await toFile(Buffer.from('RIFF'), 'a.wav', { type: 'audio/wav' })
    const { text } = await clientOf().audio.transcriptions.create(
      { model: 'gpt-4o-transcribe', file },
      answeredBy('openai-audio/transcription-tokens.json'),
    )
    expect(text).toBe('Naïve, 数えた.')
    expect(await metering()).toMatchObject([
      {
        operation: 'transcription',
        model: 'gpt-4o-transcribe',
        quantities: { input_tokens: 114, audio_input_tokens: 100, output_tokens: 15 },
        estimated: false,
      },
    ])
  })

  it('speech, by the characters of the request', async () => {
    const response = await clientOf().audio.speech.create(
      { model: 'tts-1', voice: 'alloy', input: 'Naïve 🙂' },
      answeredBy('audio'),
    )
    expect(Buffer.from(await response.arrayBuffer()).toString()).toBe('ID3\u0004')
    expect(await metering()).toMatchObject([
      { operation: 'speech', model: 'tts-1', quantities: { input_characters: 7 }, estimated: false },
    ])
  })
})

describe('Azure', () => {
  const azure = () =>
    new AzureOpenAI({
      apiKey: 'key',
      endpoint: 'https://acme.openai.azure.com',
      apiVersion: '2025-04-01-preview',
      deployment: 'my-deployment',
      fetch: metered,
    })

  it('names the deployment that was asked and the model that answered', async () => {
    await azure().embeddings.create(
      { model: '', input: 'a', encoding_format: 'float' },
      answeredBy('openai-embeddings/azure.json'),
    )
    expect(provider.requests.at(-1)).toContain('/openai/deployments/my-deployment/embeddings')
    expect(await metering()).toMatchObject([
      {
        provider: 'azure.ai.openai',
        model: 'my-deployment',
        responseModel: 'text-embedding-ada-002',
        quantities: { input_tokens: 5 },
      },
    ])
  })

  it('responses', async () => {
    await azure().responses.create(
      { model: 'my-deployment', input: 'Hi' },
      answeredBy('openai-responses/cached.json'),
    )
    expect(await metering()).toMatchObject([
      {
        provider: 'azure.ai.openai',
        model: 'my-deployment',
        responseModel: 'gpt-4.1-2025-04-14',
        quantities: { input_tokens: 2006, cache_read_tokens: 1920, output_tokens: 3 },
      },
    ])
  })
})

describe('compatible vendors', () => {
  it.each<[provider: string, baseURL: string, name: string, quantities: Record<string, number>]>([
    ['mistral_ai', 'https://api.mistral.ai/v1', 'mistral-stream', { input_tokens: 13, output_tokens: 4 }],
    ['groq', 'https://api.groq.com/openai/v1', 'groq-stream', { output_tokens: 61, reasoning_tokens: 40 }],
    ['deepseek', 'https://api.deepseek.com', 'deepseek-stream.with-usage', { cache_read_tokens: 1344 }],
    ['x_ai', 'https://api.x.ai/v1', 'xai-stream', { output_tokens: 854, reasoning_tokens: 672 }],
    ['openrouter', 'https://openrouter.ai/api/v1', 'openrouter-stream', { output_tokens: 120 }],
    ['together_ai', 'https://api.together.xyz/v1', 'together-stream', { output_tokens: 9 }],
  ])('%s', async (name, baseURL, transcript, quantities) => {
    const stream = await clientOf(baseURL).chat.completions.create(
      { model: 'm', messages: [{ role: 'user', content: 'Hi' }], stream: true },
      answeredBy(`openai-compatible/${transcript}.sse`, 'split'),
    )
    const chunks = await Array.fromAsync(stream)
    // Usage is seen where the vendor sends it of itself.
    const isSent = ['mistral_ai', 'openrouter', 'together_ai'].includes(name)
    expect(chunks.some(({ usage }) => usage !== undefined && usage !== null)).toBe(isSent)
    expect(await metering()).toMatchObject([{ provider: name, quantities, status: 'ok', estimated: false }])
  })
})
