import { createServer, type Server, type ServerResponse } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import type { UsageEvent } from '@tokentally/core'
import fc from 'fast-check'
import { Agent, fetch as undiciFetch, request as undiciRequest } from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { tapDispatcher } from '../../packages/meter/src/tap/dispatcher.ts'
import { tapFetch } from '../../packages/meter/src/tap/fetch.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import { waitFor } from '../harness/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/** Promise 1: the application gets the provider's answer as if nobody was in between. */

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly chunks: readonly Uint8Array[]
}

/** Sends a POST and tells all that an application could see of the answer. */
type Send = (url: string, body: string, headers?: Record<string, string>) => Promise<Seen>

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly bytes: Buffer
}

let provider: FakeProvider
let answer: Answer = { status: 200, headers: {}, chunks: [] }
let server: Server
let origin: string
const events: UsageEvent[] = []
const errors: unknown[] = []

const dependencies = tapDependencies(events, errors)
let current: TapDependencies = dependencies

const plainAgent = new Agent()
const tappedAgent = new Agent()
tapDispatcher(tappedAgent, () => current)
const through =
  (fetcher: typeof fetch, dispatcher: Agent): typeof fetch =>
  (input, init) =>
    // Defined, not written: the types of the npm package and of Node's own undici are strangers.
    fetcher(input, Object.defineProperty({ ...init }, 'dispatcher', { value: dispatcher, enumerable: true }))
const plainFetch = through(fetch, plainAgent)
/** A fetch of somebody's own; and Node's, whose answers are watched at the dispatcher. */
const tappedFetch = tapFetch(plainFetch, () => current)
const nodesFetch = through(
  tapFetch(fetch, () => current, true),
  tappedAgent,
)
const collectGarbage = () => {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

const byFetch =
  (fetcher: typeof fetch): Send =>
  async (url, body, headers = {}) => {
    const response = await fetcher(url, { method: 'POST', body, headers })
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      bytes: Buffer.from(await response.arrayBuffer()),
    }
  }
const byUndiciFetch =
  (dispatcher: Agent): Send =>
  async (url, body, headers = {}) => {
    const response = await undiciFetch(url, { method: 'POST', body, headers, dispatcher })
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      bytes: Buffer.from(await response.arrayBuffer()),
    }
  }
const byUndiciRequest =
  (dispatcher: Agent): Send =>
  async (url, body, headers = {}) => {
    const response = await undiciRequest(url, { method: 'POST', body, headers, dispatcher })
    return {
      status: response.statusCode,
      headers: response.headers,
      bytes: Buffer.from(await response.body.arrayBuffer()),
    }
  }
/** The handlers of undici 8, and of interceptors of undici 7. */
const byDispatch =
  (dispatcher: Agent): Send =>
  (url, body, headers = {}) => {
    const { origin, pathname } = new URL(url)
    const { promise, resolve, reject } = Promise.withResolvers<Seen>()
    const chunks: Buffer[] = []
    let status = 0
    let seenHeaders: Readonly<Record<string, unknown>> = {}
    dispatcher.dispatch(
      { origin, path: pathname, method: 'POST', body, headers },
      {
        onRequestStart: () => undefined,
        onResponseStart(_controller, code, received) {
          status = code
          seenHeaders = received
        },
        onResponseData: (_controller, chunk) => {
          chunks.push(Buffer.from(chunk))
        },
        onResponseEnd: () => resolve({ status, headers: seenHeaders, bytes: Buffer.concat(chunks) }),
        onResponseError: (_controller, error) => reject(error),
      },
    )
    return promise
  }

const WAYS: readonly (readonly [name: string, plain: Send, tapped: Send])[] = [
  ["a fetch that is not Node's", byFetch(plainFetch), byFetch(tappedFetch)],
  ['fetch', byFetch(plainFetch), byFetch(nodesFetch)],
  ['undici fetch', byUndiciFetch(plainAgent), byUndiciFetch(tappedAgent)],
  ['undici request', byUndiciRequest(plainAgent), byUndiciRequest(tappedAgent)],
  ['a dispatcher with handlers of the newer kind', byDispatch(plainAgent), byDispatch(tappedAgent)],
]

