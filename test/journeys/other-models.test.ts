import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import Anthropic from '@anthropic-ai/sdk'
import type { UsageEvent } from '@tokentally/core'
import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import { tapDependencies } from '../harness/tap.ts'

/** Which model a call is for, where its name or its usage does not tell in one place. */

const transcript = (name: string) =>
  readFile(new URL(`../../packages/providers/transcripts/${name}`, import.meta.url))

let server: Server
let url: string
let answer: { readonly body: Buffer; readonly contentType: string }
let events: UsageEvent[]

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': answer.contentType })
    response.end(answer.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())
beforeEach(() => {
  events = []
})

function fetchOf(format: 'openai' | 'anthropic') {
  const provider = format === 'openai' ? 'azure.ai.openai' : format
  return tapFetch(fetch, () => ({
    ...tapDependencies(events, []),
    endpoints: [{ origin: url, path: '', format, provider }],
    models: new Map([['my-deployment', 'gpt-4o-mini']]),
  }))
}

describe('a call', () => {
  it('in which an advisor was asked is an event for each model, under one call', async () => {
    answer = {
      body: await transcript('anthropic-messages/iterations-advisor.json'),
      contentType: 'application/json',
    }
    const client = new Anthropic({ apiKey: 'k', baseURL: url, fetch: fetchOf('anthropic') })
    await client.messages.create({ model: 'claude-sonnet-4-6', max_tokens: 9, messages: [] })
    const [own, advisor, ...others] = events
    expect(others).toEqual([])
    expect(own).toMatchObject({ model: 'claude-sonnet-4-6', quantities: { output_tokens: 531 } })
    expect(advisor).toMatchObject({
      eventId: `${own?.eventId}.1`,
      callId: own?.callId,
      model: 'claude-opus-4-6',
      responseModel: 'claude-opus-4-6',
      quantities: { input_tokens: 823, output_tokens: 1612 },
      status: 'ok',
      estimated: false,
    })
    expect(advisor).not.toHaveProperty('latencyMs')
  })

  it('to a deployment is priced by the model that the app names, where the answer names none', async () => {
    const client = new OpenAI({ apiKey: 'k', baseURL: `${url}/v1`, fetch: fetchOf('openai') })
    const ask = () => client.chat.completions.create({ model: 'my-deployment', messages: [] })
    answer = {
      body: Buffer.from('{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'),
      contentType: 'application/json',
    }
    await ask()
    answer = { body: await transcript('openai-chat/plain.json'), contentType: 'application/json' }
    await ask()
    expect(events.map(({ model, responseModel }) => [model, responseModel])).toEqual([
      ['my-deployment', 'gpt-4o-mini'],
      ['my-deployment', 'gpt-4o-mini-2024-07-18'],
    ])
  })

  it('that is answered by a page counts as estimated, and says why', async () => {
    answer = { body: Buffer.from('<html>Welcome to the hotel</html>'), contentType: 'application/json' }
    const client = new OpenAI({ apiKey: 'k', baseURL: `${url}/v1`, maxRetries: 0, fetch: fetchOf('openai') })
    await client.chat.completions
      .create({ model: 'm', messages: [{ role: 'user', content: 'Hello' }] })
      .catch(() => undefined)
    await expect.poll(() => events).toHaveLength(1)
    expect(events[0]).toMatchObject({ estimated: true, reason: 'unreadable_body' })
  })
})
