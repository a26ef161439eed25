import { mayBeCall, type RecognizedCall } from '@tokentally/providers'
import type { BudgetExceededError } from '../enforce/budget-exceeded-error.ts'
import { type DispatchedBody, enforcedDispatch } from '../enforce/enforced-dispatch.ts'
import { refuseDispatch } from '../enforce/refused-dispatch.ts'
import { Exchange } from './exchange.ts'
import { guarded, insideTap, RETRY_COUNT, recognizeOnce, type TapDependencies, watchedHere } from './tap.ts'

/**
 * The tap of undici's own `request`, `stream`, `pipeline` and `fetch`, and of `fetch` functions that were
 * copied before ours was there: all of them end in the `dispatch` of the process's global dispatcher, which
 * Node's undici and the npm package share. Here an answer is watched as it passes, for hardly any cost. A dispatcher of the application's own is tapped by `meter(it)`.
 *
 * Source: undici's API reference, "Dispatcher". Versions 6 and 7 call handlers by `onConnect … onComplete`,
 * 7 and 8 by `onRequestStart … onResponseEnd`; a handler is answered in the words that it speaks.
 */

/** Something that sends requests: undici's Agent, Pool, Client, ProxyAgent and so on. */
export interface Dispatcher {
  dispatch(options: DispatchOptions, handler: object): boolean
}

interface DispatchOptions {
  readonly origin?: string | URL | undefined
  readonly path: string
  readonly method: string
  readonly body?: unknown
  readonly headers?: unknown
}

type Abort = (reason?: unknown) => void

interface LegacyHandler {
  onConnect?(abort: Abort, context?: unknown): void
  onHeaders?(status: number, rawHeaders: readonly unknown[], resume: () => void, text?: string): unknown
  onData?(chunk: Uint8Array): unknown
  onComplete?(rawTrailers: unknown): void
  onError?(error: unknown): void
}

interface Controller {
  readonly aborted: boolean
  readonly paused: boolean
  readonly reason: unknown
  readonly rawHeaders?: unknown
  readonly rawTrailers?: unknown
  pause(): void
  resume(): void
  abort(reason?: unknown): void
}

interface Handler {
  onRequestStart?(controller: Controller, context?: unknown): void
  onResponseStart?(controller: Controller, status: number, headers: unknown, text?: string): void
  onResponseData?(controller: Controller, chunk: Uint8Array): void
  onResponseEnd?(controller: Controller, trailers: unknown): void
  onResponseError?(controller: Controller, error: unknown): void
}

const GLOBAL_DISPATCHERS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')]

const tapped = new WeakSet<object>()

export function isDispatcher(value: unknown): value is Dispatcher {
  return (
    typeof value === 'object' && value !== null && 'dispatch' in value && typeof value.dispatch === 'function'
  )
}

/** Taps the dispatchers that are the global ones now; to be called again when the application sets others. */
export function tapGlobalDispatchers(dependenciesOf: () => TapDependencies | undefined): void {
  for (let index = 0; index < GLOBAL_DISPATCHERS.length; index++) {
    const dispatcher: unknown = Reflect.get(globalThis, GLOBAL_DISPATCHERS[index] ?? '')
    // Asked at every request of undici, and nearly always the same.
    if (dispatcher === lastGlobal[index]) continue
    lastGlobal[index] = dispatcher
    if (isDispatcher(dispatcher)) tapDispatcher(dispatcher, dependenciesOf)
  }
}

const lastGlobal: unknown[] = []

