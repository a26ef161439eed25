import { createServer as createHttpServer, type IncomingMessage, ServerResponse } from 'node:http'
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import type { AddressInfo } from 'node:net'

/** What the fake Bedrock answers. */
export interface BedrockAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly chunks: readonly Uint8Array[]
  /** The connection breaks after the last chunk. */
  readonly isDropped?: boolean
}

export interface FakeBedrock {
  /** By the transport that speaks to it. */
  readonly ports: { readonly http: number; readonly http2: number }
  /** Answers to come, the last one again and again. */
  answers: BedrockAnswer[]
  /** Bytes of answer bodies that were handed to the network so far. */
  readonly bytesWritten: () => number
  close(): Promise<void>
}

/** Bedrock's runtime over HTTP/1.1 and, as its SDK prefers, HTTP/2. */
export async function startFakeBedrock(): Promise<FakeBedrock> {
  const fake = { answers: [] as BedrockAnswer[] }
  let bytesWritten = 0
  const handle = (
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ) => {
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    request.resume()
    request.on(
      'end',
      () =>
        void respond(response, fake.answers.length > 1 ? fake.answers.shift() : fake.answers[0], (bytes) => {
          bytesWritten += bytes
        }),
    )
  }
  const http = createHttpServer(handle)
  const http2 = createHttp2Server(handle)
  const servers = [http, http2]
  const sessions = new Set<ServerHttp2Session>()
  http2.on('session', (session) => {
    sessions.add(session)
    session.on('close', () => sessions.delete(session))
  })
  await Promise.all(
    servers.map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))),
  )
  return Object.assign(fake, {
    ports: { http: portOf(http.address()), http2: portOf(http2.address()) },
    bytesWritten: () => bytesWritten,
    close: async () => {
      http.closeAllConnections()
      for (const session of sessions) session.destroy()
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    },
  })
}

/** Error code of HTTP/2 (RFC 9113, section 7). */
const INTERNAL_ERROR = 2

async function respond(
  response: ServerResponse | Http2ServerResponse,
  answer: BedrockAnswer | undefined,
  onWritten: (bytes: number) => void,
): Promise<void> {
  response.statusCode = answer?.status ?? 500
  for (const [name, value] of Object.entries({ 'x-amzn-requestid': 'request-1', ...answer?.headers })) {
    response.setHeader(name, value)
  }
  for (const chunk of answer?.chunks ?? []) {
    await new Promise<void>((resolve) => {
      if (response instanceof ServerResponse) response.write(chunk, () => resolve())
      else response.write(chunk, () => resolve())
    })
    onWritten(chunk.length)
    await new Promise((resolve) => setImmediate(resolve))
  }
  if (answer?.isDropped !== true) response.end()
  else if (response instanceof ServerResponse) response.destroy()
  else response.stream.close(INTERNAL_ERROR)
}

function portOf(address: string | AddressInfo | null): number {
  if (address === null || typeof address === 'string') throw new Error('the fake Bedrock has no port')
  return address.port
}
