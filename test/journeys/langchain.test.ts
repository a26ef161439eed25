import { ChatAnthropic } from '@langchain/anthropic'
import { InMemoryCache } from '@langchain/core/caches'
import type { BaseCallbackHandler, CallbackHandlerMethods } from '@langchain/core/callbacks/base'
import { ChatOpenAI, OpenAI } from '@langchain/openai'
import { attribute } from '@tokentally/meter'
import { TokenTallyCallbackHandler } from '@tokentally/meter/langchain'
import { afterAll, beforeAll, beforeEach, describe, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import { waitFor } from '../harness/index.ts'
import {
  answering,
  baseUrl,
  type RunningMeter,
  startMeter,
  TRANSPORTS,
  type Transport,
} from './in-process-provider.ts'

/** LangChain with our handler: one event a call, whether a tap sees its transport or not. */

let meter: RunningMeter
beforeAll(async () => {
  meter = await startMeter()
})
afterAll(() => meter.stop())
beforeEach(() => {
  meter.events.length = 0
  meter.errors.length = 0
})

async function events(count: number) {
  await waitFor(() => meter.events.length >= count, `${count} events did not come`)
  expect(meter.errors).toEqual([])
  expect(meter.events).toHaveLength(count)
  return meter.events
}

const callbacks = [new TokenTallyCallbackHandler()]
const openai = (transport: Transport, ...transcripts: string[]) =>
  new ChatOpenAI({
    apiKey: 'k',
    model: 'gpt-4o-mini',
    maxRetries: 0,
    callbacks,
    configuration: { baseURL: baseUrl('openai'), fetch: answering(transport, ...transcripts) },
  })
const anthropic = (transport: Transport, ...transcripts: string[]) =>
  new ChatAnthropic({
    apiKey: 'k',
    model: 'claude-sonnet-4-5',
    maxRetries: 0,
    callbacks,
    anthropicApiUrl: baseUrl('anthropic'),
    clientOptions: { fetch: answering(transport, ...transcripts) },
  })

type Model = ChatOpenAI | ChatAnthropic
const invoke = (model: Model) => model.invoke('Hi')
const stream = async (model: Model) => {
  for await (const _ of await model.stream('Hi'));
}
const withTools = (model: Model) =>
  model
    .bindTools([{ name: 'get_weather', description: 'd', schema: { type: 'object', properties: {} } }])
    .invoke('Hi')

describe.each<[string, (transport: Transport) => Model, (model: Model) => Promise<unknown>, object]>([
  [
    'OpenAI',
    (transport) => openai(transport, 'openai-chat/cached.json'),
    invoke,
    { provider: 'openai', operation: 'chat', model: 'gpt-4o-mini', streamed: false },
  ],
  [
    'OpenAI, streamed',
    (transport) => openai(transport, 'openai-chat/stream.with-usage.sse'),
    stream,
    { provider: 'openai', model: 'gpt-4o-mini', streamed: true },
  ],
  [
    'OpenAI with tools',
    (transport) => openai(transport, 'openai-chat/tool-calls.json'),
    withTools,
    { provider: 'openai', streamed: false },
  ],
  [
    'Anthropic with a cache',
    (transport) => anthropic(transport, 'anthropic-messages/cache-write-1h.json'),
    invoke,
    { provider: 'anthropic', operation: 'chat', model: 'claude-sonnet-4-5', streamed: false },
  ],
  [
    'Anthropic, streamed',
    (transport) => anthropic(transport, 'anthropic-messages/stream-cache.sse'),
    stream,
    { provider: 'anthropic', streamed: true },
  ],
  [
    'Anthropic with tools',
    (transport) => anthropic(transport, 'anthropic-messages/tool-use.json'),
    withTools,
    { provider: 'anthropic' },
  ],
])('%s', (_name, modelFor, ask, expected) => {
  it('is one event with the same counts, whichever transport', async () => {
    const seen = []
    for (const transport of TRANSPORTS) {
      meter.events.length = 0
      await attribute({ customer: 'acme' }, () => ask(modelFor(transport)))
      const [event] = await events(1)
      expect(event).toMatchObject({ status: 'ok', estimated: false, customer: 'acme', ...expected })
      seen.push(event)
    }
    const [metered, unseen] = seen
    expect(unseen?.quantities).toEqual(metered?.quantities)
    expect(Object.keys(unseen?.quantities ?? {}).length).toBeGreaterThan(1)
    expect(unseen?.responseModel).toEqual(metered?.responseModel)
  })

  it('is one event for each of three that are the same', async () => {
    for (const transport of TRANSPORTS) {
      meter.events.length = 0
      const model = modelFor(transport)
      await Promise.all([ask(model), ask(model), ask(model)])
      await events(3)
    }
  })

  it('is counted beside one that is the same and metered', async () => {
    await Promise.all(TRANSPORTS.map((transport) => ask(modelFor(transport))))
    await events(2)
  })
})

describe.each(TRANSPORTS)('over a transport that is %s', (transport) => {
  it('a batch is one event for each of its inputs', async () => {
    await openai(transport, 'openai-chat/plain.json').batch(['One', 'Two', 'Three'])
    await events(3)
  })

  it('two handlers see one call', async () => {
    const own = { callbacks: [new TokenTallyCallbackHandler()] }
    await openai(transport, 'openai-chat/plain.json').invoke('Hi', own)
    await events(1)
  })

  it('several prompts in one request are one event', async () => {
    const one = answering(transport, 'openai-chat/completions.json')
    const two: typeof fetch = async (input, init) => {
      const answer = z
        .looseObject({ choices: z.array(z.looseObject({})) })
        .parse(await (await one(input, init)).json())
      return Response.json({ ...answer, choices: [...answer.choices, { ...answer.choices[0], index: 1 }] })
    }
    const model = new OpenAI({
      apiKey: 'k',
      model: 'gpt-3.5-turbo-instruct',
      maxRetries: 0,
      callbacks,
      configuration: { baseURL: baseUrl('openai'), fetch: two },
    })
    await model.generate(['One', 'Two'])
    const [event] = await events(1)
    expect(event).toMatchObject({ operation: 'text_completion', provider: 'openai', estimated: false })
    expect(event?.quantities['output_tokens']).toBeGreaterThan(0)
  })

  it('a call that is refused costs nothing', async () => {
    const model = anthropic(transport, 'anthropic-messages/error-529.json')
    await expect(model.invoke('Hi')).rejects.toThrow()
    const [event] = await events(1)
    expect(event).toMatchObject({ status: 'error', quantities: {}, reason: 'overloaded_error' })
  })

  it('an answer out of the cache is no call', async () => {
    const model = openai(transport, 'openai-chat/plain.json')
    model.cache = new InMemoryCache()
    await model.invoke('Hi')
    await model.invoke('Hi')
    await events(1)
  })
})

it('a stream that is left, and whose transport is metered, is counted once', async () => {
  for await (const _ of await openai('metered', 'openai-chat/stream.with-usage.sse').stream('Hi')) break
  const [event] = await events(1)
  expect(event).toMatchObject({ estimated: false, streamed: true })
})

it('a stream that is given up is counted once', async () => {
  for (const transport of TRANSPORTS) {
    meter.events.length = 0
    const giveUp = new AbortController()
    const reading = async () => {
      const model = openai(transport, 'openai-chat/stream.with-usage.sse')
      for await (const chunk of await model.stream('Hi', { signal: giveUp.signal })) {
        if (chunk.text !== '') giveUp.abort()
      }
    }
    await expect(reading()).rejects.toThrow()
    const [event] = await events(1)
    expect(event?.quantities['output_tokens']).toBeGreaterThan(0)
  }
})

it('the handler has the types of LangChain', () => {
  expectTypeOf<TokenTallyCallbackHandler>().toExtend<CallbackHandlerMethods>()
  expectTypeOf(callbacks).toExtend<(BaseCallbackHandler | CallbackHandlerMethods)[]>()
})