/** Meters what is sent through a dispatcher from now on. Twice is once. */
export function tapDispatcher(
  dispatcher: Dispatcher,
  dependenciesOf: () => TapDependencies | undefined,
): void {
  if (tapped.has(dispatcher)) return
  const original = dispatcher.dispatch
  dispatcher.dispatch = function dispatch(options, handler) {
    const watched = watchedHere()
    if (watched !== undefined) {
      if (watched.exchange === undefined) return original.call(this, options, handler)
      watched.isTaken = true
      const { exchange } = watched
      // This dispatcher may hand the request to another one that is tapped: it is watched once.
      return insideTap.run(takenBy(exchange), () => original.call(this, options, watching(handler, exchange)))
    }
    const dependencies = dependenciesOf()
    const call = dependencies && guarded(dependencies, () => callOf(options, dependencies))
    if (dependencies === undefined || call === undefined) return original.call(this, options, handler)

    const sendWatched = ({ bodyText, body }: DispatchedBody, headers = options.headers): boolean => {
      const asked = { ...options, headers }
      const outgoing = guarded(dependencies, () => prepare(asked, bodyText, call, dependencies))
      if (outgoing === undefined) return original.call(this, { ...asked, body }, handler)
      const { exchange, rewritten } = outgoing
      return insideTap.run(takenBy(exchange), () =>
        original.call(this, { ...asked, body, ...rewritten }, watching(handler, exchange)),
      )
    }
    const send = (bodyText: string | undefined, body: unknown): boolean => {
      const { enforcer } = dependencies
      if (enforcer === undefined) return sendWatched({ bodyText, body })
      const refuse = (error: BudgetExceededError) =>
        refuseDispatch(
          handler,
          error,
          (name) => headerOf(options.headers, name),
          () => failBeforeStart(handler, error),
        )
      return enforcedDispatch(enforcer, call, { bodyText, body }, sendWatched, refuse, () =>
        withoutLength(options.headers),
      )
    }
    const { body } = options
    const text = textOf(body)
    if (text !== undefined || !isAsyncIterable(body)) return send(text, body)
    // A `fetch` hands its body over piece by piece. Requests to a model are small: gathered, then sent.
    gather(body).then(
      (bytes) => send(bytes.toString('utf8'), bytes),
      (error: unknown) => failBeforeStart(handler, error),
    )
    return true
  }
  tapped.add(dispatcher)
}

/** The state inside a request that is watched: nobody further down watches it again. */
function takenBy(exchange: Exchange) {
  return { exchange: undefined, within: exchange, isTaken: true }
}

function callOf(options: DispatchOptions, dependencies: TapDependencies): RecognizedCall | undefined {
  const { origin, path, method } = options
  if (!mayBeCall(path)) return undefined
  return recognizeOnce(
    `${origin === undefined ? '' : String(origin).replace(/\/$/, '')}${path}`,
    method,
    dependencies,
  )
}

interface Outgoing {
  readonly exchange: Exchange
  /** What to send instead of the application's. */
  readonly rewritten: { readonly body: string; readonly headers: readonly string[] } | undefined
}

function prepare(
  options: DispatchOptions,
  bodyText: string | undefined,
  call: RecognizedCall,
  dependencies: TapDependencies,
): Outgoing {
  const headers = headerPairs(options.headers)
  const retryCount = headerOf(options.headers, RETRY_COUNT)
  const url = `${String(options.origin)}${options.path}`
  const exchange = new Exchange({ url, body: bodyText, retryCount }, call, dependencies, false)
  const { rewrittenBody } = exchange
  if (rewrittenBody === undefined) return { exchange, rewritten: undefined }
  // Nothing can be taken out of a compressed answer: it is asked for plain.
  const kept = headers.filter(([name]) => !/^(content-length|accept-encoding)$/i.test(name))
  return { exchange, rewritten: { body: rewrittenBody, headers: kept.flat() } }
}

/** Headers as a list, without the length of a body that is not sent. */
function withoutLength(headers: unknown): readonly string[] {
  return headerPairs(headers)
    .filter(([name]) => !/^content-length$/i.test(name))
    .flat()
}

/** The application's handler with the exchange in between. */
function watching(handler: object, exchange: Exchange): object {
  const names = passedOn(handler)
  if (isHandler(handler)) {
    const Watching = known(watchingHandlers, names, passingOn)
    return new Watching(handler, exchange)
  }
  const Watching = known(watchingLegacyHandlers, names, passingOnLegacy)
  return new Watching(handler, exchange)
}

class WatchingLegacyHandler {
  readonly #handler: LegacyHandler
  readonly #exchange: Exchange
  #resume: (() => void) | undefined

  constructor(handler: LegacyHandler, exchange: Exchange) {
    this.#handler = handler
    this.#exchange = exchange
  }

  onConnect(abort: Abort, context?: unknown): void {
    this.#handler.onConnect?.((reason) => this.#leave(abort, reason), context)
  }

