import { AnthropicBedrock } from '@anthropic-ai/bedrock-sdk'
import Anthropic from '@anthropic-ai/sdk'
import { AnthropicVertex } from '@anthropic-ai/vertex-sdk'
import { BedrockRuntimeClient } from '@aws-sdk/client-bedrock-runtime'
import { GoogleGenAI } from '@google/genai'
import type { UsageEvent } from '@tokentally/core'
import { meter } from '@tokentally/meter'
import { parseEndpoints } from '@tokentally/providers'
import { CohereClient, CohereClientV2 } from 'cohere-ai'
import { OAuth2Client } from 'google-auth-library'
import Groq from 'groq-sdk'
import { Ollama } from 'ollama'
import OpenAI, { AzureOpenAI } from 'openai'
import Together from 'together-ai'
import { afterAll, beforeAll, beforeEach, describe, expect, expectTypeOf, it } from 'vitest'
// Its condition `source` names sources that hold to other compiler settings.
import { HTTPClient, Mistral } from '../../node_modules/@mistralai/mistralai/esm/index.js'
import { meterClient } from '../../packages/meter/src/client.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { startTranscriptProvider, type TranscriptProvider } from '../fake-provider/openai.ts'
import { waitFor } from '../harness/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/** `meter(client)` for each official SDK: a client whose `fetch` no other tap sees is metered, once. */

let provider: TranscriptProvider
let dependencies: TapDependencies
const events: UsageEvent[] = []
const errors: unknown[] = []
const tapped = new WeakSet<typeof fetch>()

beforeAll(async () => {
  provider = await startTranscriptProvider()
  const bases = {
    'openai/v1': 'openai',
    'azure/openai/deployments/gpt-4o-mini': 'openai/azure.ai.openai',
    anthropic: 'anthropic',
    bedrock: 'bedrock/aws.bedrock',
    vertex: 'vertex/gcp.vertex_ai',
    'groq/openai/v1': 'openai/groq',
    'together/v1': 'openai/together_ai',
    ollama: 'ollama',
    gemini: 'gemini/gcp.gemini',
    'mistral/v1': 'openai/mistral_ai',
    cohere: 'cohere',
  }
  const endpoints = Object.entries(bases).map(([path, format]) => `${provider.url}/${path}=${format}`)
  dependencies = { ...tapDependencies(events, errors), endpoints: parseEndpoints(endpoints.join()) }
})
afterAll(() => provider.close())
beforeEach(() => {
  events.length = 0
  errors.length = 0
})

/** As `meter` does, but into this file's hands. */
function metered<Client extends object>(client: Client): Client {
  const tap = (original: typeof fetch) => {
    if (tapped.has(original)) return original
    const own = tapFetch(original, () => dependencies)
    tapped.add(own)
    return own
  }
  const never = () => expect.unreachable()
  return meterClient(client, tap, never, never)
}

/** A `fetch` of the application's own, that asks for a transcript. */
function own(transcript: string): typeof fetch {
  return (input, init) => {
    const request = new Request(input, init)
    request.headers.set('x-transcript', transcript)
    return fetch(request)
  }
}

const MESSAGES = [{ role: 'user' as const, content: 'Hi' }]
const CHAT = { model: 'gpt-4o-mini', messages: MESSAGES }
const CLAUDE = { model: 'claude-sonnet-4-5', max_tokens: 9, messages: MESSAGES }
const aws = { awsRegion: 'us-east-1', awsAccessKey: 'AK', awsSecretKey: 'SK' }

interface Sdk {
  readonly name: string
  readonly client: () => object
  readonly ask: (client: never) => Promise<unknown>
  readonly event: object
}

function sdk<Client extends object>(
  name: string,
  client: () => Client,
  ask: (client: Client) => Promise<unknown>,
  event: object,
): Sdk {
  return { name, client, ask, event }
}

