import { connect, type Socket } from 'node:net'

/**
 * An HTTP/1.1 load generator that costs little itself: finished request bytes over kept-alive sockets, one
 * request at a time on each. Answers must carry `Content-Length`.
 */
export async function load(
  url: string,
  requests: readonly Buffer[],
  connections: number,
): Promise<{ readonly seconds: number; readonly statuses: ReadonlyMap<number, number> }> {
  const { hostname, port } = new URL(url)
  const sockets = await Promise.all(
    Array.from({ length: Math.min(connections, requests.length) }, () => open(hostname, Number(port))),
  )
  const statuses = new Map<number, number>()
  let next = 0
  const start = performance.now()
  await Promise.all(
    sockets.map(async (socket) => {
      const exchange = exchanges(socket)
      for (let request = requests[next++]; request !== undefined; request = requests[next++]) {
        const status = await exchange(request)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }
    }),
  )
  const seconds = (performance.now() - start) / 1000
  for (const socket of sockets) socket.destroy()
  return { seconds, statuses }
}

/** The bytes of a request. */
export function requestBytes(
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array = new Uint8Array(0),
): Buffer {
  const lines = Object.entries({ host: 'localhost', ...headers, 'content-length': String(body.length) })
  const head = `${method} ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), body])
}

function open(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true }, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** @returns sends one request and resolves with the status once the whole answer has arrived */
function exchanges(socket: Socket): (request: Buffer) => Promise<number> {
  let received = ''
  let waiting: { resolve: (status: number) => void; reject: (error: Error) => void } | undefined
  socket.setEncoding('latin1')
  socket.on('data', (chunk) => {
    received += String(chunk)
    const headEnd = received.indexOf('\r\n\r\n')
    if (headEnd === -1) return
    const head = received.slice(0, headEnd)
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
    if (length === undefined) {
      waiting?.reject(new Error(`the answer has no Content-Length: ${head}`))
      return
    }
    if (received.length < headEnd + 4 + Number(length)) return
    received = ''
    waiting?.resolve(Number(head.slice(9, 12)))
  })
  const fail = () => waiting?.reject(new Error('the connection broke'))
  socket.on('error', fail)
  socket.on('close', fail)
  return (request) =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject }
      socket.write(request)
    })
}
