import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { App } from './app.ts'
import { PROBLEM_CONTENT_TYPE, Problem } from './problem.ts'

/** How long a client may take to send one request. */
const REQUEST_TIMEOUT_MS = 60_000
/** Longer than the idle timeout of common load balancers (60 s), so that they close first. */
const KEEP_ALIVE_TIMEOUT_MS = 72_000

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** An open port. It answers from the first moment, also while the application behind it is still being built. */
export interface Listener {
  /** `http://host:port` as bound. */
  readonly url: string
  /** Hands requests to the application from now on. */
  serve(app: App): Promise<void>
  /** Stops taking connections and resolves when every request in flight is answered. */
  stop(): Promise<void>
}

/**
 * Opens the port. Until an application is served, `GET /healthz` answers 200 and everything else 503.
 * @param missing names what the start is waiting for
 * @throws when the port is taken or the host is not this machine's
 */
export async function listen(options: {
  readonly host: string
  readonly port: number
  readonly missing: () => string
}): Promise<Listener> {
  let handler: Handler = (request, response) => answerWhileStarting(request, response, options.missing())
  let isStopping = false
  // How many requests of each connection wait for their answer. Node's own closeIdleConnections spares connections
  // that have not sent a request yet, and those that become idle later: either would hold up a stop for a minute.
  const unanswered = new Map<Socket, number>()
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS },
    (request, response) => {
      const { socket } = request
      if (isStopping) response.setHeader('connection', 'close')
      unanswered.set(socket, (unanswered.get(socket) ?? 0) + 1)
      response.once('close', () => {
        const left = (unanswered.get(socket) ?? 1) - 1
        if (isStopping && left === 0) socket.destroySoon()
        else if (!socket.destroyed) unanswered.set(socket, left)
      })
      handler(request, response)
    },
  )
  server.on('connection', (socket) => {
    unanswered.set(socket, 0)
    socket.once('close', () => unanswered.delete(socket))
  })
  server.on('clientError', answerUnreadableRequest)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  return {
    url: urlOf(server, options.host),
    async serve(app) {
      await app.ready()
      handler = app.routing
    },
    async stop() {
      isStopping = true
      const closed = new Promise((resolve) => server.close(resolve))
      for (const [socket, requests] of unanswered) if (requests === 0) socket.destroy()
      await closed
    },
  }
}

function answerWhileStarting(request: IncomingMessage, response: ServerResponse, missing: string): void {
  if (request.url === '/healthz') {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}')
    return
  }
  const problem = new Problem({
    code: 'unavailable',
    title: 'The service is not ready',
    detail: `Not ready: ${missing}.`,
    errors: [{ path: missing, message: 'not done yet' }],
  })
  response
    .writeHead(problem.status, {
      'content-type': PROBLEM_CONTENT_TYPE,
      'retry-after': '1',
      connection: 'close',
    })
    .end(JSON.stringify(problem.toBody()))
}

/** Answers what the HTTP parser could not read; there is no request object then. */
function answerUnreadableRequest(
  error: Error & { code?: string },
  socket: Socket | { destroy(): void },
): void {
  if (error.code === 'ECONNRESET' || !('writable' in socket) || !socket.writable) {
    socket.destroy()
    return
  }
  const problem =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? new Problem({ code: 'request-timeout' })
      : new Problem({ code: 'invalid-request', detail: 'This is not a readable HTTP request.' })
  const body = JSON.stringify(problem.toBody())
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.title}\r\nContent-Type: ${PROBLEM_CONTENT_TYPE}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

function urlOf(server: Server, host: string): string {
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
