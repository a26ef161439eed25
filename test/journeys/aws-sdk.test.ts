import { readFileSync } from 'node:fs'
import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from '@aws-sdk/client-bedrock-runtime'
import type { UsageEvent } from '@tokentally/core'
import { parseEndpoints } from '@tokentally/providers'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { isAwsClient, tapAwsClient } from '../../packages/meter/src/tap/aws-sdk.ts'
import { eventStream } from '../../packages/providers/test/aws-event-stream.ts'
import { type BedrockAnswer, type FakeBedrock, startFakeBedrock } from '../fake-provider/bedrock.ts'
import { tapDependencies } from '../harness/tap.ts'
import { waitFor } from '../harness/wait-for.ts'

/** The official AWS SDK, over HTTP/2 as it prefers, with its own retries and its own reading of answers. */

const TRANSCRIPTS = new URL('../../packages/providers/transcripts/bedrock-converse/', import.meta.url)
const bytesOf = (name: string) => readFileSync(new URL(name, TRANSCRIPTS))
const MODEL = 'eu.anthropic.claude-sonnet-4-5-20250929-v1:0'
const input = { modelId: MODEL, messages: [{ role: 'user' as const, content: [{ text: 'Hi' }] }] }

const events: UsageEvent[] = []
const errors: unknown[] = []
let bedrock: FakeBedrock
let client: BedrockRuntimeClient
beforeAll(async () => {
  bedrock = await startFakeBedrock()
  const endpoint = `http://127.0.0.1:${bedrock.ports.http2}`
  client = new BedrockRuntimeClient({
    region: 'eu-central-1',
    endpoint,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  const endpoints = parseEndpoints(`${endpoint}=bedrock/aws.bedrock`)
  if (!isAwsClient(client)) throw new Error('the SDK has another shape now')
  tapAwsClient(client, () => ({ ...tapDependencies(events, errors), endpoints }))
})
afterAll(async () => {
  client.destroy()
  await bedrock.close()
})
beforeEach(() => {
  events.length = 0
  errors.length = 0
})

const plain: BedrockAnswer = {
  status: 200,
  headers: { 'content-type': 'application/json', 'x-amzn-requestid': 'request-1' },
  chunks: [bytesOf('cached.json')],
}
const streamed: BedrockAnswer = {
  status: 200,
  headers: { 'content-type': 'application/vnd.amazon.eventstream', 'x-amzn-requestid': 'request-2' },
  chunks: [eventStream(bytesOf('stream-cached-tool.events').toString('utf8'))],
}
const failed: BedrockAnswer = {
  status: 500,
  headers: { 'content-type': 'application/json', 'x-amzn-errortype': 'InternalServerException' },
  chunks: [Buffer.from('{"message":"try again"}')],
}

/** What the SDK reports, in the words of an event: the cache stands beside the input there. */
function quantitiesOf(usage: {
  inputTokens: number | undefined
  outputTokens: number | undefined
  cacheReadInputTokens?: number | undefined
  cacheWriteInputTokens?: number | undefined
}) {
  const { inputTokens = 0, outputTokens = 0, cacheReadInputTokens = 0, cacheWriteInputTokens = 0 } = usage
  return {
    input_tokens: inputTokens + cacheReadInputTokens + cacheWriteInputTokens,
    output_tokens: outputTokens,
    cache_read_tokens: cacheReadInputTokens,
    cache_write_tokens: cacheWriteInputTokens,
  }
}

it('is counted as it reports itself: converse', async () => {
  bedrock.answers = [plain]
  const { usage } = await client.send(new ConverseCommand(input))
  await waitFor(() => events.length === 1, 'the event')
  if (usage === undefined) throw new Error('the SDK reports no usage')
  expect(events).toMatchObject([{ status: 'ok', model: MODEL, quantities: quantitiesOf(usage), attempt: 0 }])
  expect(errors).toEqual([])
})

it('is counted as it reports itself: converse stream', async () => {
  bedrock.answers = [streamed]
  const { stream = [] } = await client.send(new ConverseStreamCommand(input))
  let usage: Parameters<typeof quantitiesOf>[0] | undefined
  for await (const event of stream) usage = event.metadata?.usage ?? usage
  await waitFor(() => events.length === 1, 'the event')
  if (usage === undefined) throw new Error('the SDK reports no usage')
  expect(events).toMatchObject([{ status: 'ok', streamed: true, quantities: quantitiesOf(usage) }])
  expect(errors).toEqual([])
})

it('has one event for what was answered, and its failed attempts as errors', async () => {
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
