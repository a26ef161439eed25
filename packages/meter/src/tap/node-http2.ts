import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientHttp2Stream } from 'node:http2'
import { Duplex } from 'node:stream'
import { mayBeCall, type RecognizedCall } from '@tokentally/providers'
import { OutgoingGate } from '../enforce/enforced-outgoing.ts'
import { Exchange } from './exchange.ts'
import { watchOutgoing } from './outgoing-body.ts'
import { setOwn } from './own-method.ts'
import { requestKey } from './request-key.ts'
import { guarded, meteredRequests, recognizeOnce, type TapDependencies, watchedHere } from './tap.ts'
import { watchBody } from './watched-body.ts'

/**
 * Metering of everything that speaks `node:http2` as a client: the AWS SDK as it is, axios and got when asked to.
 *
 * Node tells of each stream on the channel `http2.client.stream.created`, and of each answer's head on
 * `http2.client.stream.finish`, before its body: sessions that were made long ago are seen as well. The request's
 * headers are on their way when the body is written, so a body can only be changed where they say nothing of it.
 *
 * A stream that is closed or destroyed is over for Node, and nothing comes any more: what the application closes
 * is counted with what came until then. What it merely leaves is read ahead (`watched-body.ts`).
 */
export function tapNodeHttp2(dependenciesOf: () => TapDependencies | undefined): () => void {
  /** What to do with the head of an answer, by its stream. */
  const answered = new WeakMap<object, (headers: object) => void>()
  const onCreated = (message: unknown) => {
    const stream = fieldOf(message, 'stream')
    const headers = sentHeaders(message)
    const path = fieldOf(headers, ':path')
    if (typeof path !== 'string' || !mayBeCall(path)) return
    const dependencies = dependenciesOf()
    if (dependencies === undefined || !isClientStream(stream)) return
    guarded(dependencies, () => {
      const onHead = tapStream(stream, (name) => textOf(fieldOf(headers, name)), path, dependencies)
      if (onHead !== undefined) answered.set(stream, onHead)
    })
  }
  const onFinish = (message: unknown) => {
    const stream = fieldOf(message, 'stream')
    if (typeof stream !== 'object' || stream === null) return
    const headers = fieldOf(message, 'headers')
    const onHead = answered.get(stream)
    if (onHead === undefined || typeof headers !== 'object' || headers === null) return
    answered.delete(stream)
    onHead(headers)
  }
  subscribe('http2.client.stream.created', onCreated)
  subscribe('http2.client.stream.finish', onFinish)
  return () => {
    unsubscribe('http2.client.stream.created', onCreated)
    unsubscribe('http2.client.stream.finish', onFinish)
  }
}

/**
 * The headers of a request from the message of `http2.client.stream.created`. Those of the message are what the
 * application gave, in Node 22 without what Node adds (`:authority`, `:scheme`); as a list they have no others there.
 */
export function sentHeaders(message: unknown): unknown {
  const sent = fieldOf(fieldOf(message, 'stream'), 'sentHeaders')
  const given = sent ?? fieldOf(message, 'headers')
  if (!Array.isArray(given)) return given
  const list: readonly unknown[] = given
  return Object.fromEntries(
    list.flatMap((name, index) => (index % 2 === 0 ? [[String(name).toLowerCase(), list[index + 1]]] : [])),
  )
}

type Header = (name: string) => string | null

function tapStream(
  stream: ClientHttp2Stream,
  header: Header,
  path: string,
  dependencies: TapDependencies,
): ((headers: object) => void) | undefined {
  const outer = watchedHere()
  if (outer !== undefined) {
    meteredRequests.add(stream)
    const { exchange } = outer
    if (exchange === undefined) return undefined
    outer.isTaken = true
    return (headers) => guarded(dependencies, () => watchAnswer(stream, headers, exchange, dependencies))
  }
  const authority = header(':authority') ?? header('host')
  if (authority === null) return undefined
  const url = `${header(':scheme') ?? 'https'}://${authority}${path}`
  const call = recognizeOnce(url, header(':method') ?? 'GET', dependencies)
  if (call === undefined) return undefined
  meteredRequests.add(stream)
  return watchCall(stream, header, url, call, dependencies)
}

