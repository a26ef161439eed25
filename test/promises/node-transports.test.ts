import { once } from 'node:events'
import {
  Agent,
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request,
  type Server,
} from 'node:http'
import { request as requestHttps } from 'node:https'
import { connect } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { queryObjects } from 'node:v8'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import type { UsageEvent } from '@tokentally/core'
import axios from 'axios'
import fc from 'fast-check'
import proxyAgent from 'https-proxy-agent'
import nodeFetch from 'node-fetch'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Exchange } from '../../packages/meter/src/tap/exchange.ts'
import { tapNodeHttp } from '../../packages/meter/src/tap/node-http.ts'
import type { TapDependencies } from '../../packages/meter/src/tap/tap.ts'
import { unmeteredCalls, watchUnmetered } from '../../packages/meter/src/tap/unmetered.ts'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import { waitFor } from '../harness/index.ts'
import { tapDependencies } from '../harness/tap.ts'

/** Promise 1 for whatever speaks node:http: the application sees the same with the meter as without it. */

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly chunks: readonly Uint8Array[]
  readonly isDropped?: boolean
}

let provider: FakeProvider
let server: Server
let origin: string
let answer: Answer = { status: 200, headers: {}, chunks: [] }
/** What arrived at `server`. */
let arrived: { readonly headers: IncomingMessage['headers']; readonly body: string }[] = []
let current: TapDependencies | undefined
let metered: TapDependencies
let untap: () => void
const events: UsageEvent[] = []
const errors: unknown[] = []
const agent = new Agent({ keepAlive: true })

beforeAll(async () => {
  untap = tapNodeHttp(() => current)
  provider = await startFakeProvider()
  server = createServer(async (incoming, response) => {
    const body = Buffer.concat(await incoming.toArray()).toString('utf8')
    arrived.push({ headers: incoming.headers, body })
    response.writeHead(answer.status, answer.headers)
    for (const chunk of answer.chunks) response.write(chunk)
    if (answer.isDropped === true) response.destroy()
    else response.end()
  })
  origin = await listen(server)
  const endpoint = (at: string) =>
    ({ origin: at, path: '/v1', format: 'openai', provider: 'openai' }) as const
  metered = {
    ...tapDependencies(events, errors),
    endpoints: [endpoint(origin), endpoint(provider.url)],
  }
})
afterAll(async () => {
  untap()
  agent.destroy()
  server.close()
  server.closeAllConnections()
  await provider.close()
})
beforeEach(() => {
  events.length = 0
  errors.length = 0
  arrived = []
  current = metered
})
afterEach(() => expect(errors).toEqual([]))

async function listen(listening: Server): Promise<string> {
  listening.listen(0, '127.0.0.1')
  await once(listening, 'listening')
  const address = listening.address()
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
}

/** Does the same without the meter, then with it. */
async function both<T>(work: () => Promise<T>): Promise<{ readonly plain: T; readonly tapped: T }> {
  current = undefined
  const plain = await work()
  current = metered
  return { plain, tapped: await work() }
}

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}
type Send = (url: string, body: string, headers?: Record<string, string>) => Promise<Seen>

function seenOf(status: number, headers: object, bytes: Uint8Array): Seen {
  const { date, ...others }: Record<string, unknown> = { ...headers }
  return { status, headers: others, body: Buffer.from(bytes).toString('latin1') }
}

const answerOf = async (sent: ClientRequest): Promise<IncomingMessage> => {
  const [response]: IncomingMessage[] = await once(sent, 'response')
  if (response === undefined) throw new Error('no answer')
  return response
}

