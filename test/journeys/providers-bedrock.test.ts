import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import type { UsageEvent } from '@tokentally/core'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { meterClient } from '../../packages/meter/src/client.ts'
import { tapAwsClient } from '../../packages/meter/src/tap/aws-sdk.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { chunkEvent, eventStream } from '../../packages/providers/test/aws-event-stream.ts'
import {
  BedrockRuntimeClient,
  type HttpRequest,
  type HttpResponse,
  overHttp,
  overHttp2,
} from '../fake-provider/aws-client.ts'
import { type FakeBedrock, startFakeBedrock } from '../fake-provider/bedrock.ts'
import { waitFor } from '../harness/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/** Bedrock's calls by the AWS SDK's stack of middleware, over both of its transports, and by `fetch`. */

const TRANSCRIPTS = new URL('../../packages/providers/transcripts/', import.meta.url)
const text = (name: string) => readFileSync(new URL(name, TRANSCRIPTS), 'utf8')
const HOST = 'bedrock-runtime.eu-central-1.amazonaws.com'
const MODEL = 'eu.anthropic.claude-sonnet-4-5-20250929-v1:0'
const STREAM = eventStream(text('bedrock-converse/stream-cached-tool.events'))
const EVENT_STREAM = { 'content-type': 'application/vnd.amazon.eventstream' }
const CACHED = { input_tokens: 1200, output_tokens: 33, cache_read_tokens: 500, cache_write_tokens: 140 }

const events: UsageEvent[] = []
const errors: unknown[] = []
const dependencies = tapDependencies(events, errors)
let current: TapDependencies | undefined

let bedrock: FakeBedrock
beforeAll(async () => {
  bedrock = await startFakeBedrock()
})
afterAll(() => bedrock.close())
beforeEach(() => {
  events.length = 0
  errors.length = 0
  current = dependencies
})

function converse(api = 'converse-stream', hostname = HOST): HttpRequest {
  return {
    protocol: 'https:',
    hostname,
    method: 'POST',
    path: `/model/${encodeURIComponent(MODEL)}/${api}`,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ messages: [{ role: 'user', content: [{ text: 'Hi' }] }] }),
  }
}

/** A body in pieces that cut its events. */
function pieces(bytes: Uint8Array, size = 37): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size),
  )
}

function metered(client: BedrockRuntimeClient): BedrockRuntimeClient {
  const unused = () => {
    throw new Error('not for this client')
  }
  return meterClient(client, unused, unused, (awsClient) => tapAwsClient(awsClient, () => current))
}

