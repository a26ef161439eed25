import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'

/**
 * A provider on this machine that answers with transcripts, in the formats of OpenAI's family. A request names
 * its answer in the header `x-transcript`, several for several requests of the same URL, joined by `,`; the last
 * one stays. What else it wants stands in `x-fake`: `gzip`, `split` (pieces of seven bytes), `drop` (the
 * connection breaks in the middle).
 */
export interface TranscriptProvider {
  readonly url: string
  /** What arrived, in order, as `METHOD path`. */
  readonly requests: readonly string[]
  close(): Promise<void>
}

const TRANSCRIPTS = new URL('../../packages/providers/transcripts/', import.meta.url)

/** Starts the provider on any free port. */
export async function startTranscriptProvider(): Promise<TranscriptProvider> {
  const requests: string[] = []
  const answered = new Map<string, number>()

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) =>
      response.destroy(error instanceof Error ? error : undefined),
    )
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume()
    const key = `${request.method} ${request.url}`
    requests.push(key)
    const names = String(request.headers['x-transcript']).split(',')
    const series = `${key} ${names.join()}`
    const turnOf = answered.get(series) ?? 0
    answered.set(series, turnOf + 1)
    const name = names[Math.min(turnOf, names.length - 1)] ?? ''
    const fake = String(request.headers['x-fake'] ?? '')
    response.statusCode = Number(/error-(\d{3})/.exec(name)?.[1] ?? 200)
    response.setHeader('x-request-id', `req_${requests.length}`)
    response.setHeader('retry-after-ms', '1')
    response.setHeader('content-type', typeOf(name))
    const whole = name === 'audio' ? Buffer.from('ID3\u0004') : readFileSync(new URL(name, TRANSCRIPTS))
    const body = fake.includes('gzip') ? gzipSync(whole) : whole
    if (fake.includes('gzip')) response.setHeader('content-encoding', 'gzip')
    const size = fake.includes('split') ? 7 : fake.includes('drop') ? 500 : body.length
    const end = fake.includes('drop') ? Math.floor(body.length * 0.6) : body.length
    for (let start = 0; start < end; start += size) {
      response.write(body.subarray(start, Math.min(start + size, end)))
      await turn()
    }
    if (fake.includes('drop')) response.destroy()
    else response.end()
  }

  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the provider has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    async close() {
      const closed = Promise.withResolvers<void>()
      server.close(() => closed.resolve())
      server.closeAllConnections()
      await closed.promise
    },
  }
}

function typeOf(name: string): string {
  if (name.endsWith('.sse')) return 'text/event-stream; charset=utf-8'
  if (name.endsWith('.ndjson')) return 'application/x-ndjson'
  return name === 'audio' ? 'audio/mpeg' : 'application/json'
}
