import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { ClientRequest } from 'node:http'
import { isKnownProviderHost } from '@tokentally/providers'
import { sentHeaders } from './node-http2.ts'
import { meteredRequests, watchedHere } from './tap.ts'

/**
 * Notices calls that nothing metered: to LLM providers, by clients that copied `fetch` before the tap was there
 * or in formats without a reader; and to hosts that nobody named, at the path that only LLM servers have. They
 * are counted by host and warned about once, with the cure. The taps of Node's own transports must be there
 * first. The channels carry no bodies, so noticing is all they are good for.
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
  const notice = (hostname: string, host: string, path: unknown) => {
    const isKnown = isKnownProviderHost(hostname)
    if (!isKnown && !(typeof path === 'string' && CHAT_PATH.test(path))) return
    const name = isKnown ? hostname : host
    const count = (counts.get(name) ?? 0) + 1
    counts.set(name, count)
    if (count > 1) return
    const cure = isKnown
      ? 'import @tokentally/meter before the client is made (node --import @tokentally/meter/register), or wrap the client with meter(client)'
      : `if it is a server of LLMs, name it in the option endpoints or in TOKENTALLY_ENDPOINTS, such as https://${host}/v1=openai`
    onUnmetered(new Error(`a call to ${name} was not metered: ${cure}`))
  }
  const onUndici = (message: unknown) => {
    onRequest()
    if (watchedHere() !== undefined) return
    const request = fieldOf(message, 'request')
    const origin = fieldOf(request, 'origin')
    const url = typeof origin === 'string' ? URL.parse(origin) : origin instanceof URL ? origin : null
    if (url !== null) notice(url.hostname, url.host, fieldOf(request, 'path'))
  }
  const onHttp = (message: unknown) => {
    if (watchedHere() !== undefined) return
    const request = fieldOf(message, 'request')
    const host = fieldOf(request, 'host')
    if (typeof host === 'string' && !isMetered(request))
      notice(host, hostWithPort(request, host), fieldOf(request, 'path'))
  }
  const onHttp2 = (message: unknown) => {
    if (watchedHere() !== undefined) return
    if (isMetered(fieldOf(message, 'stream'))) return
    const headers = sentHeaders(message)
    const authority = fieldOf(headers, ':authority')
    if (typeof authority !== 'string') return
    notice(authority.replace(/:\d+$/, ''), authority, fieldOf(headers, ':path'))
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

/** The one path that is nothing but an LLM call, whoever serves it. */
const CHAT_PATH = /\/chat\/completions(?:$|\?)/

/** A request of `node:http` keeps its port in the header `host`, as far as it is not the usual one. */
function hostWithPort(request: unknown, host: string): string {
  const header = request instanceof ClientRequest ? request.getHeader('host') : undefined
  return typeof header === 'string' ? header : host
}

function isMetered(request: unknown): boolean {
  return typeof request === 'object' && request !== null && meteredRequests.has(request)
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