const SDKS: readonly Sdk[] = [
  sdk(
    'OpenAI',
    () =>
      new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/openai/v1`, fetch: own('openai-chat/plain.json') }),
    (client) => client.chat.completions.create(CHAT),
    { provider: 'openai', model: 'gpt-4o-mini', quantities: { input_tokens: 19, output_tokens: 10 } },
  ),
  sdk(
    'OpenAI, a client made of it',
    () =>
      new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/openai/v1`, fetch: own('openai-chat/plain.json') }),
    (client) => client.withOptions({ timeout: 9_000 }).chat.completions.create(CHAT),
    { provider: 'openai', quantities: { input_tokens: 19, output_tokens: 10 } },
  ),
  sdk(
    'Azure OpenAI',
    () =>
      new AzureOpenAI({
        apiKey: 'k',
        apiVersion: '2025-01-01',
        endpoint: `${provider.url}/azure`,
        fetch: own('openai-chat/plain.json'),
      }),
    (client) => client.chat.completions.create(CHAT),
    { provider: 'azure.ai.openai', quantities: { input_tokens: 19, output_tokens: 10 } },
  ),
  sdk(
    'Anthropic',
    () =>
      new Anthropic({
        apiKey: 'k',
        baseURL: `${provider.url}/anthropic`,
        fetch: own('anthropic-messages/stream.sse'),
      }),
    async (client) => {
      for await (const _ of client.messages.stream(CLAUDE));
    },
    { provider: 'anthropic', streamed: true, quantities: { input_tokens: 25, output_tokens: 15 } },
  ),
  sdk(
    'Anthropic on Bedrock',
    () =>
      new AnthropicBedrock({
        ...aws,
        baseURL: `${provider.url}/bedrock`,
        fetch: own('bedrock-invoke/anthropic.json'),
      }),
    (client) => client.messages.create(CLAUDE),
    { provider: 'aws.bedrock', model: 'claude-sonnet-4-5', status: 'ok', estimated: false },
  ),
  sdk(
    'Anthropic on Vertex AI',
    () =>
      new AnthropicVertex({
        authClient: new OAuth2Client({ credentials: { access_token: 'token' } }),
        projectId: 'p',
        region: 'us-east5',
        baseURL: `${provider.url}/vertex/v1`,
        fetch: own('anthropic-messages/plain.json'),
      }),
    (client) => client.messages.create(CLAUDE),
    { provider: 'gcp.vertex_ai', model: 'claude-sonnet-4-5', status: 'ok', estimated: false },
  ),
  sdk(
    'Groq',
    () =>
      new Groq({
        apiKey: 'k',
        baseURL: `${provider.url}/groq`,
        fetch: own('openai-compatible/groq.json'),
      }),
    (client) => client.chat.completions.create(CHAT),
    { provider: 'groq', status: 'ok', estimated: false },
  ),
  sdk(
    'Together',
    () =>
      new Together({
        apiKey: 'k',
        baseURL: `${provider.url}/together/v1`,
        fetch: own('openai-compatible/together.json'),
      }),
    (client) => client.withOptions({}).chat.completions.create(CHAT),
    { provider: 'together_ai', status: 'ok', estimated: false },
  ),
  sdk(
    'Ollama',
    () => new Ollama({ host: `${provider.url}/ollama`, fetch: own('ollama/chat.ndjson') }),
    async (client) => {
      for await (const _ of await client.chat({ model: 'llama3.2', messages: MESSAGES, stream: true }));
    },
    { provider: 'ollama', streamed: true, quantities: { input_tokens: 26, output_tokens: 282 } },
  ),
  sdk(
    'Google Gen AI',
    () =>
      new GoogleGenAI({
        apiKey: 'k',
        httpOptions: { baseUrl: `${provider.url}/gemini`, fetch: own('gemini/plain.json') },
      }),
    (client) => client.models.generateContent({ model: 'gemini-2.5-flash', contents: 'Hi' }),
    { provider: 'gcp.gemini', model: 'gemini-2.5-flash', status: 'ok', estimated: false },
  ),
  sdk(
    'Google Gen AI, a chat',
    () =>
      new GoogleGenAI({
        apiKey: 'k',
        httpOptions: { baseUrl: `${provider.url}/gemini`, fetch: own('gemini/stream-thoughts.sse') },
      }),
    async (client) => {
      const chat = client.chats.create({ model: 'gemini-2.5-pro' })
      for await (const _ of await chat.sendMessageStream({ message: 'Hi' }));
    },
    {
      provider: 'gcp.gemini',
      quantities: { input_tokens: 31, output_tokens: 1005, reasoning_tokens: 1000, cache_read_tokens: 20 },
    },
  ),
  sdk(
    'Mistral',
    () =>
      new Mistral({
        apiKey: 'k',
        serverURL: `${provider.url}/mistral`,
        httpClient: new HTTPClient({ fetcher: own('openai-compatible/mistral.json') }),
      }),
    (client) => client.chat.complete({ model: 'mistral-small-latest', messages: MESSAGES }),
    { provider: 'mistral_ai', model: 'mistral-small-latest', status: 'ok', estimated: false },
  ),
  sdk(
    'Cohere',
    () =>
      new CohereClientV2({
        token: 'k',
        environment: `${provider.url}/cohere`,
        fetch: own('cohere/chat.json'),
      }),
    (client) => client.chat({ model: 'command-a-03-2025', messages: MESSAGES }),
    { provider: 'cohere', model: 'command-a-03-2025', status: 'ok', estimated: false },
  ),
  sdk(
    'Cohere, the older client',
    () =>
      new CohereClient({
        token: 'k',
        environment: `${provider.url}/cohere`,
        fetch: own('cohere/rerank.json'),
      }),
    (client) => client.v2.rerank({ model: 'rerank-v3.5', query: 'Which', documents: ['One'] }),
    { provider: 'cohere', operation: 'rerank', quantities: { search_units: 2 } },
  ),
]