const CLIENTS: readonly (readonly [name: string, send: Send])[] = [
  [
    'http.request, the body given to end',
    async (url, body, headers = {}) => {
      const sent = request(url, { method: 'POST', headers, agent })
      sent.end(body)
      const response = await answerOf(sent)
      return seenOf(response.statusCode ?? 0, response.headers, Buffer.concat(await response.toArray()))
    },
  ],
  [
    'http.request, the body piped, with a length',
    async (url, body, headers = {}) => {
      const length = String(Buffer.byteLength(body))
      const sent = request(url, { method: 'POST', headers: { ...headers, 'content-length': length }, agent })
      Readable.from([Buffer.from(body.slice(0, 30)), body.slice(30)]).pipe(sent)
      const response = await answerOf(sent)
      const through = new PassThrough()
      const [bytes] = await Promise.all([through.toArray(), pipeline(response, through)])
      return seenOf(response.statusCode ?? 0, response.headers, Buffer.concat(bytes))
    },
  ],
  [
    'http.request, written and read by text',
    async (url, body, headers = {}) => {
      const sent = request(url, { method: 'POST', headers })
      sent.write(body.slice(0, 7), 'utf8')
      sent.write(Buffer.from(body.slice(7)).toString('base64'), 'base64')
      sent.end()
      const response = await answerOf(sent)
      response.setEncoding('latin1')
      let text = ''
      for await (const piece of response) text += piece
      return seenOf(response.statusCode ?? 0, response.headers, Buffer.from(text, 'latin1'))
    },
  ],
  [
    'axios',
    async (url, body, headers = {}) => {
      const response = await axios.post<ArrayBuffer>(url, body, {
        headers: { 'content-type': 'application/json', ...headers },
        responseType: 'arraybuffer',
        validateStatus: () => true,
        adapter: 'http',
      })
      return seenOf(
        response.status,
        Object.fromEntries(Object.entries(response.headers)),
        new Uint8Array(response.data),
      )
    },
  ],
  [
    'node-fetch',
    async (url, body, headers = {}) => {
      const response = await nodeFetch(url, { method: 'POST', body, headers })
      return seenOf(
        response.status,
        Object.fromEntries(response.headers),
        new Uint8Array(await response.arrayBuffer()),
      )
    },
  ],
]

const messages = [{ role: 'user', content: 'Say something.' }]
const bodyOf = (more: object = {}) => JSON.stringify({ model: 'gpt-4o-mini', messages, ...more })
const lastBilled = () => {
  const billed = provider.billed.at(-1)
  return { input_tokens: billed?.inputTokens, output_tokens: billed?.outputTokens }
}

