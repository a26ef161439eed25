import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BedrockRuntimeClient, ConverseStreamCommand } from '@aws-sdk/client-bedrock-runtime'
import axios from 'axios'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { attribute, cost, flush, shutdown, start, unmeteredCalls } from '../../packages/meter/src/index.ts'
import { eventStream } from '../../packages/providers/test/aws-event-stream.ts'
import { type FakeBedrock, startFakeBedrock } from '../fake-provider/bedrock.ts'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'

/** An application with clients that use no fetch: `start` is all that it does for the meter. */

let provider: FakeProvider
let bedrock: FakeBedrock
let directory: string
const errors: unknown[] = []
const startMeter = () =>
  start({
    spool: join(directory, 'spool'),
    endpoints: `${provider.url}/v1=openai,http://127.0.0.1:${bedrock.ports.http2}=bedrock/aws.bedrock`,
    onError: (error) => errors.push(error),
  })

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tokentally-clients-'))
  provider = await startFakeProvider()
  bedrock = await startFakeBedrock()
  startMeter()
})
afterAll(async () => {
  await shutdown()
  await provider.close()
  await bedrock.close()
  await rm(directory, { recursive: true, force: true })
})

it('counts what axios sends, plain and streamed', async () => {
  const url = `${provider.url}/v1/chat/completions`
  const body = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Say something.' }] }
  await attribute({ customer: 'acme' }, async () => {
    const plain = await axios.post(url, body, { adapter: 'http', headers: { 'x-fake': 'gzip' } })
    expect(plain.data.usage.total_tokens).toBeGreaterThan(0)
    const streamed = await axios.post(
      url,
      { ...body, stream: true },
      { adapter: 'http', responseType: 'stream' },
    )
    let text = ''
    for await (const piece of streamed.data) text += piece
    expect(text).toContain('[DONE]')
    expect(text).not.toContain('usage')
  })
  await flush()
  const billed = (field: 'inputTokens' | 'outputTokens') =>
    provider.billed.reduce((sum, call) => sum + call[field], 0)
  expect(await cost.lastHour('openai')).toMatchObject({
    requests: 2,
    inputTokens: billed('inputTokens'),
    outputTokens: billed('outputTokens'),
  })
  expect([errors, [...unmeteredCalls()]]).toEqual([[], []])
})

it('counts a stream of the AWS SDK that is left by break, at the latest when the meter stops', async () => {
  const delta = { contentBlockIndex: 0, delta: { text: 'word '.repeat(40) } }
  const piece = eventStream(`contentBlockDelta ${JSON.stringify(delta)}`)
  bedrock.answers = [
    {
      status: 200,
      headers: { 'content-type': 'application/vnd.amazon.eventstream' },
      chunks: Array.from({ length: 3_000 }, () => piece),
    },
  ]
  const client = new BedrockRuntimeClient({
    region: 'eu-central-1',
    endpoint: `http://127.0.0.1:${bedrock.ports.http2}`,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  const { stream = [] } = await client.send(
    new ConverseStreamCommand({
      modelId: 'eu.anthropic.claude-sonnet-4-5-20250929-v1:0',
      messages: [{ role: 'user', content: [{ text: 'Hi' }] }],
    }),
  )
  for await (const _ of stream) break
  // Until its buffers are full, nothing waits, and it may still come to its end by itself.
  let received = -1
  for (let now = bedrock.bytesWritten(); now !== received; now = bedrock.bytesWritten()) {
    received = now
    for (let round = 0; round < 50; round++) await axios.get(provider.url, { validateStatus: () => true })
  }
  await shutdown()
  startMeter()
  const { requests, outputTokens } = await cost.lastHour('aws.bedrock')
  expect(requests).toBe(1)
  expect(outputTokens).toBeGreaterThan(0)
  client.destroy()
})