function watchCall(
  stream: ClientHttp2Stream,
  header: Header,
  url: string,
  call: RecognizedCall,
  dependencies: TapDependencies,
): (headers: object) => void {
  const inContext = AsyncLocalStorage.snapshot()
  let exchange: Exchange | undefined
  const begin = (body: string, injectStreamUsage: boolean) => {
    exchange ??= guarded(dependencies, () =>
      inContext(() => {
        const key = requestKey(url, body, header)
        const made = () => new Exchange(key, call, dependencies, false, injectStreamUsage)
        return gate === undefined ? made() : gate.run(made)
      }),
    )
  }
  const { enforcer } = dependencies
  const gate = enforcer && new OutgoingGate(enforcer, call, (error) => stream.destroy(error), inContext)
  const isFree = header('content-length') === null && header('accept-encoding') === null
  const outgoing = watchOutgoing(stream, {
    mayReplace: () =>
      gate?.isDecided === false ||
      (isFree && dependencies.injectStreamUsage && call.format === 'openai-chat'),
    isRefused: () => gate?.isRefused === true,
    whole(body, isReplaceable) {
      // The headers are on their way, and say nothing of the body, or what they say has to stay true.
      const cheaper = gate?.decide(body, isReplaceable && header('content-length') === null)
      if (gate?.isRefused === true) return undefined
      begin(cheaper ?? body, isReplaceable && isFree && dependencies.injectStreamUsage)
      return exchange?.rewrittenBody ?? cheaper
    },
  })
  const exchangeNow = () => {
    // What the application still writes to a refused request goes nowhere, to its end.
    if (gate?.isRefused === true) return undefined
    if (exchange === undefined) begin(outgoing.text(), false)
    outgoing.stop()
    return exchange
  }
  const { emit } = stream
  const restore = setOwn(stream, 'emit', (...args) => {
    // To say why is left to the error: clients make one of their own of the word before it.
    if (args[0] === 'aborted' && gate?.isRefused === true) return true
    if (args[0] === 'close') {
      restore()
      guarded(dependencies, () => exchangeNow()?.fail())
    }
    return Reflect.apply(emit, stream, args)
  })
  return (headers) => {
    restore()
    guarded(dependencies, () => {
      const current = exchangeNow()
      if (current !== undefined) watchAnswer(stream, headers, current, dependencies)
    })
  }
}

function watchAnswer(
  stream: ClientHttp2Stream,
  headers: object,
  exchange: Exchange,
  dependencies: TapDependencies,
): void {
  exchange.respond(Number(fieldOf(headers, ':status')), (name) => textOf(fieldOf(headers, name)), true)
  // Node ends the body of a closed stream too; only an end that comes before is the provider's.
  const isCut = () => stream.closed || stream.destroyed
  const restore = ['close', 'destroy'].map((name) => {
    const original: unknown = Reflect.get(stream, name)
    if (typeof original !== 'function') return () => undefined
    return setOwn(stream, name, (...args) => {
      guarded(dependencies, () => {
        // Node itself destroys streams that the provider has closed, and closes those whose connection is gone.
        if (!isCut() && isConnected(stream)) exchange.abandon()
      })
      return Reflect.apply(original, stream, args)
    })
  })
  const onEnd = () => {
    for (const one of restore) one()
  }
  watchBody(stream, exchange, { isCut, onEnd })
}

function isConnected({ session }: ClientHttp2Stream): boolean {
  return session !== undefined && !session.destroyed && !session.socket.destroyed
}

function isClientStream(value: unknown): value is ClientHttp2Stream {
  return value instanceof Duplex && 'sentHeaders' in value
}

function textOf(value: unknown): string | null {
  if (value === undefined || value === null) return null
  return Array.isArray(value) ? value.join(', ') : String(value)
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
