import { mkdtemp, rm } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import Anthropic from '@anthropic-ai/sdk'
import { BedrockRuntimeClient, ConverseCommand } from '@aws-sdk/client-bedrock-runtime'
import { GoogleGenAI } from '@google/genai'
import { ChatAnthropic } from '@langchain/anthropic'
import { ChatOpenAI } from '@langchain/openai'
import type { UsageEvent } from '@tokentally/core'
import {
  attribute,
  BudgetExceededError,
  budgetErrorOf,
  decisionsReady,
  type Meter,
  meter,
  shutdown,
  start,
} from '@tokentally/meter'
import { TokenTallyCallbackHandler } from '@tokentally/meter/langchain'
import { tokenTallyMiddleware } from '@tokentally/meter/vercel-ai'
import { generateText, wrapLanguageModel } from 'ai'
import axios from 'axios'
import { CohereClientV2 } from 'cohere-ai'
import Groq from 'groq-sdk'
import nodeFetch from 'node-fetch'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { fetch as undiciFetch, request as undiciRequest } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Mistral } from '../../node_modules/@mistralai/mistralai/esm/index.js'
import { type FakeBedrock, startFakeBedrock } from '../fake-provider/bedrock.ts'
import { type FakeDecisions, startFakeDecisions } from '../fake-provider/decisions.ts'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import { waitFor } from '../harness/index.ts'

/** Official SDKs and plain transports in an app with `enforce`, against a service that decides. */

let service: FakeDecisions
let provider: FakeProvider
let bedrock: FakeBedrock
let directory: string
let running: Meter
const errors: unknown[] = []
const events: UsageEvent[] = []

beforeAll(async () => {
  service = await startFakeDecisions()
  provider = await startFakeProvider()
  bedrock = await startFakeBedrock()
  directory = await mkdtemp(join(tmpdir(), 'tokentally-enforce-'))
  running = start({
    url: service.url,
    apiKey: 'key',
    spool: join(directory, 'spool'),
    enforce: true,
    endpoints: [
      `${provider.url}/v1=openai`,
      `${provider.url}/anthropic=anthropic`,
      `${provider.url}/gemini=gemini/gcp.gemini`,
      `${provider.url}/cohere=cohere`,
      `${provider.url}/ollama=ollama`,
      `http://127.0.0.1:${bedrock.ports.http}=bedrock/aws.bedrock`,
      `http://127.0.0.1:${bedrock.ports.http2}=bedrock/aws.bedrock`,
    ].join(),
    onError: (error) => errors.push(error),
  })
  const append = running.tap.sink.append.bind(running.tap.sink)
  running.tap.sink.append = (event) => {
    events.push(event)
    append(event)
  }
  expect(await decisionsReady(10_000)).toBe(true)
})
afterAll(async () => {
  await shutdown()
  await service.close()
  await provider.close()
  await bedrock.close()
  await rm(directory, { recursive: true, force: true })
  expect(errors).toEqual([])
})
afterEach(async () => {
  await decide()
  events.length = 0
})

const UNTIL = '2099-01-01T00:00:00.000Z'
const base = { reason: 'budget_exceeded', budget: { id: 'b1', name: 'acme-budget' }, until: UNTIL }
const BLOCK = { ...base, action: 'block', scope: { customer: 'acme' }, detail: 'The budget is used up.' }
let decided = 0

/** Decides, and waits until the app knows. */
async function decide(...decisions: readonly object[]): Promise<void> {
  const name = `probe-${++decided}`
  service.decide(...decisions, { ...BLOCK, scope: { feature: name } })
  const probe = () =>
    attribute({ feature: name }, () => running.tap.enforcer?.refusalOf({ provider: 'p', model: 'm' }))
  await waitFor(() => probe() !== undefined, 'the app knows what was decided')
}

