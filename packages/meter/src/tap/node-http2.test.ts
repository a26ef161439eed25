import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type Http2Server,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import type { UsageEvent } from '@tokentally/core'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { tapDependencies } from '../../../../test/harness/tap.ts'
import { waitFor } from '../../../../test/harness/wait-for.ts'
import { tapNodeHttp2 } from './node-http2.ts'
import type { TapDependencies } from './tap.ts'

/** node:http2 by hand; the AWS SDK over it is in the journeys. */

const USAGE = { prompt_tokens: 11, completion_tokens: 2, total_tokens: 13 }
const events: UsageEvent[] = []
const errors: unknown[] = []
let server: Http2Server
let session: ClientHttp2Session
let origin: string
/** Answers without an end. */
const endless: Http2ServerResponse[] = []
let current: TapDependencies | undefined
let metered: TapDependencies
let untap: () => void
let arrived: string[] = []
const serverSessions = new Set<ServerHttp2Session>()

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = ''
    for await (const piece of request) body += piece
    arrived.push(body)
    response.setHeader('content-type', 'text/event-stream')
    const chunk = (json: object) =>
      `data: ${JSON.stringify({ id: 'chatcmpl-1', model: 'gpt-4o-mini', ...json })}\n\n`
    response.write(chunk({ choices: [{ index: 0, delta: { content: 'Hello' } }] }))
    // A client that leaves gets no more.
    if (request.headers['x-endless'] !== undefined) {
      endless.push(response)
      return
    }
    if (body.includes('include_usage')) response.write(chunk({ choices: [], usage: USAGE }))
    response.end('data: [DONE]\n\n')
  })
  server.on('session', (opened) => serverSessions.add(opened))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  origin = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  // The session is older than the tap.
  session = connect(origin)
  untap = tapNodeHttp2(() => current)
  metered = {
    ...tapDependencies(events, errors),
    endpoints: [{ origin, path: '/v1', format: 'openai', provider: 'openai' }],
  }
})
afterAll(async () => {
  untap()
  session.destroy()
  for (const opened of serverSessions) opened.destroy()
  await new Promise((resolve) => server.close(resolve))
})
beforeEach(() => {
  events.length = 0
  errors.length = 0
  arrived = []
  current = metered
})

const body = JSON.stringify({
  model: 'gpt-4o-mini',
  stream: true,
  messages: [{ role: 'user', content: 'Hi' }],
})

function send(headers: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
  const stream = session.request({ ':method': 'POST', ':path': '/v1/chat/completions', ...headers })
  stream.write(body.slice(0, 5))
  stream.end(body.slice(5))
  return stream
}

async function textOf(stream: ClientHttp2Stream): Promise<string> {
  return Buffer.concat(await stream.toArray()).toString('utf8')
}

it('is asked for its usage, which the application does not see', async () => {
  current = undefined
  const plain = await textOf(send())
  current = metered
  expect(await textOf(send())).toBe(plain)
  expect(arrived[0]).toBe(body)
  expect(arrived[1]).toContain('include_usage')
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([
    { status: 'ok', estimated: false, quantities: { input_tokens: 11, output_tokens: 2 } },
  ])
  expect(errors).toEqual([])
})

it('is sent as it is where its headers say how long it is', async () => {
  await textOf(send({ 'content-length': String(body.length) }))
  expect(arrived).toEqual([body])
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([{ status: 'ok', estimated: true }])
})

it.each([
  ['closed', (stream: ClientHttp2Stream) => stream.close()],
  ['destroyed', (stream: ClientHttp2Stream) => stream.destroy()],
  ['destroyed with an error', (stream: ClientHttp2Stream) => stream.destroy(new Error('enough'))],
])('is counted with what came when it is %s', async (_name, leave) => {
  const noticed = async () => {
    const names: string[] = []
    const stream = send({ 'x-endless': 'yes' })
    for (const name of ['response', 'aborted', 'end', 'error', 'close'])
      stream.on(name, () => names.push(name))
    const closed = new Promise((resolve) => stream.on('close', resolve))
    stream.once('data', () => leave(stream))
    await closed
    return [names, stream.destroyed, stream.rstCode]
  }
  current = undefined
  const plain = await noticed()
  current = metered
  expect(await noticed()).toEqual(plain)
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([{ status: 'aborted', reason: 'left_early', estimated: true, streamed: true }])
  expect(errors).toEqual([])
})

it.each(['stream', 'session'])('is cut when the provider gives up its %s', async (what) => {
  const own = connect(origin)
  own.on('error', () => undefined)
  const stream = own.request({ ':method': 'POST', ':path': '/v1/chat/completions', 'x-endless': 'yes' })
  stream.on('error', () => undefined)
  stream.end(body)
  await once(stream, 'data')
  const closed = new Promise((resolve) => stream.on('close', resolve))
  if (what === 'stream') endless.at(-1)?.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  else endless.at(-1)?.stream.session?.destroy()
  await closed
  own.destroy()
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([{ status: 'aborted', reason: 'stream_cut', estimated: true }])
})

it('has an event when there is no answer', async () => {
  const stream = send({ 'x-endless': 'yes' })
  stream.destroy()
  await once(stream, 'close')
  await waitFor(() => events.length === 1, 'the event')
  expect(events).toMatchObject([{ status: 'error', quantities: {} }])
})
