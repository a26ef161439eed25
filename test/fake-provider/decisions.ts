import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** The service as far as an application with `enforce` needs it: a stream of decisions, and a place for usage. */
export interface FakeDecisions {
  readonly url: string
  /** Streams that are open now. */
  readonly open: () => number
  /** How often a stream was asked for. */
  readonly asked: () => number
  /** The value of `Authorization` that came last. */
  readonly authorization: () => string | undefined
  /** Spans of the usage that was delivered, as JSON text. */
  readonly delivered: () => string
  /** What holds from now on; told to every open stream. */
  decide(...decisions: readonly object[]): void
  /** Writes to every open stream as it is. */
  write(text: string): void
  /** Heartbeats stop or go on; connections stay. */
  isSilent: boolean
  /** Answers to come instead of a stream; 0: the connection is cut. */
  failWith: number | undefined
  /** Cuts every open stream. */
  cut(): void
  close(): Promise<void>
}

const HEARTBEAT_MS = 200

export async function startFakeDecisions(): Promise<FakeDecisions> {
  const streams = new Set<ServerResponse>()
  let current: readonly object[] = []
  let asked = 0
  let authorization: string | undefined
  let delivered = ''
  const snapshot = () =>
    `event: decisions\ndata: ${JSON.stringify({ as_of: new Date().toISOString(), decisions: current, preferences: [] })}\n\n`
  const server = createServer((request, response) => {
    if (request.method === 'POST') {
      request.setEncoding('utf8').on('data', (text: string) => {
        delivered += text
      })
      request.on('end', () => response.setHeader('content-type', 'application/json').end('{}'))
      return
    }
    if (request.url !== '/api/v1/decisions/stream') {
      response.writeHead(404).end()
      return
    }
    asked++
    authorization = request.headers.authorization
    if (fake.failWith !== undefined) {
      if (fake.failWith === 0) response.destroy()
      else response.writeHead(fake.failWith).end()
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(snapshot())
    streams.add(response)
    response.on('close', () => streams.delete(response))
  })
  const heart = setInterval(() => {
    if (!fake.isSilent) for (const stream of streams) stream.write(': \n')
  }, HEARTBEAT_MS)
  const fake: FakeDecisions = {
    url: '',
    isSilent: false,
    failWith: undefined,
    open: () => streams.size,
    asked: () => asked,
    authorization: () => authorization,
    delivered: () => delivered,
    decide(...decisions) {
      current = decisions
      for (const stream of streams) stream.write(snapshot())
    },
    write(text) {
      for (const stream of streams) stream.write(text)
    },
    cut() {
      for (const stream of streams) stream.destroy()
    },
    async close() {
      clearInterval(heart)
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return Object.assign(fake, { url: `http://127.0.0.1:${portOf(server.address())}` })
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0
}
