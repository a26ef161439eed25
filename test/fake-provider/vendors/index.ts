import { createServer as createHttpServer, type IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createHttp2Server, type Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { constants, createGzip, gzipSync } from 'node:zlib'
import { Agent } from 'undici'
import type { Piece, VendorAnswer, VendorRequest } from './answer.ts'
import { bedrock } from './bedrock.ts'
import { vendorOf } from './hosts.ts'
import { MARKER, PLAN, type Plan } from './plan.ts'

export { OLLAMA_SECONDS } from './ollama.ts'
export { MARKER, type Plan, pieces, type Say, TOOL, TOOL_CALL, type Truth } from './plan.ts'

/**
 * All vendors on this machine. Clients call the vendors' own URLs, through a dispatcher that leads every connection
 * here; the AWS SDK, which has a transport of its own, takes the endpoint of HTTP/2. What the next call is to be is
 * told by `next`, since not every SDK can send a header of the test's own: one call at a time.
 */
export interface FakeVendors {
  /** Bedrock over HTTP/2, as its SDK prefers it. */
  readonly bedrockEndpoint: string
  /** Leads connections to any host here, but for servers on this machine, of which Ollama is a vendor's. */
  dispatcher(): Agent
  /** Plans the next call, and forgets what was sent. */
  next(plan: Partial<Plan>): void
  /** Goes on after the pause of the plan. */
  goOn(): void
  readonly sent: Sent
  close(): Promise<void>
}

/** What has been handed to the network since `next`. */
export interface Sent {
  /** The model's own words, as far as they were written. */
  readonly text: string
  /** All output that the vendor has named so far, where it does with every piece. */
  readonly runningOutput: number | undefined
  readonly requests: readonly string[]
}

const OLLAMA_PORT = '11434'

type Request = IncomingMessage | Http2ServerRequest
type Response = ServerResponse | Http2ServerResponse

export async function startFakeVendors(): Promise<FakeVendors> {
  let current = new Conversation(PLAN)
  const handle = (isHttp2: boolean) => (request: Request, response: Response) => {
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    current.take(request, response, isHttp2).catch((error: unknown) => {
      response.statusCode = 500
      response.end(String(error))
    })
  }
  const http = createHttpServer(handle(false))
  const http2 = createHttp2Server(handle(true))
  // Sockets, not sessions: one whose session has ended may be half open.
  const sockets = new Set<Socket>()
  http2.on('session', (session) => session.on('error', () => undefined))
  http2.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  for (const server of [http, http2]) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  }
  const port = portOf(http.address())
  const agents: Agent[] = []
  return {
    bedrockEndpoint: `http://127.0.0.1:${portOf(http2.address())}`,
    dispatcher() {
      const agent = new Agent({
        connect: ({ hostname, port: asked }, callback) => {
          const isOther = hostname === '127.0.0.1' && asked !== OLLAMA_PORT
          const socket = connect(isOther ? Number(asked) : port, '127.0.0.1')
          socket.once('connect', () => callback(null, socket))
          socket.once('error', (error) => callback(error, null))
        },
      })
      agents.push(agent)
      return agent
    },
    next(plan) {
      current.goOn()
      current = new Conversation({ ...PLAN, ...plan })
    },
    goOn: () => current.goOn(),
    get sent() {
      return current
    },
    async close() {
      current.goOn()
      await Promise.all(agents.map((agent) => agent.destroy()))
      http.closeAllConnections()
      for (const socket of sockets) socket.destroy()
      await Promise.all([http, http2].map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
}

/** One planned call with all its attempts. */
class Conversation implements Sent {
  readonly #plan: Plan
  readonly #gate = Promise.withResolvers<void>()
  readonly requests: string[] = []
  text = ''
  runningOutput: number | undefined

  constructor(plan: Plan) {
    this.#plan = plan
  }

  goOn(): void {
    this.#gate.resolve()
  }

  async take(request: Request, response: Response, isHttp2: boolean): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(Buffer.from(chunk))
    const text = Buffer.concat(chunks).toString('utf8')
    const host = String(request.headers[':authority'] ?? request.headers.host ?? '')
    const url = new URL(request.url ?? '/', `http://${host}`)
    this.requests.push(`${request.method} ${host}${url.pathname}`)
    const number = this.requests.length
    const vendorRequest: VendorRequest = {
      host,
      path: decodeURIComponent(url.pathname),
      query: url.searchParams,
      json: jsonOf(text),
      text,
      number,
      plan: this.#plan,
    }
    const vendor = isHttp2 ? bedrock : vendorOf(vendorRequest)
    const failing = this.#plan.failures[number - 1]
    const answer = failing === undefined ? vendor.answer(vendorRequest) : vendor.fail(failing, vendorRequest)
    const takesGzip = /gzip/.test(String(request.headers['accept-encoding'] ?? ''))
    await this.#write(response, answer, this.#plan.isGzip && takesGzip && failing === undefined)
  }

  async #write(response: Response, answer: VendorAnswer, isGzip: boolean): Promise<void> {
    response.sendDate = false
    response.statusCode = answer.status ?? 200
    for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value)
    if (isGzip) response.setHeader('content-encoding', 'gzip')
    const { isDropped, isPausing, pieceBytes } = this.#plan
    const left = new Promise<void>((resolve) => response.once('close', resolve))
    const isStreamed = answer.body.some(({ text }) => text !== undefined)
    const isBreaking = isDropped && answer.status === undefined
    if (isGzip) {
      for (const bytes of await compressed(answer.body)) await write(response, bytes)
      response.end()
      return
    }
    for (const [index, piece] of answer.body.entries()) {
      for (const bytes of cut(piece.bytes, pieceBytes)) {
        await write(response, bytes)
        if (pieceBytes !== undefined) await turn()
      }
      this.text += piece.text ?? piece.plainText ?? ''
      this.runningOutput = piece.runningOutput ?? this.runningOutput
      const isHalf = isStreamed ? piece.text === MARKER : index === 0
      if (isHalf && isPausing && isStreamed) await Promise.race([this.#gate.promise, left])
      if (response.destroyed) return
      if (isHalf && isBreaking) {
        drop(response)
        return
      }
    }
    response.end()
  }
}

/** Ends the connection without the answer's end, after everything that was written. */
function drop(response: Response): void {
  if (response instanceof Http2ServerResponse) response.stream.session?.socket.end()
  else response.socket?.destroySoon()
}

function write(response: Response, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    if (response.destroyed) resolve()
    else if (response instanceof ServerResponse) response.write(bytes, () => resolve())
    else response.write(bytes, () => resolve())
  })
}

function cut(bytes: Uint8Array, size: number | undefined): Uint8Array[] {
  if (size === undefined) return [bytes]
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size),
  )
}

/** A body as it is compressed on the fly: flushed after each piece, so that each arrives by itself. */
async function compressed(body: readonly Piece[]): Promise<Buffer[]> {
  const [only] = body
  if (body.length === 1 && only !== undefined) return [gzipSync(only.bytes)]
  const gzip = createGzip()
  const chunks: Buffer[] = []
  gzip.on('data', (chunk: Buffer) => chunks.push(chunk))
  for (const { bytes } of body) {
    gzip.write(bytes)
    await new Promise<void>((resolve) => gzip.flush(constants.Z_SYNC_FLUSH, () => resolve()))
  }
  const ended = new Promise((resolve) => gzip.once('end', resolve))
  gzip.end()
  await ended
  return chunks
}

function jsonOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {}
  } catch {
    return {}
  }
}

function portOf(address: string | AddressInfo | null): number {
  if (address === null || typeof address === 'string') throw new Error('the vendors have no port')
  return address.port
}
