import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { createReader, type RecognizedCall } from '@tokentally/providers'
import { type Attempt, type CallEnd, MeteredCall } from '../call.ts'
import {
  attempts,
  guarded,
  insideTap,
  mayBeRecognized,
  recognizeSafely,
  type TapDependencies,
} from './tap.ts'

/**
 * The tap of undici's own `request`, `stream`, `pipeline` and `fetch`, and of `fetch` functions that were
 * copied before ours was there: all of them end in the `dispatch` of the process's global dispatcher, which
 * Node's undici and the npm package share. A dispatcher of the application's own is tapped by `meter(it)`.
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
  for (const symbol of GLOBAL_DISPATCHERS) {
    const dispatcher: unknown = Reflect.get(globalThis, symbol)
    if (isDispatcher(dispatcher)) tapDispatcher(dispatcher, dependenciesOf)
  }
}

/** Meters what is sent through a dispatcher from now on. Twice is once. */
export function tapDispatcher(
  dispatcher: Dispatcher,
  dependenciesOf: () => TapDependencies | undefined,
): void {
  if (tapped.has(dispatcher)) return
  const original = dispatcher.dispatch
  dispatcher.dispatch = function dispatch(options, handler) {
    const pass = () => original.call(this, options, handler)
    const dependencies = dependenciesOf()
    if (dependencies === undefined || insideTap.getStore() === true) return pass()
    const call = guarded(dependencies, () => callOf(options, dependencies))
    if (call === undefined) return pass()

    const send = (bodyText: string | undefined, body: unknown): boolean => {
      const exchange = guarded(dependencies, () => new Exchange(options, bodyText, call, dependencies))
      if (exchange === undefined) return original.call(this, { ...options, body }, handler)
      const outgoing = { ...options, body, ...exchange.rewritten }
      return insideTap.run(true, () => original.call(this, outgoing, exchange.watching(handler)))
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

function callOf(options: DispatchOptions, dependencies: TapDependencies): RecognizedCall | undefined {
  const { origin, path, method } = options
  if (!mayBeRecognized(path)) return undefined
  return recognizeSafely(origin === undefined ? path : new URL(path, origin).href, method, dependencies)
}

/** One request through a dispatcher, from its body to the end of its answer. */
class Exchange {
  readonly #dependencies: TapDependencies
  readonly #metered: MeteredCall
  readonly #attempt: Attempt
  readonly #key: { readonly url: string; readonly body: string | undefined }
  /** What to send instead of the application's. */
  readonly rewritten: { readonly body: string; readonly headers: readonly string[] } | undefined
  #decoder: ReturnType<typeof createGunzip> | undefined
  #status = 0
  #isLeft = false
  #isOver = false
  #bytesAfterLeaving = 0
  #timer: NodeJS.Timeout | undefined
  #giveUp: Abort = () => undefined

  constructor(
    options: DispatchOptions,
    bodyText: string | undefined,
    call: RecognizedCall,
    dependencies: TapDependencies,
  ) {
    this.#dependencies = dependencies
    this.#key = { url: `${String(options.origin)}${options.path}`, body: bodyText }
    const headers = headerPairs(options.headers)
    const retryCount = headers.find(([name]) => name.toLowerCase() === 'x-stainless-retry-count')?.[1] ?? null
    const reader = createReader(call, { bodyText, injectStreamUsage: dependencies.injectStreamUsage })
    this.#attempt = attempts.next({ ...this.#key, retryCount }, dependencies.now())
    this.#metered = new MeteredCall(dependencies, call, reader, this.#attempt)
    if (reader.rewrittenBody !== undefined) {
      // Nothing can be taken out of a compressed answer: it is asked for plain.
      const kept = headers.filter(([name]) => !/^(content-length|accept-encoding)$/i.test(name))
      this.rewritten = { body: reader.rewrittenBody, headers: kept.flat() }
    }
  }

  /** The application's handler with us in between. */
  watching(handler: object): object {
    return isHandler(handler) ? this.#watching(handler) : this.#watchingLegacy(handler)
  }

  #watchingLegacy(handler: LegacyHandler): object {
    let resume: () => void = () => undefined
    const leave = (abort: Abort, reason: unknown) => {
      this.#leave(abort, reason, (error) => handler.onError?.(error), resume)
    }
    return {
      ...passedOn(handler),
      onConnect: (abort: Abort, context?: unknown) => {
        handler.onConnect?.((reason) => leave(abort, reason), context)
      },
      onHeaders: (status: number, rawHeaders: readonly unknown[], go: () => void, text?: string) => {
        resume = go
        this.#respond(status, () => headerPairs(rawHeaders))
        const isWanted = handler.onHeaders?.(status, rawHeaders, go, text)
        return this.#isLeft ? true : isWanted
      },
      onData: (chunk: Uint8Array) => {
        const visible = this.#data(chunk)
        return visible === undefined || this.#isLeft ? true : handler.onData?.(visible)
      },
      onComplete: (rawTrailers: unknown) => {
        const wasLeft = this.#isLeft
        const rest = this.#complete()
        if (wasLeft) return
        if (rest !== undefined) handler.onData?.(rest)
        handler.onComplete?.(rawTrailers)
      },
      onError: (error: unknown) => {
        const wasLeft = this.#isLeft
        this.#fail()
        if (!wasLeft) handler.onError?.(error)
      },
    }
  }

  #watching(handler: Handler): object {
    let own: Controller | undefined
    const controllerFor = (controller: Controller): Controller => {
      own ??= this.#controller(controller, (error) => {
        handler.onResponseError?.(controller, error)
      })
      return own
    }
    return {
      ...passedOn(handler),
      onRequestStart: (controller: Controller, context?: unknown) => {
        own = undefined
        handler.onRequestStart?.(controllerFor(controller), context)
      },
      onResponseStart: (controller: Controller, status: number, headers: unknown, text?: string) => {
        this.#respond(status, () => headerPairs(headers))
        handler.onResponseStart?.(controllerFor(controller), status, headers, text)
      },
      onResponseData: (controller: Controller, chunk: Uint8Array) => {
        const visible = this.#data(chunk)
        if (visible !== undefined && !this.#isLeft)
          handler.onResponseData?.(controllerFor(controller), visible)
      },
      onResponseEnd: (controller: Controller, trailers: unknown) => {
        const wasLeft = this.#isLeft
        const rest = this.#complete()
        if (wasLeft) return
        if (rest !== undefined) handler.onResponseData?.(controllerFor(controller), rest)
        handler.onResponseEnd?.(controllerFor(controller), trailers)
      },
      onResponseError: (controller: Controller, error: unknown) => {
        const wasLeft = this.#isLeft
        this.#fail()
        if (!wasLeft) handler.onResponseError?.(controllerFor(controller), error)
      },
    }
  }

  #controller(controller: Controller, tell: (error: unknown) => void): Controller {
    const isLeft = () => this.#isLeft
    return {
      get aborted() {
        return isLeft() || controller.aborted
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
      pause: () => {
        if (!this.#isLeft) controller.pause()
      },
      resume: () => controller.resume(),
      abort: (reason) => {
        this.#leave(
          (why) => controller.abort(why),
          reason,
          tell,
          () => controller.resume(),
        )
      },
    }
  }

  #respond(status: number, headers: () => readonly (readonly [string, string])[]): void {
    if (status < 200) return
    guarded(this.#dependencies, () => {
      this.#status = status
      const values = new Map(headers().map(([name, value]) => [name.toLowerCase(), value]))
      const header = (name: string) => values.get(name) ?? null
      if (status >= 400) attempts.failed(this.#key, this.#attempt, this.#dependencies.now())
      this.#metered.respond(status, header)
      this.#decoder = this.#decoderFor(header('content-encoding'))
    })
  }

  #decoderFor(encoding: string | null): ReturnType<typeof createGunzip> | undefined {
    const decoder = createDecoder(encoding)
    decoder?.on('data', (chunk: Buffer) => guarded(this.#dependencies, () => this.#metered.push(chunk)))
    return decoder
  }

  /** @returns what the application may see; undefined when that is nothing */
  #data(chunk: Uint8Array): Uint8Array | undefined {
    if (this.#isLeft) {
      this.#bytesAfterLeaving += chunk.length
      const { finishLeftStreams } = this.#dependencies
      if (finishLeftStreams === false || this.#bytesAfterLeaving > finishLeftStreams.bytesMax) {
        this.#abandon()
        return undefined
      }
    }
    const visible = guarded(this.#dependencies, () => {
      if (this.#decoder === undefined) return this.#metered.push(chunk)
      this.#decoder.write(Buffer.from(chunk))
      return chunk
    })
    return visible?.length === 0 ? undefined : (visible ?? chunk)
  }

  /** @returns bytes that were held back from the application */
  #complete(): Uint8Array | undefined {
    if (this.#isOver) return undefined
    const rest = this.#decoder === undefined ? this.#endOfBody() : undefined
    this.#over('complete')
    return rest !== undefined && rest.length > 0 ? rest : undefined
  }

  #endOfBody(): Uint8Array | undefined {
    return guarded(this.#dependencies, () => this.#metered.endOfBody())
  }

  #fail(): void {
    if (this.#isOver) return
    if (this.#status === 0) {
      this.#isOver = true
      attempts.failed(this.#key, this.#attempt, this.#dependencies.now())
      this.#metered.fail()
      return
    }
    if (this.#decoder === undefined) this.#endOfBody()
    this.#over('dropped')
  }

  #over(how: CallEnd): void {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#timer)
    const { onError } = this.#dependencies
    const end = () => guarded(this.#dependencies, () => this.#metered.end(how))
    if (this.#decoder === undefined) {
      end()
      return
    }
    // What the decoder still holds belongs to the answer; a cut one ends in an error, and is counted too.
    this.#decoder.once('end', () => {
      this.#endOfBody()
      end()
    })
    this.#decoder.once('error', (error) => {
      if (how === 'complete') onError(error)
      this.#endOfBody()
      end()
    })
    this.#decoder.end()
  }

  /** The application leaves: it is told what it expects, and the answer is read on for its usage. */
  #leave(abort: Abort, reason: unknown, tell: (error: unknown) => void, resume: () => void): void {
    if (this.#isLeft) return
    const { finishLeftStreams } = this.#dependencies
    const isAnswered = this.#status >= 200 && this.#status < 400
    if (this.#isOver || !isAnswered || finishLeftStreams === false) {
      if (isAnswered) this.#over('abandoned')
      abort(reason)
      return
    }
    this.#isLeft = true
    this.#giveUp = abort
    this.#timer = setTimeout(() => this.#abandon(), finishLeftStreams.timeoutMs)
    this.#timer.unref()
    tell(
      reason ?? Object.assign(new Error('Request aborted'), { name: 'AbortError', code: 'UND_ERR_ABORTED' }),
    )
    resume()
  }

  #abandon(): void {
    if (this.#isOver) return
    this.#over('abandoned')
    this.#giveUp()
  }
}

function isHandler(handler: object): handler is Handler {
  return 'onRequestStart' in handler
}

/** Methods of a handler that are no concern of ours. */
function passedOn(handler: object): object {
  const names = [
    'onResponseStarted',
    'onUpgrade',
    'onRequestUpgrade',
    'onBodySent',
    'onRequestSent',
    'onInfo',
  ]
  return Object.fromEntries(
    names.flatMap((name) => {
      const method: unknown = Reflect.get(handler, name)
      return typeof method === 'function' ? [[name, method.bind(handler)]] : []
    }),
  )
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
  return value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value)
}

function createDecoder(encoding: string | null): ReturnType<typeof createGunzip> | undefined {
  switch (encoding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip()
    case 'deflate':
      return createInflate()
    case 'br':
      return createBrotliDecompress()
    case 'zstd':
      return createZstdDecompress()
    default:
      return undefined
  }
}
