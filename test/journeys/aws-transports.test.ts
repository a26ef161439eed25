import { readFileSync } from 'node:fs'
import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from '@aws-sdk/client-bedrock-runtime'
import { NodeHttp2Handler, NodeHttpHandler } from '@smithy/node-http-handler'
import type { UsageEvent } from '@tokentally/core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { isAwsClient, tapAwsClient } from '../../packages/meter/src/tap/aws-sdk.ts'
import { IDLE_MS, idleBodies } from '../../packages/meter/src/tap/idle-bodies.ts'
import { tapNodeHttp } from '../../packages/meter/src/tap/node-http.ts'
import { tapNodeHttp2 } from '../../packages/meter/src/tap/node-http2.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { eventStream } from '../../packages/providers/test/aws-event-stream.ts'
import { type BedrockAnswer, type FakeBedrock, startFakeBedrock } from '../fake-provider/bedrock.ts'
import { tapDependencies } from '../harness/tap.ts'
import { waitFor } from '../harness/wait-for.ts'

/** The official AWS SDK over both of its transports, as the application made it, and with meter(client) besides. */

const TRANSCRIPTS = new URL('../../packages/providers/transcripts/bedrock-converse/', import.meta.url)
const textOf = (name: string) => readFileSync(new URL(name, TRANSCRIPTS), 'utf8')
const MODEL = 'eu.anthropic.claude-sonnet-4-5-20250929-v1:0'
const input = { modelId: MODEL, messages: [{ role: 'user' as const, content: [{ text: 'Hi' }] }] }

const streamHead = {
  status: 200,
  headers: { 'content-type': 'application/vnd.amazon.eventstream', 'x-amzn-requestid': 'request-2' },
} as const
const TRANSCRIPT = textOf('stream-cached-tool.events')
const plain: BedrockAnswer = {
  status: 200,
  headers: { 'content-type': 'application/json', 'x-amzn-requestid': 'request-1' },
  chunks: [Buffer.from(textOf('cached.json'))],
}
const streamed: BedrockAnswer = { ...streamHead, chunks: [eventStream(TRANSCRIPT)] }
const failed: BedrockAnswer = {
  status: 500,
  headers: { 'content-type': 'application/json', 'x-amzn-errortype': 'InternalServerException' },
  chunks: [Buffer.from('{"message":"try again"}')],
}
const PIECES = 3_000
/** More than any buffer on the way takes. */
const long: BedrockAnswer = {
  ...streamHead,
  chunks: [
    ...Array.from({ length: PIECES }, () =>
      eventStream(
        `contentBlockDelta ${JSON.stringify({ contentBlockIndex: 0, delta: { text: 'word '.repeat(40) } })}`,
      ),
    ),
    eventStream(TRANSCRIPT),
  ],
}

const events: UsageEvent[] = []
const errors: unknown[] = []
let bedrock: FakeBedrock
let dependencies: TapDependencies
let isOn = true
let untap: (() => void)[] = []

beforeAll(async () => {
  bedrock = await startFakeBedrock()
  const endpoint = (port: number) =>
    ({ origin: `http://127.0.0.1:${port}`, path: '', format: 'bedrock', provider: 'aws.bedrock' }) as const
  dependencies = {
    ...tapDependencies(events, errors),
    endpoints: [endpoint(bedrock.ports.http), endpoint(bedrock.ports.http2)],
  }
  const dependenciesOf = () => (isOn ? dependencies : undefined)
  untap = [tapNodeHttp(dependenciesOf), tapNodeHttp2(dependenciesOf)]
})
afterAll(async () => {
  for (const stop of untap) stop()
  await bedrock.close()
})
beforeEach(() => {
  events.length = 0
  errors.length = 0
})
afterEach(() => expect(errors).toEqual([]))

function clientOf(transport: 'http' | 'http2'): BedrockRuntimeClient {
  return new BedrockRuntimeClient({
    region: 'eu-central-1',
    endpoint: `http://127.0.0.1:${bedrock.ports[transport]}`,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    requestHandler: transport === 'http' ? new NodeHttpHandler() : new NodeHttp2Handler(),
  })
}

const WAYS = [
  ['NodeHttpHandler, as it is', 'http', false],
  ['NodeHttpHandler and meter(client)', 'http', true],
  ['NodeHttp2Handler, as it is', 'http2', false],
  ['NodeHttp2Handler and meter(client)', 'http2', true],
] as const

