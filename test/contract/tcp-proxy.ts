import { createConnection, createServer, type Server, type Socket } from 'node:net'

/** Stands between the service and a server of its own, which can so be taken away and given back. */
export interface TcpProxy {
  /** The server's URL, by way of this proxy. */
  readonly url: string
  /** Breaks all connections and refuses new ones. */
  cut(): Promise<void>
  /** Takes connections again. */
  restore(): Promise<void>
  /** Breaks all connections; new ones are welcome. */
  breakConnections(): void
  close(): Promise<void>
}

/** Starts a proxy to the server that a URL names. */
export async function startTcpProxy(serverUrl: string, defaultPort: number): Promise<TcpProxy> {
  const target = new URL(serverUrl)
  const sockets = new Set<Socket>()
  const connect = (near: Socket) => {
    const far = createConnection(Number(target.port || defaultPort), target.hostname)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  }
  const breakConnections = () => {
    for (const socket of sockets) socket.destroy()
  }
  let server = createServer(connect)
  const port = await listen(server, 0)
  const url = new URL(serverUrl)
  url.hostname = '127.0.0.1'
  url.port = String(port)
  const cut = async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    breakConnections()
    await closed
  }
  return {
    url: url.href,
    cut,
    async restore() {
      server = createServer(connect)
      await listen(server, port)
    },
    breakConnections,
    close: cut,
  }
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
}