describe.each(CLIENTS)('%s', (_, send) => {
  it('gets any answer as it is', async () => {
    const encodings = { gzip: gzipSync, br: brotliCompressSync, deflate: deflateSync }
    const answers = fc.record({
      status: fc.constantFrom(200, 201, 400, 429, 500),
      type: fc.constantFrom('text/event-stream', 'application/json'),
      encoding: fc.constantFrom(undefined, 'gzip' as const, 'br' as const, 'deflate' as const),
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
          headers: { 'content-type': type, ...(encoding !== undefined && { 'content-encoding': encoding }) },
          chunks: encoding === undefined ? chunks : [encodings[encoding](Buffer.concat(chunks))],
        }
        const { plain, tapped } = await both(() =>
          send(`${origin}/v1/chat/completions`, bodyOf({ stream: isStreamed })),
        )
        expect(tapped).toEqual(plain)
        await waitFor(() => events.length > 0, 'the event')
        events.length = 0
      }),
      { numRuns: 40 },
    )
  })

  it.each([
    ['plain', bodyOf(), ''],
    ['compressed', bodyOf(), 'gzip'],
    ['streamed without asking for usage', bodyOf({ stream: true }), ''],
    ['streamed in pieces', bodyOf({ stream: true }), 'split'],
    ['streamed with usage', bodyOf({ stream: true, stream_options: { include_usage: true } }), 'split'],
  ])('is counted as the provider billed: %s', async (_name, body, wishes) => {
    const numbered = ({ status, body: text }: Seen) => [
      status,
      wishes === 'gzip' ? '' : text.replace(/chatcmpl-\d+/g, 'chatcmpl-N'),
    ]
    const { plain, tapped } = await both(() =>
      send(`${provider.url}/v1/chat/completions`, body, { 'x-fake': wishes }),
    )
    expect(numbered(tapped)).toEqual(numbered(plain))
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([
      {
        status: 'ok',
        estimated: false,
        quantities: lastBilled(),
        providerRequestId: provider.billed.at(-1)?.requestId,
      },
    ])
  })

  it('sends what it would send without the meter', async () => {
    answer = { status: 200, headers: {}, chunks: [] }
    const sent = async (body: string) => {
      arrived = []
      await send(`${origin}/v1/chat/completions`, body)
      return arrived.map(({ headers, body: text }) => [{ ...headers, host: '' }, text])
    }
    const { plain, tapped } = await both(() => sent(bodyOf()))
    expect(tapped).toEqual(plain)
    // A stream is asked for its usage, whole, and in a form out of which it can be taken again.
    await sent(bodyOf({ stream: true }))
    const [asked] = arrived
    expect(JSON.parse(asked?.body ?? '')).toMatchObject({ stream_options: { include_usage: true } })
    expect(asked?.headers['accept-encoding']).toBeUndefined()
    if (asked?.headers['content-length'] !== undefined) {
      expect(Number(asked.headers['content-length'])).toBe(Buffer.byteLength(asked.body))
    }
  })

  it('works also when every part of the meter fails', async () => {
    const broken = () => {
      throw new Error('broken')
    }
    current = {
      ...metered,
      sink: { append: broken, hold: broken },
      defaults: broken,
      now: broken,
      elapsed: broken,
    }
    const seen = await send(`${provider.url}/v1/chat/completions`, bodyOf({ stream: true }))
    expect(seen.body).toContain('data: [DONE]')
    expect(errors).not.toEqual([])
    errors.length = 0
  })

  it('fails as it would without the meter when nobody listens', async () => {
    const gone = createServer()
    const nowhere = await listen(gone)
    await new Promise((resolve) => gone.close(resolve))
    metered = {
      ...metered,
      endpoints: [
        ...metered.endpoints,
        { origin: nowhere, path: '/v1', format: 'openai', provider: 'openai' },
      ],
    }
    const { plain, tapped } = await both(() =>
      send(`${nowhere}/v1/chat/completions`, bodyOf()).then(() => 'answered', String),
    )
    expect(tapped).toEqual(plain)
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'error', quantities: {} }])
  })
})

