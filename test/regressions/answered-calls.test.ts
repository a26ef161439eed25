import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import type { UsageEvent } from '@tokentally/core'
import { parseEndpoints } from '@tokentally/providers'
import { request } from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { pendingEvents } from '../../packages/meter/src/pending-events.ts'
import { tapGlobalDispatchers } from '../../packages/meter/src/tap/dispatcher.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { tapDependencies } from '../harness/tap.ts'

/**
 * What is sent in the scope of a call that has its answer is another call: a repetition by a `fetch` of the
 * application's own, or the next question, asked when the body of the last answer ends.
 */

const ANSWER = JSON.stringify({
  id: 'chatcmpl-1',
  model: 'gpt-4o-mini',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hi' } }],
  usage: { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12 },
})

let server: Server
let url = ''
let statuses: number[] = []
let dependencies: TapDependencies | undefined
const events: UsageEvent[] = []

beforeAll(async () => {
  server = createServer((incoming, response) => {
    incoming.resume()
    incoming.on('end', () => {
      const status = statuses.shift() ?? 200
      response.writeHead(status, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
      response.end(gzipSync(status === 200 ? ANSWER : '{"error":{"type":"rate_limit_error"}}'))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  url = `http://127.0.0.1:${port}/v1/chat/completions`
  // Loads Node's undici, so that its dispatcher is there.
  await fetch(`http://127.0.0.1:${port}/`).then((response) => response.text())
  tapGlobalDispatchers(() => dependencies)
})
afterAll(() => {
  dependencies = undefined
  server.close()
})
beforeEach(() => {
  statuses = []
  events.length = 0
  const endpoints = parseEndpoints(`${new URL(url).origin}/v1=openai`)
  dependencies = { ...tapDependencies(events, []), endpoints }
})

const message = {
  method: 'POST',
  headers: { 'content-type': 'application/json', 'accept-encoding': 'gzip' },
  body: JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello' }] }),
} as const

async function statusesOfEvents(): Promise<readonly unknown[]> {
  await pendingEvents.settle(10_000)
  return events.map(({ status, quantities }) => [status, quantities['output_tokens']])
}

describe('a call that has its answer', () => {
  it('does not hide what a fetch of the application repeats', async () => {
    const tapped = tapFetch(fetch, () => dependencies, true)
    const repeating: typeof fetch = async (input, init) => {
      const first = await tapped(input, init)
      if (first.ok) return first
      await first.arrayBuffer()
      return tapped(input, init)
    }
    statuses = [429, 200]
    const response = await tapFetch(repeating, () => dependencies)(url, message)
    expect(await response.text()).toBe(ANSWER)
    expect(await statusesOfEvents()).toEqual([
      ['error', undefined],
      ['ok', 2],
    ])
  })

  it('does not hide what is asked when its body ends', async () => {
    const { body } = await request(url, message)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    body.on('end', () => {
      request(url, message)
        .then((next) => next.body.dump())
        .then(() => resolve(), reject)
    })
    body.resume()
    await promise
    expect(await statusesOfEvents()).toEqual([
      ['ok', 2],
      ['ok', 2],
    ])
  })

  it('is counted when the process ends while its answer is being decompressed', async () => {
    const { body } = await request(url, message)
    await body.dump()
    pendingEvents.settleNow()
    expect(events).toHaveLength(1)
  })
})