describe.each(WAYS)('%s', (_, transport, isWrapped) => {
  let client: BedrockRuntimeClient
  beforeAll(() => {
    client = clientOf(transport)
    if (!isAwsClient(client)) throw new Error('the SDK has another shape now')
    // meter(client) knows the client of Bedrock, and so needs no mapping of its address.
    if (isWrapped) tapAwsClient(client, () => (isOn ? { ...dependencies, endpoints: [] } : undefined))
  })
  afterAll(() => client.destroy())

  const total = (
    usage: {
      inputTokens?: number | undefined
      outputTokens?: number | undefined
      cacheReadInputTokens?: number | undefined
      cacheWriteInputTokens?: number | undefined
    } = {},
  ) => ({
    input_tokens:
      (usage.inputTokens ?? 0) + (usage.cacheReadInputTokens ?? 0) + (usage.cacheWriteInputTokens ?? 0),
    output_tokens: usage.outputTokens,
  })

  it('counts a plain call once, and shows its answer as it is', async () => {
    bedrock.answers = [plain]
    isOn = false
    const expected = await client.send(new ConverseCommand(input))
    isOn = true
    const seen = await client.send(new ConverseCommand(input))
    expect([seen.output, seen.usage]).toEqual([expected.output, expected.usage])
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([
      {
        status: 'ok',
        estimated: false,
        model: MODEL,
        quantities: total(seen.usage),
        providerRequestId: 'request-1',
      },
    ])
  })

  it('counts a stream once, and shows every event of it', async () => {
    bedrock.answers = [streamed]
    const read = async () => {
      const seen: unknown[] = []
      const { stream = [] } = await client.send(new ConverseStreamCommand(input))
      for await (const event of stream) seen.push(event)
      return seen
    }
    isOn = false
    const expected = await read()
    isOn = true
    expect(await read()).toEqual(expected)
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'ok', estimated: false, streamed: true, model: MODEL }])
  })

  it('numbers the attempts of a call', async () => {
    bedrock.answers = [failed, failed, plain]
    await client.send(new ConverseCommand(input))
    await waitFor(() => events.length === 3, 'the events')
    expect(events.map(({ status, attempt }) => [status, attempt])).toEqual([
      ['error', 0],
      ['error', 1],
      ['ok', 2],
    ])
    expect(new Set(events.map(({ callId }) => callId)).size).toBe(1)
  })

  it('counts a stream that is left by break, whose rest stays for who comes back', async () => {
    bedrock.answers = [long]
    const { stream = [] } = await client.send(new ConverseStreamCommand(input))
    let pieces = 0
    for await (const event of stream) {
      if (event.contentBlockDelta !== undefined) pieces++
      if (pieces === 1) break
    }
    if (!isWrapped) {
      // Without meter(client) it shows from nobody reading.
      await waitFor(() => {
        idleBodies.check(IDLE_MS, performance.now() + IDLE_MS)
        return events.length === 1
      }, 'the event')
    }
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'ok', estimated: false, streamed: true }])
    let usage: object | undefined
    for await (const event of stream) {
      if (event.contentBlockDelta?.delta?.text?.startsWith('word') === true) pieces++
      usage = event.metadata?.usage ?? usage
    }
    // The SDK gives its first event to every loop.
    expect(pieces).toBe(PIECES + 1)
    expect(events[0]?.quantities).toMatchObject(total(usage))
    expect(events.length).toBe(1)
  })

  it('counts a stream that nobody reads on with what came, when there is no more time', async () => {
    bedrock.answers = [long]
    const working = dependencies
    dependencies = { ...working, finishLeftStreams: false }
    const { stream = [] } = await client.send(new ConverseStreamCommand(input))
    for await (const _event of stream) break
    await waitFor(() => {
      idleBodies.settle()
      return events.length === 1
    }, 'the event')
    dependencies = working
    expect(events).toMatchObject([{ status: 'aborted', estimated: true }])
  })

  it('counts what came before the connection broke, or the application aborted', async () => {
    bedrock.answers = [{ ...streamed, chunks: [eventStream(TRANSCRIPT).subarray(0, 400)], isDropped: true }]
    const { stream = [] } = await client.send(new ConverseStreamCommand(input))
    await (async () => {
      for await (const _event of stream);
    })().catch(() => undefined)
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'aborted', estimated: true }])

    bedrock.answers = [long]
    const controller = new AbortController()
    const { stream: aborted = [] } = await client.send(new ConverseStreamCommand(input), {
      abortSignal: controller.signal,
    })
    await (async () => {
      for await (const _event of aborted) controller.abort()
    })().catch(() => undefined)
    await waitFor(() => events.length === 2, 'the event')
    expect(['ok', 'aborted']).toContain(events[1]?.status)
  })
})