async function bytesOf(body: unknown): Promise<Buffer> {
  if (!(body instanceof Readable)) throw new TypeError('the body is no stream')
  const chunks: Buffer[] = []
  for await (const chunk of body) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

describe.each([
  ['http', overHttp],
  ['http2', overHttp2],
] as const)('by the AWS SDK over %s', (protocol, over) => {
  const client = (attempts?: number) =>
    metered(new BedrockRuntimeClient(over(bedrock.ports[protocol]), attempts))

  it('a stream is counted, and its bytes are the provider’s', async () => {
    bedrock.answers = [{ status: 200, headers: EVENT_STREAM, chunks: pieces(STREAM) }]
    const { body } = await client().send(converse())
    expect(await bytesOf(body)).toEqual(Buffer.from(STREAM))
    expect(events).toMatchObject([
      {
        provider: 'aws.bedrock',
        model: MODEL,
        region: 'eu-central-1',
        operation: 'chat',
        quantities: CACHED,
        serviceTier: 'flex',
        status: 'ok',
        streamed: true,
        estimated: false,
        providerRequestId: 'request-1',
        attempt: 0,
      },
    ])
    expect(errors).toEqual([])
  })

  it('an answer in one piece is counted, with the counts of its headers', async () => {
    const counts = { 'x-amzn-bedrock-input-token-count': '14', 'x-amzn-bedrock-output-token-count': '4' }
    const bytes = Buffer.from(text('bedrock-invoke/mistral.json'))
    bedrock.answers = [
      { status: 200, headers: { 'content-type': 'application/json', ...counts }, chunks: pieces(bytes) },
    ]
    const { body } = await client().send({
      ...converse(),
      path: '/model/mistral.mistral-large-2402-v1%3A0/invoke',
    })
    expect(await bytesOf(body)).toEqual(bytes)
    expect(events).toMatchObject([
      { model: 'mistral.mistral-large-2402-v1:0', quantities: { input_tokens: 14, output_tokens: 4 } },
    ])
  })

  it('attempts are linked, and only the answered one counts', async () => {
    const refused = {
      status: 429,
      headers: { 'x-amzn-errortype': 'ThrottlingException' },
      chunks: [Buffer.from('{"message":"slow down"}')],
    }
    bedrock.answers = [refused, refused, { status: 200, headers: EVENT_STREAM, chunks: [STREAM] }]
    await bytesOf((await client().send(converse())).body)
    await waitFor(() => events.length === 3, 'there are three events')
    expect(events).toMatchObject([
      { attempt: 0, status: 'error', quantities: {} },
      { attempt: 1, status: 'error', quantities: {} },
      { attempt: 2, status: 'ok', quantities: CACHED },
    ])
    expect(new Set(events.map(({ callId }) => callId)).size).toBe(1)
  })

  it('a stream that the application leaves is finished for its usage', async () => {
    bedrock.answers = [{ status: 200, headers: EVENT_STREAM, chunks: pieces(STREAM) }]
    const { body } = await client().send(converse())
    if (!(body instanceof Readable)) throw new TypeError('the body is no stream')
    for await (const _ of body) break
    await waitFor(() => events.length === 1, 'there is an event')
    expect(events).toMatchObject([{ quantities: CACHED, status: 'ok', estimated: false }])
  })

  it('a stream that is not to be finished is cut and estimated', async () => {
    current = { ...dependencies, finishLeftStreams: false }
    bedrock.answers = [{ status: 200, headers: EVENT_STREAM, chunks: pieces(STREAM) }]
    const { body } = await client().send(converse())
    if (!(body instanceof Readable)) throw new TypeError('the body is no stream')
    for await (const _ of body) break
    await waitFor(() => events.length === 1, 'there is an event')
    expect(events).toMatchObject([{ status: 'aborted', estimated: true }])
  })

  it('a connection that breaks is the application’s to see, and counts as aborted', async () => {
    bedrock.answers = [
      { status: 200, headers: EVENT_STREAM, chunks: [STREAM.subarray(0, 400)], isDropped: true },
    ]
    const { body } = await client().send(converse())
    await expect(bytesOf(body)).rejects.toThrow()
    await waitFor(() => events.length === 1, 'there is an event')
    expect(events).toMatchObject([{ status: 'aborted', estimated: true }])
  })
})

describe('by the AWS SDK', () => {
  const answering = (response: HttpResponse) => new BedrockRuntimeClient(async () => response)
  const OK = { statusCode: 200, headers: { 'Content-Type': 'application/json' } }

  it('a client that is metered twice counts once', async () => {
    const client = answering({ ...OK, body: Buffer.from(text('bedrock-converse/cached.json')) })
    expect(metered(metered(client))).toBe(client)
    await client.send(converse('converse'))
    expect(events).toMatchObject([{ quantities: { ...CACHED, cache_write_1h_tokens: 40 } }])
  })

  it('nothing is read ahead of the application', async () => {
    let isAskedFor = 0
    const source = new Readable({
      highWaterMark: 0,
      read() {
        isAskedFor++
        this.push(isAskedFor <= 10 ? STREAM : null)
      },
    })
    const { body } = await metered(answering({ ...OK, body: source })).send(converse())
    if (!(body instanceof Readable)) throw new TypeError('the body is no stream')
    await new Promise((resolve) => setImmediate(resolve))
    expect(isAskedFor).toBe(0)
    await body[Symbol.asyncIterator]().next()
    expect(isAskedFor).toBeLessThanOrEqual(2)
  })

  it('its own client is metered at any address, and other services are left alone', async () => {
    const client = metered(answering({ ...OK, body: Buffer.from(text('bedrock-converse/plain.json')) }))
    await client.send(converse('converse', 'llm.corp.example'))
    await client.send({ ...converse(), path: '/model/amazon.nova-lite-v1%3A0/count-tokens' })
    expect(events).toMatchObject([{ provider: 'aws.bedrock', quantities: { input_tokens: 30 } }])
  })

  it('while metering is off the answer is the transport’s own', async () => {
    current = undefined
    const body = Readable.from([STREAM])
    expect((await metered(answering({ ...OK, body })).send(converse())).body).toBe(body)
  })

  it('a call that fails is the same failure, and an event without cost', async () => {
    const failure = new Error('socket hang up')
    const client = metered(new BedrockRuntimeClient(() => Promise.reject(failure)))
    await expect(client.send(converse())).rejects.toBe(failure)
    expect(events).toMatchObject([{ status: 'error', quantities: {} }])
  })

  it('over a transport of fetch a call counts once', async () => {
    const fetching = tapFetch(
      async () => new Response(new Uint8Array(STREAM), { headers: EVENT_STREAM }),
      () => current,
    )
    const client = metered(
      new BedrockRuntimeClient(async ({ hostname, path, method, body }) => {
        const response = await fetching(`https://${hostname}${path}`, { method, body: String(body) })
        return {
          statusCode: response.status,
          headers: Object.fromEntries(response.headers),
          body: response.body,
        }
      }),
    )
    const { body } = await client.send(converse())
    if (!(body instanceof ReadableStream)) throw new TypeError('the body is no stream')
    expect(Buffer.from(await new Response(body).arrayBuffer())).toEqual(Buffer.from(STREAM))
    expect(events).toMatchObject([{ quantities: CACHED }])
  })
})

it('by fetch, as Anthropic’s Bedrock SDK calls it, a binary stream is counted', async () => {
  const bytes = Buffer.concat(
    text('bedrock-invoke/anthropic-stream.jsonl')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => chunkEvent(JSON.parse(line))),
  )
  const fetching = tapFetch(
    async () => new Response(new Uint8Array(bytes), { headers: EVENT_STREAM }),
    () => current,
  )
  const response = await fetching(`https://${HOST}/model/${MODEL}/invoke-with-response-stream`, {
    method: 'POST',
    body: '{"anthropic_version":"bedrock-2023-05-31","messages":[]}',
  })
  expect(Buffer.from(await response.arrayBuffer())).toEqual(bytes)
  expect(events).toMatchObject([
    { model: MODEL, region: 'eu-central-1', quantities: { ...CACHED, cache_write_1h_tokens: 40 } },
  ])
  expect(events[0]).not.toHaveProperty('responseModel')
})