describe('an application that leaves', () => {
  /** All that it could notice, in order. */
  function notice(sent: ClientRequest): string[] {
    const noticed: string[] = []
    const shown = (error: unknown) =>
      error instanceof Error ? `${error.name}: ${error.message} ${Reflect.get(error, 'code')}` : String(error)
    for (const name of ['abort', 'response', 'timeout', 'close'])
      sent.on(name, () => noticed.push(`request ${name}`))
    sent.on('error', (error) => noticed.push(`request error ${shown(error)}`))
    sent.on('response', (response) => {
      for (const name of ['aborted', 'end', 'close', 'timeout']) {
        response.on(name, () => noticed.push(`response ${name}`))
      }
      response.on('error', (error) => noticed.push(`response error ${shown(error)}`))
    })
    return noticed
  }

  const WAYS_TO_LEAVE: readonly (readonly [
    name: string,
    leave: (sent: ClientRequest, response: IncomingMessage, controller: AbortController) => void,
  ])[] = [
    ['response.destroy()', (_, response) => response.destroy()],
    ['response.destroy(error)', (_, response) => response.destroy(new Error('enough'))],
    ['request.destroy()', (sent) => sent.destroy()],
    ['request.destroy(error)', (sent) => sent.destroy(new Error('enough'))],
    ['request.abort()', (sent) => sent.abort()],
    ['a signal', (_sent, _response, controller) => controller.abort()],
    [
      'both, again and again',
      (sent, response) => {
        response.destroy()
        sent.destroy()
        response.destroy()
        sent.abort()
      },
    ],
  ]

  async function leaveEarly(leave: (typeof WAYS_TO_LEAVE)[number][1], headers: Record<string, string>) {
    const controller = new AbortController()
    const sent = request(`${provider.url}/v1/chat/completions`, {
      method: 'POST',
      headers,
      signal: controller.signal,
      agent,
    })
    const noticed = notice(sent)
    sent.end(bodyOf({ stream: true }))
    const response = await answerOf(sent)
    const closed = Promise.all(
      [sent, response].map((one) => new Promise((resolve) => one.on('close', resolve))),
    )
    response.once('data', () => leave(sent, response, controller))
    await closed
    return {
      noticed,
      state: [
        sent.destroyed,
        sent.closed,
        response.destroyed,
        response.aborted,
        response.complete,
        response.closed,
      ],
    }
  }

  it.each(WAYS_TO_LEAVE)(
    'notices nothing, and its stream is finished to learn its usage: %s',
    async (_, leave) => {
      const { plain, tapped } = await both(() => leaveEarly(leave, { 'x-fake': 'slow=2' }))
      expect(tapped).toEqual(plain)
      await waitFor(() => events.length === 1, 'the event')
      expect(events).toMatchObject([{ status: 'ok', estimated: false, quantities: lastBilled() }])
      await waitFor(() => Object.values(agent.sockets).flat().length === 0, 'the agent lets go of the socket')
    },
  )

  it.each(WAYS_TO_LEAVE)('is cut at once, and estimated, when that is wished: %s', async (_, leave) => {
    const { finishLeftStreams } = metered
    metered = { ...metered, finishLeftStreams: false }
    const { plain, tapped } = await both(() => leaveEarly(leave, { 'x-fake': 'slow=2' }))
    metered = { ...metered, finishLeftStreams }
    expect(tapped).toEqual(plain)
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'aborted', estimated: true }])
  })

  it('may break out of a loop', async () => {
    const leave = async () => {
      const sent = request(`${provider.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'x-fake': 'slow=2' },
      })
      const noticed = notice(sent)
      sent.end(bodyOf({ stream: true }))
      const response = await answerOf(sent)
      const closed = new Promise((resolve) => response.on('close', resolve))
      for await (const _ of response) break
      await closed
      return noticed
    }
    const { plain, tapped } = await both(leave)
    expect(tapped).toEqual(plain)
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'ok', estimated: false, quantities: lastBilled() }])
  })

  it('before there is an answer sees its own error alone', async () => {
    const leave = async () => {
      const sent = request(`${provider.url}/v1/chat/completions`, { method: 'POST', agent })
      const noticed = notice(sent)
      const closed = new Promise((resolve) => sent.on('close', resolve))
      sent.end(bodyOf({ stream: true }))
      sent.destroy()
      await closed
      return noticed
    }
    const { plain, tapped } = await both(leave)
    expect(tapped).toEqual(plain)
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'error' }])
  })

  it('without a listener for the answer is counted too', async () => {
    const sent = request(`${provider.url}/v1/chat/completions`, { method: 'POST', agent })
    sent.end(bodyOf())
    await once(sent, 'close')
    await waitFor(() => events.length === 1, 'the event')
    expect(events).toMatchObject([{ status: 'ok', quantities: lastBilled() }])
  })
})

it('notices a broken connection as it would without the meter', async () => {
  const work = async () => {
    const sent = request(`${provider.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'x-fake': 'drop' },
    })
    sent.end(bodyOf({ stream: true }))
    const response = await answerOf(sent)
    return response.toArray().then(() => 'whole', String)
  }
  const { plain, tapped } = await both(work)
  expect([plain, tapped]).toEqual(['Error: aborted', 'Error: aborted'])
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([{ status: 'aborted', estimated: true }])
})

it('gets a body that is not what its encoding says as it is', async () => {
  answer = {
    status: 200,
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    chunks: [Buffer.from('{"usage": {}}'), gzipSync('{}'), Buffer.from('no gzip either')],
  }
  const sent = request(`${origin}/v1/chat/completions`, { method: 'POST' })
  sent.end(bodyOf())
  const bytes = Buffer.concat(await (await answerOf(sent)).toArray())
  expect(bytes).toEqual(Buffer.concat(answer.chunks))
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([{ estimated: true }])
  // Said, and no more than said.
  expect(errors.splice(0)).toMatchObject([{ code: 'Z_DATA_ERROR' }])
})