const MODEL = 'gpt-4o'
const messages = [{ role: 'user' as const, content: 'Hi' }]
const body = JSON.stringify({ model: MODEL, messages })
const headers = { 'content-type': 'application/json' }
const CLAUDE = { model: 'claude-sonnet-4-5', max_tokens: 9, messages }
const aws = { region: 'us-east-1', credentials: { accessKeyId: 'test', secretAccessKey: 'test' } }
const converse = () =>
  new ConverseCommand({
    modelId: 'amazon.nova-pro-v1:0',
    messages: [{ role: 'user', content: [{ text: 'Hi' }] }],
  })

function overHttp(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const url = `${provider.url}/v1/chat/completions`
    const request = httpRequest(url, { method: 'POST', headers }, (response) => resolve(response.resume()))
    request.on('error', reject)
    request.write(body.slice(0, 9))
    request.end(body.slice(9))
  })
}

function overHttp2(): Promise<unknown> {
  const session = connect(`http://127.0.0.1:${bedrock.ports.http2}`)
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': '/model/amazon.nova-pro-v1%3A0/converse' })
    stream.on('error', reject)
    stream.on('response', () => resolve(stream.resume()))
    stream.end('{}')
  }).finally(() => session.close())
}

/** How each way to make a call fails: its own error's name, and whether it is the typed error itself. */
const WAYS: Readonly<Record<string, { readonly call: () => Promise<unknown>; readonly fails: string }>> = {
  fetch: {
    call: () => fetch(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body }),
    fails: 'BudgetExceededError',
  },
  'fetch of a Request': {
    call: () => fetch(new Request(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body })),
    fails: 'BudgetExceededError',
  },
  'OpenAI SDK': {
    call: () =>
      new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1` }).chat.completions.create({
        model: MODEL,
        messages,
      }),
    fails: 'RateLimitError',
  },
  'OpenAI SDK, a fetch that it got before ours, metered': {
    call: () =>
      meter(
        new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1`, fetch: (url, init) => fetch(url, init) }),
      ).responses.create({ model: MODEL, input: 'Hi' }),
    fails: 'RateLimitError',
  },
  'Anthropic SDK': {
    call: () => new Anthropic({ apiKey: 'k', baseURL: `${provider.url}/anthropic` }).messages.create(CLAUDE),
    fails: 'RateLimitError',
  },
  'Groq SDK': {
    call: () =>
      new Groq({ apiKey: 'k', baseURL: provider.url, defaultHeaders: {} }).chat.completions.create(
        { model: MODEL, messages },
        { path: `${provider.url}/v1/chat/completions` },
      ),
    fails: 'RateLimitError',
  },
  Mistral: {
    call: () =>
      new Mistral({ apiKey: 'k', serverURL: provider.url }).chat.complete({
        model: 'mistral-small',
        messages,
      }),
    fails: 'UnexpectedClientError',
  },
  'Google Gen AI': {
    call: () =>
      new GoogleGenAI({
        apiKey: 'k',
        httpOptions: { baseUrl: `${provider.url}/gemini` },
      }).models.generateContent({
        model: 'gemini-2.5-flash',
        contents: 'Hi',
      }),
    fails: 'BudgetExceededError',
  },
  Cohere: {
    call: () =>
      new CohereClientV2({ token: 'k', environment: `${provider.url}/cohere` }).chat({
        model: 'command-a',
        messages,
      }),
    fails: 'CohereError',
  },
  Ollama: {
    call: () => new Ollama({ host: `${provider.url}/ollama` }).chat({ model: 'llama3', messages }),
    fails: 'BudgetExceededError',
  },
  'Vercel AI SDK, OpenAI': {
    call: () =>
      generateText({
        model: createOpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1` }).chat(MODEL),
        prompt: 'Hi',
      }),
    fails: 'BudgetExceededError',
  },
  'Vercel AI SDK, Anthropic, with the middleware': {
    call: () =>
      generateText({
        model: wrapLanguageModel({
          model: createAnthropic({ apiKey: 'k', baseURL: `${provider.url}/anthropic/v1` })(
            'claude-sonnet-4-5',
          ),
          middleware: tokenTallyMiddleware(),
        }),
        prompt: 'Hi',
      }),
    fails: 'BudgetExceededError',
  },
  'Vercel AI SDK, a transport that no tap sees, with the middleware': {
    call: () =>
      generateText({
        model: wrapLanguageModel({
          model: createOpenAI({
            apiKey: 'k',
            fetch: () => Promise.reject(new Error('it was called')),
          }).chat(MODEL),
          middleware: tokenTallyMiddleware(),
        }),
        prompt: 'Hi',
      }),
    fails: 'BudgetExceededError',
  },
  'LangChain, OpenAI': {
    call: () =>
      new ChatOpenAI({
        apiKey: 'k',
        model: MODEL,
        callbacks: [new TokenTallyCallbackHandler()],
        configuration: { baseURL: `${provider.url}/v1` },
      }).invoke('Hi'),
    fails: 'InsufficientQuotaError',
  },
  'LangChain, Anthropic': {
    call: () =>
      new ChatAnthropic({
        apiKey: 'k',
        model: 'claude-sonnet-4-5',
        callbacks: [new TokenTallyCallbackHandler()],
        anthropicApiUrl: `${provider.url}/anthropic`,
      }).invoke('Hi'),
    fails: 'RateLimitQuotaExhaustedError',
  },
  'AWS SDK over HTTP/2': {
    call: () =>
      new BedrockRuntimeClient({ ...aws, endpoint: `http://127.0.0.1:${bedrock.ports.http2}` }).send(
        converse(),
      ),
    fails: 'BudgetExceededError',
  },
  'AWS SDK, metered': {
    call: () =>
      meter(new BedrockRuntimeClient({ ...aws, endpoint: `http://127.0.0.1:${bedrock.ports.http2}` })).send(
        converse(),
      ),
    fails: 'BudgetExceededError',
  },
  axios: {
    call: () => axios.post(`${provider.url}/v1/chat/completions`, body, { adapter: 'http', headers }),
    fails: 'BudgetExceededError',
  },
  'node-fetch': {
    call: () => nodeFetch(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body }),
    fails: 'FetchError',
  },
  'undici request': {
    call: () => undiciRequest(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body }),
    fails: 'BudgetExceededError',
  },
  'undici fetch': {
    call: () => undiciFetch(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body }),
    fails: 'TypeError',
  },
  'node:http': { call: overHttp, fails: 'BudgetExceededError' },
  'node:http2': { call: overHttp2, fails: 'BudgetExceededError' },
}

