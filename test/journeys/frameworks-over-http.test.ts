import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { ChatAnthropic } from '@langchain/anthropic'
import { ChatOpenAI } from '@langchain/openai'
import { TokenTallyCallbackHandler } from '@tokentally/meter/langchain'
import { tokenTallyMiddleware } from '@tokentally/meter/vercel-ai'
import { generateText, streamText, wrapLanguageModel } from 'ai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import { waitFor } from '../harness/index.ts'
import { type RunningMeter, startMeter } from './in-process-provider.ts'

/** Frameworks with our adapters over real HTTP, metered by the tap: what the provider bills is counted, once. */

let provider: FakeProvider
let meter: RunningMeter
beforeAll(async () => {
  provider = await startFakeProvider()
  meter = await startMeter(`${provider.url}/v1=openai,${provider.url}/anthropic=anthropic`)
})
afterAll(async () => {
  await meter.stop()
  await provider.close()
})
beforeEach(() => {
  meter.events.length = 0
})

const callbacks = [new TokenTallyCallbackHandler()]
const middleware = tokenTallyMiddleware()

const WAYS: Readonly<Record<string, (fake: string) => Promise<unknown>>> = {
  'LangChain, OpenAI': (fake) => langchainOpenai(fake).invoke('Hi'),
  'LangChain, OpenAI, streamed': async (fake) => {
    for await (const _ of await langchainOpenai(fake).stream('Hi'));
  },
  'LangChain, Anthropic': (fake) => langchainAnthropic(fake).invoke('Hi'),
  'LangChain, Anthropic, streamed': async (fake) => {
    for await (const _ of await langchainAnthropic(fake).stream('Hi'));
  },
  'Vercel AI SDK, OpenAI': (fake) =>
    Promise.resolve(generateText({ model: vercelOpenai(fake), prompt: 'Hi' })),
  'Vercel AI SDK, Anthropic, streamed': async (fake) => {
    await streamText({ model: vercelAnthropic(fake), prompt: 'Hi', maxOutputTokens: 12 }).consumeStream()
  },
}

function langchainOpenai(fake: string) {
  const configuration = { baseURL: `${provider.url}/v1`, defaultHeaders: { 'x-fake': fake } }
  return new ChatOpenAI({ apiKey: 'k', model: 'gpt-4o-mini', callbacks, configuration })
}

function langchainAnthropic(fake: string) {
  return new ChatAnthropic({
    apiKey: 'k',
    model: 'claude-sonnet-4-5',
    maxTokens: 12,
    callbacks,
    anthropicApiUrl: `${provider.url}/anthropic`,
    clientOptions: { defaultHeaders: { 'x-fake': fake } },
  })
}

function vercelOpenai(fake: string) {
  const openai = createOpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1`, headers: { 'x-fake': fake } })
  return wrapLanguageModel({ model: openai.chat('gpt-4o-mini'), middleware })
}

function vercelAnthropic(fake: string) {
  const baseURL = `${provider.url}/anthropic/v1`
  const anthropic = createAnthropic({ apiKey: 'k', baseURL, headers: { 'x-fake': fake } })
  return wrapLanguageModel({ model: anthropic('claude-sonnet-4-5'), middleware })
}

describe.each(Object.keys(WAYS))('%s', (way) => {
  it.each(['', 'cached=8', 'gzip', 'split'])(
    'is what the provider bills, five at a time: %s',
    async (fake) => {
      const billedBefore = provider.billed.length
      await Promise.all(Array.from({ length: 5 }, () => WAYS[way]?.(fake)))
      await waitFor(() => meter.events.length >= 5, 'five events did not come')
      const billed = provider.billed.slice(billedBefore)
      const counted = meter.events.map(({ providerRequestId, quantities }) => ({
        requestId: providerRequestId,
        inputTokens: quantities['input_tokens'],
        outputTokens: quantities['output_tokens'],
        cachedTokens: quantities['cache_read_tokens'] ?? 0,
      }))
      const byId = (one: { requestId?: string | undefined }, other: { requestId?: string | undefined }) =>
        String(one.requestId).localeCompare(String(other.requestId))
      expect(counted.sort(byId)).toMatchObject(
        billed
          .map(({ requestId, inputTokens, outputTokens, cachedTokens }) => ({
            requestId,
            inputTokens,
            outputTokens,
            cachedTokens,
          }))
          .sort(byId),
      )
    },
  )

  it('each attempt is an event', async () => {
    await WAYS[way]?.('fail=500')
    await waitFor(() => meter.events.length >= 2, 'two events did not come')
    expect(meter.events.map(({ status }) => status)).toEqual(['error', 'ok'])
  })
})