describe('a request', () => {
  const ok: Answer = {
    status: 200,
    headers: { 'content-type': 'application/json' },
    chunks: [Buffer.from('{}')],
  }
  const reply = async (sent: ClientRequest) => {
    const response = await answerOf(sent)
    await response.toArray()
    return response.statusCode
  }

  it('keeps its connection for the next one', async () => {
    answer = ok
    const own = new Agent({ keepAlive: true, maxSockets: 1 })
    const reused: boolean[] = []
    for (let index = 0; index < 3; index++) {
      const sent = request(`${origin}/v1/chat/completions`, { method: 'POST', agent: own })
      const closed = once(sent, 'close')
      sent.end(bodyOf())
      await reply(sent)
      await closed
      reused.push(sent.reusedSocket)
    }
    own.destroy()
    expect(reused).toEqual([false, true, true])
  })

  it('may wait for 100 Continue', async () => {
    answer = ok
    const sent = request(`${origin}/v1/chat/completions`, {
      method: 'POST',
      headers: { expect: '100-continue' },
    })
    sent.flushHeaders()
    await once(sent, 'continue')
    sent.end(bodyOf({ stream: true }))
    expect(await reply(sent)).toBe(200)
    expect(arrived.map(({ body }) => body)).toEqual([bodyOf({ stream: true })])
    await waitFor(() => events.length === 1, 'the event')
  })

  it('may give its headers as a list', async () => {
    answer = ok
    const { host } = new URL(origin)
    const body = bodyOf({ stream: true })
    const headers = ['Host', host, 'Content-Length', String(body.length)]
    const sent = request(`${origin}/v1/chat/completions`, { method: 'POST', headers })
    sent.end(body)
    expect(await reply(sent)).toBe(200)
    expect(arrived.map((one) => one.body)).toEqual([body])
    await waitFor(() => events.length === 1, 'the event')
  })

  it('goes out as it is when it is made slowly', async () => {
    answer = ok
    const sent = request(`${origin}/v1/chat/completions`, { method: 'POST' })
    const body = bodyOf({ stream: true })
    sent.write(body.slice(0, 10))
    // The first piece arrives before the application goes on: it is not held back for ever.
    await once(server, 'request')
    sent.end(body.slice(10))
    expect(await reply(sent)).toBe(200)
    expect(arrived.map((one) => one.body)).toEqual([body])
    await waitFor(() => events.length === 1, 'the event')
  })

  it('calls back for what it writes, and may wait for that', async () => {
    answer = ok
    const sent = request(`${origin}/v1/chat/completions`, { method: 'POST' })
    await new Promise((resolve) => sent.write(bodyOf({ stream: true }), resolve))
    sent.end()
    expect(await reply(sent)).toBe(200)
    await waitFor(() => events.length === 1, 'the event')
  })

  it('is known by the host that it names, through a tunnel and over TLS', async () => {
    answer = ok
    const proxy = createServer()
    const asked: string[] = []
    proxy.on('connect', (incoming, socket) => {
      asked.push(String(incoming.url))
      const { hostname, port } = new URL(origin)
      const upstream = connect(Number(port), hostname, () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
        upstream.pipe(socket).pipe(upstream)
      })
      upstream.on('error', () => socket.destroy())
      socket.on('error', () => upstream.destroy())
    })
    const tunnel = proxyAgent(await listen(proxy))
    current = {
      ...metered,
      endpoints: [
        ...metered.endpoints,
        { origin: 'http://llm.corp.example', path: '/v1', format: 'openai', provider: 'corp' },
      ],
    }
    // Set, not written: its types are those of an older Node.
    const options = { method: 'POST' }
    Reflect.set(options, 'agent', tunnel)
    const sent = request('http://llm.corp.example/v1/chat/completions', options)
    sent.end(bodyOf())
    expect(await reply(sent)).toBe(200)
    tunnel.destroy()
    proxy.close()
    expect(asked).toEqual(['llm.corp.example:80'])

    const { hostname, port } = new URL(origin)
    const secure = requestHttps('https://api.openai.com/v1/chat/completions', {
      method: 'POST',
      createConnection: () => connect(Number(port), hostname),
    })
    secure.end(bodyOf())
    expect(await reply(secure)).toBe(200)
    await waitFor(() => events.length === 2, 'the events')
    expect(events.map(({ provider: name }) => name)).toEqual(['corp', 'openai'])
  })

  it('that is no call is left alone', async () => {
    answer = ok
    const sent = request(`${origin}/v1/models`, { method: 'GET' })
    expect(['write', 'end', 'emit', 'destroy'].filter((name) => Object.hasOwn(sent, name))).toEqual([])
    sent.end()
    await reply(sent)
    expect(events).toEqual([])
  })
})

