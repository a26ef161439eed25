import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { ClientRequest, IncomingMessage } from 'node:http'
import { mayBeCall, type RecognizedCall } from '@tokentally/providers'
import { OutgoingGate } from '../enforce/enforced-outgoing.ts'
import { Exchange } from './exchange.ts'
import { watchResponse } from './node-http-response.ts'
import { watchOutgoing } from './outgoing-body.ts'
import { setOwn } from './own-method.ts'
import { requestKey } from './request-key.ts'
import { guarded, meteredRequests, recognizeOnce, type TapDependencies, watchedHere } from './tap.ts'

/**
 * Metering of everything that speaks `node:http` and `node:https`: axios, node-fetch, got, the AWS SDK with
 * NodeHttpHandler, SDKs of Azure, any `http.request`.
 *
 * Node tells of each client request on the diagnostics channel `http.client.request.created`, from inside its
 * constructor. So nothing of the `http` module is replaced, and a client that copied `request` long ago is seen as
 * well. Of a request that is no call nothing but its path is looked at. A call's request gets four methods of its
 * own: `write` and `end`, to read the body and to ask for a stream's usage (`outgoing-body.ts`), `emit`, to see the
 * answer before the application does, and `destroy`, to know who left (`node-http-response.ts`).
 */
export function tapNodeHttp(dependenciesOf: () => TapDependencies | undefined): () => void {
  const onCreated = (message: unknown) => {
    const request: unknown =
      message !== null && typeof message === 'object' && Reflect.get(message, 'request')
    if (!(request instanceof ClientRequest) || !mayBeCall(request.path)) return
    const dependencies = dependenciesOf()
    if (dependencies !== undefined) guarded(dependencies, () => tapRequest(request, dependencies))
  }
  subscribe('http.client.request.created', onCreated)
  return () => unsubscribe('http.client.request.created', onCreated)
}

function tapRequest(request: ClientRequest, dependencies: TapDependencies): void {
  const outer = watchedHere()
  if (outer !== undefined) {
    meteredRequests.add(request)
    // The tap above knows the body already; the answer is watched where it can be watched as it is.
    if (outer.exchange === undefined) return
    outer.isTaken = true
    watchAnswer(request, dependencies, () => outer.exchange)
    return
  }
  if (headerOf(request, 'upgrade') !== null) return
  const url = urlOf(request)
  const call = recognizeOnce(url, request.method, dependencies)
  if (call === undefined) return
  meteredRequests.add(request)
  watchCall(request, url, call, dependencies)
}

function watchCall(
  request: ClientRequest,
  url: string,
  call: RecognizedCall,
  dependencies: TapDependencies,
): void {
  // The body may end, and the answer come, in the context of some stream or socket: the call is of whoever makes it.
  const inContext = AsyncLocalStorage.snapshot()
  let exchange: Exchange | undefined
  const begin = (body: string, injectStreamUsage: boolean) => {
    exchange ??= guarded(dependencies, () =>
      inContext(() => {
        const key = requestKey(url, body, (name) => headerOf(request, name))
        const made = () => new Exchange(key, call, dependencies, false, injectStreamUsage)
        return gate === undefined ? made() : gate.run(made)
      }),
    )
  }
  const { enforcer } = dependencies
  const gate = enforcer && new OutgoingGate(enforcer, call, (error) => request.destroy(error), inContext)
  const outgoing = watchOutgoing(request, {
    mayReplace: () =>
      (gate?.isDecided === false || (dependencies.injectStreamUsage && call.format === 'openai-chat')) &&
      !request.headersSent,
    isRefused: () => gate?.isRefused === true,
    whole(body, isReplaceable) {
      const cheaper = gate?.decide(body, isReplaceable)
      if (gate?.isRefused === true) return undefined
      begin(cheaper ?? body, isReplaceable && dependencies.injectStreamUsage)
      const injected = exchange?.rewrittenBody
      const replacement = injected ?? cheaper
      if (replacement === undefined) return undefined
      return guarded(dependencies, () => {
        if (request.hasHeader('content-length')) {
          request.setHeader('content-length', Buffer.byteLength(replacement))
        }
        // Nothing can be taken out of a compressed answer: it is asked for plain.
        if (injected !== undefined) request.removeHeader('accept-encoding')
        return replacement
      })
    },
  })
  const exchangeOf = () => {
    // Answered, or failed, before the body had its end.
    // What the application still writes to a refused request goes nowhere, to its end.
    if (gate?.isRefused === true) return undefined
    if (exchange === undefined) begin(outgoing.text(), false)
    outgoing.stop()
    return exchange
  }
  watchAnswer(request, dependencies, exchangeOf, () => exchangeOf()?.fail())
}

/**
 * @param exchangeOf asked once, when there is an answer
 * @param onFailure told when there will be none
 */
function watchAnswer(
  request: ClientRequest,
  dependencies: TapDependencies,
  exchangeOf: () => Exchange | undefined,
  onFailure: () => void = () => undefined,
): void {
  const { emit } = request
  const restore = setOwn(request, 'emit', (...args) => {
    const [name, response] = args
    if (name === 'close') {
      restore()
      guarded(dependencies, onFailure)
    }
    if (name !== 'response' || !(response instanceof IncomingMessage))
      return Reflect.apply(emit, request, args)
    restore()
    guarded(dependencies, () => {
      const exchange = exchangeOf()
      if (exchange === undefined) return
      exchange.respond(response.statusCode ?? 0, (header) => textOf(response.headers[header]), true)
      watchResponse(request, response, exchange)
    })
    if (Reflect.apply(emit, request, args) === true) return true
    // Nobody listens. Node would throw the body away unread; read into the void it comes to the same.
    response.resume()
    return true
  })
}

/** The URL, by the host that the request names: the connection may go through a proxy. */
function urlOf(request: ClientRequest): string {
  const { path } = request
  if (!path.startsWith('/')) return path
  return `${request.protocol}//${headerOf(request, 'host') ?? request.host}${path}`
}

/** A header of the request; one that was made with a list of headers has them as text alone. */
function headerOf(request: ClientRequest, name: string): string | null {
  const value = request.getHeader(name)
  if (value !== undefined) return textOf(value)
  const head: unknown = Reflect.get(request, '_header')
  if (typeof head !== 'string') return null
  const line = head.split('\r\n').find((one) => one.slice(0, name.length + 1).toLowerCase() === `${name}:`)
  return line === undefined ? null : line.slice(name.length + 1).trim()
}

function textOf(value: unknown): string | null {
  if (value === undefined) return null
  return Array.isArray(value) ? value.join(', ') : String(value)
}