beforeAll(async () => {
  provider = await startFakeProvider()
  server = createServer((request, response) => {
    request.resume()
    request.on('end', () => {
      response.writeHead(answer.status, answer.headers)
      for (const chunk of answer.chunks) response.write(chunk)
      response.end()
    })
  })
  origin = await listen(server)
  current = {
    ...dependencies,
    endpoints: [
      { origin, path: '/v1', format: 'openai', provider: 'openai' },
      { origin: provider.url, path: '/v1', format: 'openai', provider: 'openai' },
    ],
  }
})
afterAll(async () => {
  server.close()
  server.closeAllConnections()
  await provider.close()
  await Promise.all([plainAgent.close(), tappedAgent.close()])
})
beforeEach(() => {
  events.length = 0
  errors.length = 0
})

function listen(listening: Server): Promise<string> {
  return new Promise((resolve) => {
    listening.listen(0, '127.0.0.1', () => {
      const address = listening.address()
      resolve(`http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`)
    })
  })
}

/** What does not depend on when the answer was sent. */
function comparable({ status, headers, bytes }: Seen) {
  const { date, ...others } = headers
  return { status, headers: others, bytes: bytes.toString('latin1') }
}

const messages = [{ role: 'user', content: 'Say something.' }]
const bodyOf = (more: object = {}) => JSON.stringify({ model: 'gpt-4o-mini', messages, ...more })