it('lets the provider wait for a slow reader', async () => {
  const CHUNK = Buffer.alloc(64 * 1024, 'data: {"choices":[]}\n\n')
  const CHUNKS = 500
  let written = 0
  let isStalled = false
  const slow = createServer(async (incoming, response) => {
    await incoming.toArray()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    for (; written < CHUNKS; written++) {
      if (response.write(CHUNK)) continue
      isStalled = true
      await once(response, 'drain')
      isStalled = false
    }
    response.end()
  })
  const at = await listen(slow)
  current = { ...metered, endpoints: [{ origin: at, path: '/v1', format: 'openai', provider: 'openai' }] }
  const sent = request(`${at}/v1/chat/completions`, { method: 'POST' })
  sent.end(bodyOf())
  const response = await answerOf(sent)
  let before = -1
  await waitFor(() => {
    const last = before
    before = written
    return isStalled && last === written
  }, 'the provider has to wait')
  expect(written).toBeLessThan(CHUNKS / 2)
  let bytes = 0
  for await (const piece of response) bytes += Buffer.from(piece).length
  expect(bytes).toBe(CHUNKS * CHUNK.length)
  await waitFor(() => events.length === 1, 'the event')
  slow.close()
})

it('leaves nothing in memory, however many streams are read, left or broken', async () => {
  const own = new Agent({ keepAlive: true, maxSockets: 4 })
  const call = async (wishes: string, isLeft: boolean) => {
    const headers = { 'x-fake': wishes }
    const sent = request(`${provider.url}/v1/chat/completions`, { method: 'POST', headers, agent: own })
    sent.end(bodyOf({ stream: true }))
    const response = await answerOf(sent)
    if (isLeft) for await (const _ of response) break
    else await response.toArray().catch(() => undefined)
  }
  const CALLS = 300
  for (let index = 0; index < CALLS; index++) await call(index % 10 === 0 ? 'drop' : '', index % 3 === 0)
  await waitFor(() => events.length === CALLS, 'the events')
  own.destroy()
  // Counts what is still reachable, after a full collection.
  await waitFor(() => queryObjects(Exchange, { format: 'count' }) === 0, 'nothing keeps a finished exchange')
  expect(own.sockets).toEqual({})
})

it('is noticed only where it is not metered', async () => {
  answer = { status: 200, headers: {}, chunks: [Buffer.from('{}')] }
  const noticed: string[] = []
  const unwatch = watchUnmetered(
    (error) => noticed.push(error.message),
    () => undefined,
  )
  const { hostname, port } = new URL(origin)
  const send = async (url: string) => {
    const sent = request(url, { method: 'POST', createConnection: () => connect(Number(port), hostname) })
    sent.end(bodyOf())
    const response = await answerOf(sent)
    await response.toArray()
  }
  await send('http://api.openai.com/v1/chat/completions')
  await waitFor(() => events.length === 1, 'the event')
  expect(noticed).toEqual([])
  await send('http://api.mistral.ai/v1/fim/unheard-of')
  await send('http://llm.corp.example:8000/v1/chat/completions?stream=1')
  await send('http://shop.corp.example/v1/messages')
  unwatch()
  expect(noticed).toEqual([
    expect.stringContaining('api.mistral.ai was not metered: import'),
    expect.stringMatching(
      /llm\.corp\.example:8000 was not metered: .*https:\/\/llm\.corp\.example:8000\/v1=openai/,
    ),
  ])
  expect(Object.fromEntries(unmeteredCalls())).toEqual({ 'api.mistral.ai': 1, 'llm.corp.example:8000': 1 })
})
