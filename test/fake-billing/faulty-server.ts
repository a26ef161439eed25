import { createServer, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'

/** What goes wrong with the next request: the answer is lost after the work was done, or there is another one. */
export type Fault =
  | { readonly kind: 'lost_answer' }
  | { readonly kind: 'lost_request' }
  | {
      readonly kind: 'answer'
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: unknown
    }

export interface FakeRequest {
  readonly method: string
  readonly url: URL
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface FakeAnswer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  /** JSON; absent: no body. */
  readonly body?: unknown
}

export interface FaultyServer {
  readonly url: string
  readonly requests: readonly FakeRequest[]
  /** The next request that `isHit` meets this; several in their order. */
  fail(fault: Fault, isHit?: (request: FakeRequest) => boolean): void
  stop(): Promise<void>
}

/** A server of another system on a local port, whose requests can be made to fail. */
export async function startFaultyServer(answer: (request: FakeRequest) => FakeAnswer): Promise<FaultyServer> {
  const requests: FakeRequest[] = []
  const faults: { readonly fault: Fault; readonly isHit: (request: FakeRequest) => boolean }[] = []
  const server = createServer((incoming, response) => {
    void read(incoming).then((request) => {
      requests.push(request)
      const index = faults.findIndex(({ isHit }) => isHit(request))
      const fault = index === -1 ? undefined : faults.splice(index, 1)[0]?.fault
      if (fault?.kind === 'lost_request') {
        incoming.socket.destroy()
        return
      }
      const { status, headers = {}, body } = fault?.kind === 'answer' ? fault : answer(request)
      if (fault?.kind === 'lost_answer') {
        incoming.socket.destroy()
        return
      }
      response.writeHead(status, { 'content-type': 'application/json', ...headers })
      response.end(body === undefined ? undefined : JSON.stringify(body))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    fail: (fault, isHit = () => true) => void faults.push({ fault, isHit }),
    async stop() {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

async function read(incoming: IncomingMessage): Promise<FakeRequest> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(Buffer.from(chunk))
  return {
    method: incoming.method ?? '',
    url: new URL(incoming.url ?? '/', 'http://fake'),
    headers: incoming.headers,
    body: Buffer.concat(chunks).toString('utf8'),
  }
}