describe.each(WAYS)('%s', (_, plain, tapped) => {
  it('shows any answer as it is', async () => {
    const answers = fc.record({
      status: fc.constantFrom(200, 201, 400, 404, 429, 500),
      type: fc.constantFrom('text/event-stream', 'application/json', 'text/plain'),
      encoding: fc.constantFrom(undefined, 'gzip'),
      chunks: fc.array(
        fc.oneof(
          fc.uint8Array({ minLength: 1, maxLength: 40 }),
          fc.constantFrom('data: {"choices":[]}\n', '\n', '\r\n', 'data: [DONE]\n\n').map(Buffer.from),
        ),
        { maxLength: 12 },
      ),
      isStreamed: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(answers, async ({ status, type, encoding, chunks, isStreamed }) => {
        answer = {
          status,
          headers: {
            'content-type': type,
            'x-request-id': 'req_1',
            ...(encoding === undefined ? {} : { 'content-encoding': encoding }),
          },
          chunks: encoding === undefined ? chunks : [gzipSync(Buffer.concat(chunks))],
        }
        const url = `${origin}/v1/chat/completions`
        const body = bodyOf({ stream: isStreamed })
        expect(comparable(await tapped(url, body))).toEqual(comparable(await plain(url, body)))
        await waitFor(() => events.length > 0, 'the event')
        events.length = 0
      }),
      { numRuns: 60 },
    )
    expect(errors).toEqual([])
  })

  it.each([
    ['plain', bodyOf(), ''],
    ['compressed', bodyOf(), 'gzip'],
    ['streamed without asking for usage', bodyOf({ stream: true }), ''],
    ['streamed in pieces', bodyOf({ stream: true }), 'split'],
    ['streamed with usage', bodyOf({ stream: true, stream_options: { include_usage: true } }), 'split'],
  ])('counts what the provider billed: %s', async (_name, body, wishes) => {
    const url = `${provider.url}/v1/chat/completions`
    const headers = { 'x-fake': wishes, 'content-type': 'application/json' }
    const asSent = (seen: Seen) => ({
      status: seen.status,
      text: seen.headers['content-encoding'] === 'gzip' ? '' : seen.bytes.toString('utf8'),
    })
    const expected = asSent(await plain(url, body, headers))
    const seen = asSent(await tapped(url, body, headers))
    const numbered = (text: string) => text.replace(/chatcmpl-\d+/g, 'chatcmpl-N')
    expect({ ...seen, text: numbered(seen.text) }).toEqual({ ...expected, text: numbered(expected.text) })
    await waitFor(() => events.length === 1, 'the event')
    const billed = provider.billed.at(-1)
    expect(events).toMatchObject([
      {
        status: 'ok',
        estimated: false,
        quantities: { input_tokens: billed?.inputTokens, output_tokens: billed?.outputTokens },
        providerRequestId: billed?.requestId,
      },
    ])
    expect(errors).toEqual([])
  })

  it('answers also when every part of the meter fails', async () => {
    const working = current
    const broken = () => {
      throw new Error('broken')
    }
    current = {
      ...working,
      sink: { append: broken, hold: broken },
      defaults: broken,
      now: broken,
      elapsed: broken,
    }
    try {
      const seen = await tapped(`${provider.url}/v1/chat/completions`, bodyOf({ stream: true }))
      expect(seen.status).toBe(200)
      expect(seen.bytes.toString('utf8')).toContain('data: [DONE]')
    } finally {
      current = working
    }
    expect(errors).not.toEqual([])
  })

  it('fails as it would without the meter when nobody listens', async () => {
    const gone = createServer()
    const url = `${await listen(gone)}/v1/chat/completions`
    await new Promise((resolve) => gone.close(resolve))
    const working = current
    current = {
      ...working,
      endpoints: [{ origin: new URL(url).origin, path: '/v1', format: 'openai', provider: 'openai' }],
    }
    const shapeOf = (error: unknown) =>
      error instanceof Error ? [error.name, error.message.replace(/\d+$/, 'PORT')] : error
    try {
      const [expected, seen] = await Promise.all(
        [plain, tapped].map((send) => send(url, bodyOf()).then(() => 'answered', shapeOf)),
      )
      expect(seen).toEqual(expected)
    } finally {
      current = working
    }
    expect(events).toMatchObject([{ status: 'error', quantities: {} }])
  })
})

describe('a stream that the application leaves', () => {
  const url = () => `${provider.url}/v1/chat/completions`
  const init = { method: 'POST', body: bodyOf({ stream: true }), headers: { 'x-fake': 'slow=2' } } as const

  it.each([
    [
      "a fetch that is not Node's, cancelled",
      async () => {
        const response = await tappedFetch(url(), init)
        const reader = response.body?.getReader()
        await reader?.read()
        await reader?.cancel()
      },
    ],
    [
      'fetch, cancelled',
      async () => {
        const response = await nodesFetch(url(), init)
        const reader = response.body?.getReader()
        await reader?.read()
        await reader?.cancel()
      },
    ],
    [
      'fetch, aborted',
      async () => {
        const controller = new AbortController()
        const response = await nodesFetch(url(), { ...init, signal: controller.signal })
        const reader = response.body?.getReader()
        await reader?.read()
        const reason = new Error('enough')
        controller.abort(reason)
        await expect(reader?.read()).rejects.toBe(reason)
      },
    ],
    [
      'fetch, forgotten',
      async () => {
        await nodesFetch(url(), init)
        await waitFor(() => {
          collectGarbage()
          return events.length === 1
        }, 'the answer is collected')
      },
    ],
    [
      'undici fetch, aborted',
      async () => {
        const controller = new AbortController()
        const response = await undiciFetch(url(), {
          ...init,
          dispatcher: tappedAgent,
          signal: controller.signal,
        })
        await response.body?.getReader().read()
        controller.abort(new Error('enough'))
        await expect(response.text()).rejects.toThrow()
      },
    ],
    [
      'undici request, destroyed',
      async () => {
        const response = await undiciRequest(url(), { ...init, dispatcher: tappedAgent })
        for await (const _ of response.body) break
      },
    ],
    [
      'undici request, aborted',
      async () => {
        const controller = new AbortController()
        const response = await undiciRequest(url(), {
          ...init,
          dispatcher: tappedAgent,
          signal: controller.signal,
        })
        await expect(
          (async () => {
            for await (const _ of response.body) controller.abort()
          })(),
        ).rejects.toThrow(/abort/i)
      },
    ],
  ])('is finished behind it to learn its usage: %s', async (_name, leave) => {
    await leave()
    await waitFor(() => events.length === 1, 'the event')
    const billed = provider.billed.at(-1)
    expect(events).toMatchObject([
      {
        status: 'ok',
        estimated: false,
        quantities: { input_tokens: billed?.inputTokens, output_tokens: billed?.outputTokens },
      },
    ])
    expect(errors).toEqual([])
  })

  it.each([
    [
      "a fetch that is not Node's",
      async () => {
        const response = await tappedFetch(url(), init)
        await response.body?.cancel()
      },
    ],
    [
      'fetch',
      async () => {
        const response = await nodesFetch(url(), init)
        await response.body?.cancel()
      },
    ],
    [
      'undici request',
      async () => {
        const response = await undiciRequest(url(), { ...init, dispatcher: tappedAgent })
        for await (const _ of response.body) break
      },
    ],
  ])('is cut at once and estimated when that is wished: %s', async (_name, leave) => {
    const working = current
    current = { ...working, finishLeftStreams: false }
    try {
      await leave()
      await waitFor(() => events.length === 1, 'the event')
    } finally {
      current = working
    }
    expect(events).toMatchObject([{ status: 'aborted', estimated: true }])
  })
})

describe('back-pressure', () => {
  const CHUNK = Buffer.alloc(64 * 1024, 'data: {"choices":[]}\n\n')
  const CHUNKS = 1_000
  let written = 0
  let isStalled = false
  let slow: Server
  let slowOrigin: string

  beforeAll(async () => {
    slow = createServer((request, response) => {
      request.resume()
      if (request.url === '/ping') response.end()
      else {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        void pour(response)
      }
    })
    slowOrigin = await listen(slow)
  })
  afterAll(() => {
    slow.close()
    slow.closeAllConnections()
  })

  async function pour(response: ServerResponse): Promise<void> {
    written = 0
    const closed = new Promise((resolve) => response.once('close', resolve))
    for (let index = 0; index < CHUNKS && !response.destroyed; index++) {
      if (response.write(CHUNK)) continue
      isStalled = true
      await Promise.race([new Promise((resolve) => response.once('drain', resolve)), closed])
      isStalled = false
      written = (index + 1) * CHUNK.length
    }
    response.end()
  }

  it.each([
    [
      "a fetch that is not Node's",
      async (url: string) => (await tappedFetch(url, { method: 'POST', body: bodyOf() })).body,
    ],
    ['fetch', async (url: string) => (await nodesFetch(url, { method: 'POST', body: bodyOf() })).body],
    [
      'undici request',
      async (url: string) =>
        (await undiciRequest(url, { method: 'POST', body: bodyOf(), dispatcher: tappedAgent })).body,
    ],
  ])('reaches the provider: %s', async (_name, open) => {
    const working = current
    current = {
      ...working,
      endpoints: [{ origin: slowOrigin, path: '/v1', format: 'openai', provider: 'openai' }],
    }
    try {
      const body = await open(`${slowOrigin}/v1/chat/completions`)
      if (body === null) throw new Error('no body')
      // The provider may fill what buffers there are on the way, then it has to wait for a reader.
      let before = -1
      await waitFor(async () => {
        const last = before
        before = written
        for (let round = 0; round < 20; round++) await fetch(`${slowOrigin}/ping`)
        return isStalled && last === written
      }, 'the provider has to wait')
      expect(written).toBeLessThan((CHUNKS / 2) * CHUNK.length)
      let bytes = 0
      for await (const chunk of body) bytes += Buffer.from(chunk).length
      expect(bytes).toBe(CHUNKS * CHUNK.length)
    } finally {
      current = working
    }
  })
})