describe('a blocked call', () => {
  it.each(Object.entries(WAYS))('fails at once: %s', async (_name, { call, fails }) => {
    const billed = provider.billed.length
    for (const further of [[], [{ ...BLOCK, scope: { model: 'another' } }]]) {
      await decide(BLOCK, ...further)
      const asked = running.tap.enforcer
      let times = 0
      const judge = asked?.judge.bind(asked)
      if (asked !== undefined && judge !== undefined)
        asked.judge = (...args) => {
          times++
          return judge(...args)
        }
      const error: unknown = await attribute({ customer: 'acme' }, call).then(
        () => expect.unreachable('the call went through'),
        (reason: unknown) => reason,
      )
      if (asked !== undefined) Reflect.deleteProperty(asked, 'judge')
      // It was not tried again.
      expect(times).toBeLessThanOrEqual(1)
      expect(nameOf(error)).toBe(fails)
      expect(budgetErrorOf(error)).toBeInstanceOf(BudgetExceededError)
      expect(budgetErrorOf(error)).toMatchObject({
        code: 'budget_exceeded',
        action: 'block',
        scope: { customer: 'acme' },
        budget: { id: 'b1', name: 'acme-budget' },
        until: new Date(UNTIL),
        detail: 'The budget is used up.',
      })
    }
    expect(provider.billed).toHaveLength(billed)
    expect(events).toEqual([])
  })

  it('leaves all other calls alone', async () => {
    await decide(BLOCK)
    const sdk = new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1` })
    const call = () => sdk.chat.completions.create({ model: MODEL, messages })
    expect((await call()).choices).toHaveLength(1)
    expect((await attribute({ customer: 'globex' }, call)).choices).toHaveLength(1)
    expect((await attribute({ customer: 'globex' }, overHttp)) !== undefined).toBe(true)
    await waitFor(() => events.length === 3, 'the events')
  })

  it('goes through again when the limit is lifted, and when its period is over', async () => {
    const call = () => attribute({ customer: 'acme' }, WAYS['fetch']?.call ?? overHttp)
    await decide({ ...BLOCK, until: '2026-01-01T00:00:00Z' })
    await call()
    await decide(BLOCK)
    await expect(call()).rejects.toThrow(BudgetExceededError)
    await decide()
    await call()
  })

  it('of a customer without credit says so, and to ask again in a minute', async () => {
    const credit = { ...BLOCK, reason: 'credit_exhausted', budget: null, until: null }
    await decide(credit)
    const error: unknown = await attribute({ customer: 'acme' }, overHttp).catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'credit_exhausted',
      budget: null,
      until: null,
      retryAfterS: 60,
      status: 429,
    })
  })
})

it('an SDK whose fetch goes past ours gets its answer from the dispatcher', async () => {
  await decide(BLOCK)
  const stainless = { ...headers, 'x-stainless-lang': 'js' }
  const init = { method: 'POST', headers: stainless, body }
  const url = `${provider.url}/v1/chat/completions`
  await attribute({ customer: 'acme' }, async () => {
    for (const response of [await undiciFetch(url, init), await fetch(url, init)]) {
      expect(response.status).toBe(429)
      expect(response.headers.get('x-should-retry')).toBe('false')
      expect(budgetErrorOf(response)).toMatchObject({ code: 'budget_exceeded' })
      expect(await response.json()).toMatchObject({ code: 'budget_exceeded', scope: { customer: 'acme' } })
    }
    const { statusCode, body: answer } = await undiciRequest(url, { ...init, method: 'POST' })
    expect(statusCode).toBe(429)
    expect(await answer.json()).toMatchObject({ status: 429, error: { code: 'insufficient_quota' } })
  })
})

describe('a rate', () => {
  const limit = {
    ...base,
    action: 'rate_limit',
    scope: { team: 'search' },
    detail: 'Slow down.',
    requests_per_minute: 3,
  }
  const call = (team: string) =>
    attribute({ team }, () => fetch(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, body }))

  it('is kept for each scope, through new snapshots, and says when to come again', async () => {
    await decide(limit)
    for (let calls = 0; calls < 3; calls++) expect((await call('search')).status).toBe(200)
    await decide(limit, { ...limit, scope: { team: 'ads' } })
    const error: unknown = await call('search').catch((reason: unknown) => reason)
    expect(error).toMatchObject({ action: 'rate_limit', code: 'budget_exceeded', scope: { team: 'search' } })
    expect(budgetErrorOf(error)?.retryAfterS).toBeGreaterThan(50)
    expect(budgetErrorOf(error)?.retryAfterS).toBeLessThanOrEqual(60)
    expect((await call('ads')).status).toBe(200)
    expect((await call('other')).status).toBe(200)
  })
})

describe('a downgrade', () => {
  const cheaper = {
    ...base,
    action: 'downgrade',
    scope: { customer: 'acme' },
    detail: 'Only cheap models now.',
    models: ['claude-haiku-4-5', 'gpt-4o-mini'],
  }
  const acme = <T>(work: () => T) => attribute({ customer: 'acme', tags: { plan: 'pro' } }, work)
  const sdk = () => new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1` })
  const url = () => `${provider.url}/v1/chat/completions`

  const ways: Readonly<Record<string, (stream: boolean) => Promise<unknown>>> = {
    'OpenAI SDK': (stream) => read(sdk().chat.completions.create({ model: MODEL, messages, stream })),
    fetch: async (stream) => (await fetch(url(), { method: 'POST', headers, body: bodyFor(stream) })).text(),
    'fetch of a Request': async (stream) =>
      (await fetch(new Request(url(), { method: 'POST', headers, body: bodyFor(stream) }))).text(),
    'undici request': async (stream) =>
      (
        await undiciRequest(url(), {
          method: 'POST',
          headers: { ...headers, 'content-length': String(bodyFor(stream).length) },
          body: bodyFor(stream),
        })
      ).body.text(),
    axios: async (stream) =>
      (await axios.post(url(), bodyFor(stream), { adapter: 'http', headers, responseType: 'text' })).data,
  }
  const bodyFor = (stream: boolean) => JSON.stringify({ messages, model: MODEL, stream })
  const read = async (answer: Promise<unknown>) => {
    const completion = await answer
    if (typeof completion === 'object' && completion !== null && Symbol.asyncIterator in completion) {
      for await (const _ of Object.assign(completion));
    }
  }

  it.each(
    Object.entries(ways).flatMap(([name, way]) => [[name, false, way] as const, [name, true, way] as const]),
  )('calls the first cheaper model that the provider has: %s, streamed: %s', async (_name, stream, way) => {
    await decide(cheaper)
    const billed = provider.billed.length
    await acme(() => way(stream))
    expect(provider.billed.slice(billed)).toMatchObject([{ model: 'gpt-4o-mini' }])
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([
      {
        model: 'gpt-4o-mini',
        customer: 'acme',
        tags: { plan: 'pro', 'tokentally.downgraded_from': MODEL },
        quantities: { input_tokens: provider.billed.at(-1)?.inputTokens },
        status: 'ok',
      },
    ])
  })

  it('leaves a call of a model that is named as it is, in any edition', async () => {
    await decide(cheaper)
    for (const model of ['gpt-4o-mini', 'gpt-4o-mini-2024-07-18']) {
      await acme(() => sdk().chat.completions.create({ model, messages }))
      expect(provider.billed.at(-1)?.model).toBe(model)
    }
    await waitFor(() => events.length === 2, 'the events')
    expect(events.map(({ tags }) => tags)).toEqual([{ plan: 'pro' }, { plan: 'pro' }])
  })

  it('gives Anthropic its own', async () => {
    await decide(cheaper)
    await acme(() =>
      new Anthropic({ apiKey: 'k', baseURL: `${provider.url}/anthropic` }).messages.create(CLAUDE),
    )
    expect(provider.billed.at(-1)?.model).toBe('claude-haiku-4-5')
  })

  it.each(['Google Gen AI', 'AWS SDK over HTTP/2', 'AWS SDK, metered'])(
    'refuses what cannot be given a cheaper model: %s',
    async (name) => {
      await decide(cheaper)
      const error: unknown = await acme(() => WAYS[name]?.call() ?? Promise.resolve()).catch(
        (reason: unknown) => reason,
      )
      expect(budgetErrorOf(error)).toMatchObject({ action: 'downgrade', code: 'budget_exceeded' })
    },
  )

  it('never to a model that is blocked itself', async () => {
    await decide(
      { ...cheaper, models: ['gpt-4o-mini', 'gpt-4.1-nano'] },
      { ...BLOCK, scope: { model: 'gpt-4o-mini' } },
    )
    await acme(() => sdk().chat.completions.create({ model: MODEL, messages }))
    expect(provider.billed.at(-1)?.model).toBe('gpt-4.1-nano')
  })
})

it('usage is delivered as ever', async () => {
  await WAYS['OpenAI SDK']?.call()
  await running.flush()
  expect(service.delivered()).toContain('"gen_ai.request.model"')
})

function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error
  return error.name === 'Error' ? error.constructor.name : error.name
}
