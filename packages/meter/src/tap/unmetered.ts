import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { isKnownProviderHost } from '@tokentally/providers'
import { sentHeaders } from './node-http2.ts'
import { meteredRequests, watchedHere } from './tap.ts'

/**
 * Notices calls to LLM providers that nothing metered: clients that copied `fetch` before the tap was there,
 * and formats without a reader. The taps of Node's own transports must be there first. They are counted by host and warned about
 * once, with the cure. The channels carry no bodies, so noticing is all they are good for.
 */
const counts = new Map<string, number>()

/** Unmetered calls by host since the start of the process. */
export function unmeteredCalls(): ReadonlyMap<string, number> {
  return counts
}

/**
 * @param onRequest called at each request of undici; the application may have set another global dispatcher
 * @returns a function that stops watching
 */
export function watchUnmetered(onUnmetered: (error: Error) => void, onRequest: () => void): () => void {
  const notice = (host: string) => {
    const count = (counts.get(host) ?? 0) + 1
    counts.set(host, count)
    if (count > 1) return
    onUnmetered(
      new Error(
        `a call to ${host} was not metered: import @tokentally/meter before the client is made (node --import @tokentally/meter/register), or wrap the client with meter(client)`,
      ),
    )
  }
  const onUndici = (message: unknown) => {
    onRequest()
    if (watchedHere() !== undefined) return
    const origin = fieldOf(fieldOf(message, 'request'), 'origin')
    const url = typeof origin === 'string' ? URL.parse(origin) : origin instanceof URL ? origin : null
    if (url !== null && isKnownProviderHost(url.hostname)) notice(url.hostname)
  }
  const onHttp = (message: unknown) => {
    if (watchedHere() !== undefined) return
    const request = fieldOf(message, 'request')
    const host = fieldOf(request, 'host')
    if (typeof host === 'string' && isKnownProviderHost(host) && !isMetered(request)) notice(host)
  }
  const onHttp2 = (message: unknown) => {
    if (watchedHere() !== undefined) return
    const authority = fieldOf(sentHeaders(message), ':authority')
    const host = typeof authority === 'string' ? authority.replace(/:\d+$/, '') : ''
    if (isKnownProviderHost(host) && !isMetered(fieldOf(message, 'stream'))) notice(host)
  }
  subscribe('undici:request:create', onUndici)
  subscribe('http.client.request.start', onHttp)
  subscribe('http2.client.stream.created', onHttp2)
  return () => {
    unsubscribe('undici:request:create', onUndici)
    unsubscribe('http.client.request.start', onHttp)
    unsubscribe('http2.client.stream.created', onHttp2)
  }
}

function isMetered(request: unknown): boolean {
  return typeof request === 'object' && request !== null && meteredRequests.has(request)
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