describe.each(SDKS)('$name', ({ client, ask, event }) => {
  it('is not seen by itself, and is metered once by meter(client), however often', async () => {
    await ask(client() as never)
    expect(events).toEqual([])
    const one = client()
    expect(metered(metered(one))).toBe(one)
    await ask(one as never)
    await waitFor(() => events.length > 0, 'no event came')
    expect(events).toHaveLength(1)
    expect(events[0]).toMatchObject({ status: 'ok', estimated: false, ...event })
    expect(errors).toEqual([])
  })
})

it('a client made of a metered one is metered already', async () => {
  const client = metered(
    new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/openai/v1`, fetch: own('openai-chat/plain.json') }),
  )
  await metered(client.withOptions({ maxRetries: 0 })).chat.completions.create(CHAT)
  expect(events).toHaveLength(1)
})

it('clients that take the global fetch at each call stay as they are', () => {
  const clients = [
    new GoogleGenAI({ apiKey: 'k' }),
    new Mistral({ apiKey: 'k' }),
    new CohereClientV2({ token: 'k' }),
    new CohereClient({ token: 'k' }),
  ]
  for (const client of clients) expect(metered(client)).toBe(client)
})

it('a client whose fetch is tapped keeps it', () => {
  const client = new OpenAI({ apiKey: 'k' })
  const { fetch } = Object(client)
  expect(Object(meter(client)).fetch).toBe(fetch)
})

it('what is no client is refused, with the cure', () => {
  expect(() => meter({ chat: {} })).toThrow(/importing @tokentally\/meter before/)
})

it('a client keeps its type', () => {
  expectTypeOf(meter<OpenAI>).returns.toEqualTypeOf<OpenAI>()
  expectTypeOf(
    meter(new AzureOpenAI({ apiKey: 'k', apiVersion: '1', endpoint: 'https://x' })),
  ).toEqualTypeOf<AzureOpenAI>()
  expectTypeOf(meter(new Anthropic({ apiKey: 'k' }))).toEqualTypeOf<Anthropic>()
  expectTypeOf(meter(new GoogleGenAI({ apiKey: 'k' }))).toEqualTypeOf<GoogleGenAI>()
  expectTypeOf(meter(new Mistral({ apiKey: 'k' }))).toEqualTypeOf<Mistral>()
  expectTypeOf(meter(new CohereClientV2({ token: 'k' }))).toEqualTypeOf<CohereClientV2>()
  expectTypeOf(meter(new BedrockRuntimeClient({ region: 'x' }))).toEqualTypeOf<BedrockRuntimeClient>()
})