  onHeaders(status: number, rawHeaders: readonly unknown[], resume: () => void, text?: string): unknown {
    this.#resume = resume
    respond(this.#exchange, status, rawHeaders)
    const isWanted = this.#handler.onHeaders?.(status, rawHeaders, resume, text)
    return this.#exchange.isLeft ? true : isWanted
  }

  onData(chunk: Uint8Array): unknown {
    const visible = this.#exchange.data(chunk)
    return visible === undefined || this.#exchange.isLeft ? true : this.#handler.onData?.(visible)
  }

  onComplete(rawTrailers: unknown): void {
    const wasLeft = this.#exchange.isLeft
    const rest = this.#exchange.complete()
    if (wasLeft) return
    if (rest !== undefined) this.#handler.onData?.(rest)
    this.#handler.onComplete?.(rawTrailers)
  }

  passOn(name: string, args: readonly unknown[]): unknown {
    return callMethod(this.#handler, name, args)
  }

  onError(error: unknown): void {
    const wasLeft = this.#exchange.isLeft
    this.#exchange.fail()
    if (!wasLeft) this.#handler.onError?.(error)
  }

  #leave(abort: Abort, reason: unknown): void {
    if (this.#exchange.isLeft) return
    if (!this.#exchange.leave({ abort, resume: () => this.#resume?.() })) {
      abort(reason)
      return
    }
    this.#handler.onError?.(reason ?? abortError())
    this.#resume?.()
  }
}

class WatchingHandler {
  readonly #handler: Handler
  readonly #exchange: Exchange
  #own: Controller | undefined

  constructor(handler: Handler, exchange: Exchange) {
    this.#handler = handler
    this.#exchange = exchange
  }

  onRequestStart(controller: Controller, context?: unknown): void {
    this.#own = undefined
    this.#handler.onRequestStart?.(this.#controllerFor(controller), context)
  }

  onResponseStart(controller: Controller, status: number, headers: unknown, text?: string): void {
    respond(this.#exchange, status, headers)
    this.#handler.onResponseStart?.(this.#controllerFor(controller), status, headers, text)
  }

  onResponseData(controller: Controller, chunk: Uint8Array): void {
    const visible = this.#exchange.data(chunk)
    if (visible === undefined || this.#exchange.isLeft) return
    this.#handler.onResponseData?.(this.#controllerFor(controller), visible)
  }

  onResponseEnd(controller: Controller, trailers: unknown): void {
    const wasLeft = this.#exchange.isLeft
    const rest = this.#exchange.complete()
    if (wasLeft) return
    if (rest !== undefined) this.#handler.onResponseData?.(this.#controllerFor(controller), rest)
    this.#handler.onResponseEnd?.(this.#controllerFor(controller), trailers)
  }

  onResponseError(controller: Controller, error: unknown): void {
    const wasLeft = this.#exchange.isLeft
    this.#exchange.fail()
    if (!wasLeft) this.#handler.onResponseError?.(this.#controllerFor(controller), error)
  }

  passOn(name: string, args: readonly unknown[]): unknown {
    return callMethod(this.#handler, name, args)
  }

  #controllerFor(controller: Controller): Controller {
    this.#own ??= watchedController(controller, this.#handler, this.#exchange)
    return this.#own
  }
}

function watchedController(controller: Controller, handler: Handler, exchange: Exchange): Controller {
  return {
    get aborted() {
      return exchange.isLeft || controller.aborted
    },
    get paused() {
      return controller.paused
    },
    get reason() {
      return controller.reason
    },
    get rawHeaders() {
      return controller.rawHeaders
    },
    get rawTrailers() {
      return controller.rawTrailers
    },
    pause() {
      if (!exchange.isLeft) controller.pause()
    },
    resume: () => controller.resume(),
    abort(reason) {
      if (exchange.isLeft) return
      if (!exchange.leave(controller)) {
        controller.abort(reason)
        return
      }
      handler.onResponseError?.(this, reason ?? abortError())
      controller.resume()
    },
  }
}

function respond(exchange: Exchange, status: number, headers: unknown): void {
  exchange.respond(status, (name) => headerOf(headers, name), true)
}

/** One header, in any form that undici gives them. Looked for in place: a call asks for few of many. */
function headerOf(headers: unknown, name: string): string | null {
  if (Array.isArray(headers) && headers[0] instanceof Uint8Array) {
    const flat: readonly unknown[] = headers
    for (let index = 0; index + 1 < flat.length; index += 2) {
      const key = flat[index]
      if (key instanceof Uint8Array && isNamed(key, name)) return latin1(flat[index + 1])
    }
    return null
  }
  return headerPairs(headers).find(([key]) => key.toLowerCase() === name)?.[1] ?? null
}

/** Whether the bytes of a header's name are this one, in whatever case. */
function isNamed(bytes: Uint8Array, name: string): boolean {
  if (bytes.length !== name.length) return false
  // From the end: many begin with `x-`.
  for (let index = bytes.length - 1; index >= 0; index--) {
    const byte = bytes[index] ?? 0
    const lower = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte
    if (lower !== name.charCodeAt(index)) return false
  }
  return true
}

/** What undici tells a handler whose request was aborted without a reason. */
function abortError(): Error {
  return Object.assign(new Error('Request aborted'), { name: 'AbortError', code: 'UND_ERR_ABORTED' })
}

function isHandler(handler: object): handler is Handler {
  return 'onRequestStart' in handler
}

const PASSED_ON = [
  'onResponseStarted',
  'onUpgrade',
  'onRequestUpgrade',
  'onBodySent',
  'onRequestSent',
  'onInfo',
] as const

/** Which of those methods a handler has, a bit for each: undici asks whether they are there. */
function passedOn(handler: object): number {
  let names = 0
  for (let index = 0; index < PASSED_ON.length; index++) {
    const name = PASSED_ON[index]
    if (name !== undefined && typeof Reflect.get(handler, name) === 'function') names |= 1 << index
  }
  return names
}

/** Classes by the methods that they pass on: handlers of one kind have the same. */
const watchingHandlers = new Map<number, typeof WatchingHandler>()
const watchingLegacyHandlers = new Map<number, typeof WatchingLegacyHandler>()

function known<Class>(classes: Map<number, Class>, names: number, make: (names: number) => Class): Class {
  let found = classes.get(names)
  if (found === undefined) {
    found = make(names)
    classes.set(names, found)
  }
  return found
}

function passingOn(names: number): typeof WatchingHandler {
  class PassingOn extends WatchingHandler {}
  addPassedOn(PassingOn.prototype, names)
  return PassingOn
}

function passingOnLegacy(names: number): typeof WatchingLegacyHandler {
  class PassingOn extends WatchingLegacyHandler {}
  addPassedOn(PassingOn.prototype, names)
  return PassingOn
}

/** A handler in another one's place. */
interface StandIn {
  /** Calls a method of the other one that is no concern of ours. */
  passOn(name: string, args: readonly unknown[]): unknown
}

function addPassedOn(prototype: StandIn, names: number): void {
  for (const [index, name] of PASSED_ON.entries()) {
    if ((names & (1 << index)) === 0) continue
    Object.defineProperty(prototype, name, {
      value(this: StandIn, ...args: unknown[]) {
        return this.passOn(name, args)
      },
      configurable: true,
      writable: true,
    })
  }
}

function callMethod(object: object, name: string, args: readonly unknown[]): unknown {
  const method: unknown = Reflect.get(object, name)
  return typeof method === 'function' ? Reflect.apply(method, object, args) : undefined
}

const UNSTARTED: Controller = {
  aborted: true,
  paused: false,
  reason: undefined,
  pause: () => undefined,
  resume: () => undefined,
  abort: () => undefined,
}

/** The application's own body broke before there was a request. */
function failBeforeStart(handler: LegacyHandler & Handler, error: unknown): void {
  if (handler.onResponseError === undefined) handler.onError?.(error)
  else handler.onResponseError(UNSTARTED, error)
}

function textOf(body: unknown): string | undefined {
  if (typeof body === 'string') return body
  if (ArrayBuffer.isView(body)) {
    return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8')
  }
  return body instanceof ArrayBuffer ? Buffer.from(body).toString('utf8') : undefined
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Symbol.asyncIterator in value &&
    // Blobs and forms are no JSON; undici has ways of its own to send them.
    !(value instanceof Blob) &&
    !(value instanceof FormData)
  )
}

async function gather(body: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) {
    if (typeof chunk === 'string') chunks.push(Buffer.from(chunk, 'utf8'))
    else if (chunk instanceof Uint8Array) chunks.push(chunk)
    else throw new TypeError('a chunk of a request body must be a string or bytes')
  }
  return Buffer.concat(chunks)
}

/** Headers in any form that undici takes or gives: flat arrays, pairs, objects, Headers. */
function headerPairs(headers: unknown): (readonly [string, string])[] {
  if (typeof headers !== 'object' || headers === null) return []
  if (Array.isArray(headers) && !headers.some(Array.isArray)) {
    const flat: readonly unknown[] = headers
    const pairs: [string, string][] = []
    for (let index = 0; index + 1 < flat.length; index += 2) {
      pairs.push([latin1(flat[index]), latin1(flat[index + 1])])
    }
    return pairs
  }
  const entries: Iterable<unknown> = isIterable(headers) ? headers : Object.entries(headers)
  const pairs: [string, string][] = []
  for (const entry of entries) {
    if (!Array.isArray(entry)) continue
    const [name, value]: readonly unknown[] = entry
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) pairs.push([latin1(name), latin1(one)])
    }
  }
  return pairs
}

function isIterable(value: object): value is Iterable<unknown> {
  return Symbol.iterator in value && typeof value[Symbol.iterator] === 'function'
}

function latin1(value: unknown): string {
  if (Buffer.isBuffer(value)) return value.toString('latin1')
  return value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value)
}
