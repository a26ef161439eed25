import { readFileSync } from 'node:fs'
import type { UsageEvent } from '@tokentally/core'
import { parseEndpoints } from '@tokentally/providers'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { startTranscriptProvider, type TranscriptProvider } from '../fake-provider/openai.ts'
import { waitFor } from '../harness/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/** Google, Anthropic on Vertex AI, Cohere and Ollama through `fetch`: what is metered is what was reported. */

const TRANSCRIPTS = new URL('../../packages/providers/transcripts/', import.meta.url)
const GEMINI = 'https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash'
const VERTEX = 'https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers'
const OLLAMA = 'http://127.0.0.1:11434'

let provider: TranscriptProvider
const events: UsageEvent[] = []
const errors: unknown[] = []
const dependencies: TapDependencies = {
  ...tapDependencies(events, errors),
  endpoints: parseEndpoints(`${OLLAMA}=ollama`),
}
/** Calls are made to the vendors' own URLs, and answered by the provider on this machine. */
const metered = tapFetch(
  (input, init) => fetch(String(input).replace(/^https?:\/\/[^/]+/, provider.url), init),
  () => dependencies,
)

beforeAll(async () => {
  provider = await startTranscriptProvider()
})
afterAll(() => provider.close())
beforeEach(() => {
  events.length = 0
  errors.length = 0
})

function ask(url: string, body: object, transcript: string, fake = ''): Promise<Response> {
  const headers = { 'content-type': 'application/json', 'x-transcript': transcript, 'x-fake': fake }
  return metered(url, { method: 'POST', headers, body: JSON.stringify(body) })
}

async function metering(): Promise<UsageEvent | undefined> {
  await waitFor(() => events.length > 0, 'no event came')
  expect(errors).toEqual([])
  expect(events).toHaveLength(1)
  return events[0]
}

const CONTENTS = { contents: [{ role: 'user', parts: [{ text: 'Count' }] }] }
const CLAUDE = { anthropic_version: 'vertex-2023-10-16', max_tokens: 9, messages: [] }

describe.each(['', 'split', 'gzip'])('a call whose answer comes %s', (fake) => {
  it.each<[url: string, body: object, transcript: string, event: object]>([
    [
      `${GEMINI}:generateContent`,
      CONTENTS,
      'gemini/cached-audio.json',
      { provider: 'gcp.gemini', operation: 'generate_content', model: 'gemini-2.5-flash', streamed: false },
    ],
    [
      `${GEMINI}:streamGenerateContent?alt=sse`,
      CONTENTS,
      'gemini/stream-thoughts.sse',
      {
        responseModel: 'gemini-2.5-pro',
        streamed: true,
        quantities: { input_tokens: 31, output_tokens: 1005, reasoning_tokens: 1000, cache_read_tokens: 20 },
      },
    ],
    [
      `${GEMINI}:streamGenerateContent`,
      CONTENTS,
      'gemini/stream-array.json',
      { streamed: true, quantities: { input_tokens: 8, output_tokens: 12 } },
    ],
    [
      `${VERTEX}/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict`,
      CLAUDE,
      'anthropic-messages/stream.sse',
      {
        provider: 'gcp.vertex_ai',
        region: 'us-east5',
        model: 'claude-sonnet-4-5@20250929',
        quantities: { input_tokens: 25, output_tokens: 15 },
      },
    ],
    [
      'https://api.cohere.com/v2/chat',
      { model: 'command-a-03-2025', messages: [], stream: true },
      'cohere/chat.sse',
      { provider: 'cohere', model: 'command-a-03-2025', streamed: true },
    ],
    [
      'https://api.cohere.com/v2/rerank',
      { model: 'rerank-v3.5', query: 'Which', documents: ['One'] },
      'cohere/rerank.json',
      { operation: 'rerank', model: 'rerank-v3.5', quantities: { search_units: 2 } },
    ],
    [
      `${OLLAMA}/api/chat`,
      { model: 'llama3.2', messages: [] },
      'ollama/chat.ndjson',
      {
        provider: 'ollama',
        streamed: true,
        quantities: { input_tokens: 26, output_tokens: 282 },
      },
    ],
  ])('%s', async (url, body, transcript, event) => {
    const response = await ask(url, body, transcript, fake)
    const seen = Buffer.from(await response.arrayBuffer())
    expect(seen).toEqual(readFileSync(new URL(transcript, TRANSCRIPTS)))
    expect(await metering()).toMatchObject({ status: 'ok', estimated: false, ...event })
  })
})

it('a stream that the application leaves is finished for its usage', async () => {
  const response = await ask(`${GEMINI}:streamGenerateContent`, CONTENTS, 'gemini/stream-array.json', 'split')
  const reader = response.body?.getReader()
  await reader?.read()
  await reader?.cancel()
  expect(await metering()).toMatchObject({
    estimated: false,
    quantities: { input_tokens: 8, output_tokens: 12 },
  })
})

it('what was refused costs nothing', async () => {
  const response = await ask(`${GEMINI}:generateContent`, CONTENTS, 'gemini/error-429.json')
  expect(response.status).toBe(429)
  await response.text()
  expect(await metering()).toMatchObject({ status: 'error', quantities: {} })
})

it('embeddings without usage are estimated and say so', async () => {
  const content = { parts: [{ text: 'One' }] }
  const response = await ask(`${GEMINI}:embedContent`, { content }, 'gemini-embeddings/gemini.json')
  await response.text()
  expect(await metering()).toMatchObject({ estimated: true, quantities: { input_tokens: 4 } })
})
