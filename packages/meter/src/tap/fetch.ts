import type { RecognizedCall } from '@tokentally/providers'
import { enforcedFetch, type FetchRequest } from '../enforce/enforced-fetch.ts'
import { isDispatcher, tapDispatcher } from './dispatcher.ts'
import { Exchange } from './exchange.ts'
import {
  forgotten,
  guarded,
  insideTap,
  RETRY_COUNT,
  recognizeOnce,
  type TapDependencies,
  type Watched,
  watchedHere,
} from './tap.ts'

/**
 * Makes a `fetch` that meters what it recognizes and is the given `fetch` for all else. The answer is the
 * provider's, byte for byte and at the same pace; whatever fails here goes to `onError` and the call goes on.
 *
 * @param dependenciesOf undefined while metering is off
 * @param isNodes whether `original` is Node's own, which sends through undici's dispatchers
 */
export function tapFetch(
  original: typeof fetch,
  dependenciesOf: () => TapDependencies | undefined,
  isNodes = false,
): typeof fetch {
  // A function named fetch: stack traces and debuggers show what the application called.
  const tapped = function fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const dependencies = dependenciesOf()
    if (dependencies === undefined || watchedHere() !== undefined) return original(input, init)
    const call = guarded(dependencies, () => callOf(input, init, dependencies))
    if (call === undefined) return original(input, init)
    if (isNodes && isDispatcher(init?.dispatcher)) tapDispatcher(init.dispatcher, dependenciesOf)
    const { enforcer } = dependencies
    if (enforcer === undefined) return exchange(original, input, init, call, dependencies, isNodes)
    return enforcedFetch(enforcer, call, requestOf(input, init), (outgoing) =>
      exchange(original, input, outgoing, call, dependencies, isNodes),
    )
  }
  return tapped
}

function callOf(
  input: string | URL | Request,
  init: RequestInit | undefined,
  dependencies: TapDependencies,
): RecognizedCall | undefined {
  const method = init?.method ?? (input instanceof Request ? input.method : 'GET')
  return recognizeOnce(urlOf(input), method, dependencies)
}

function requestOf(input: string | URL | Request, init: RequestInit | undefined): FetchRequest {
  return {
    init,
    header: (name) => headerOf(input, init, name),
    bodyText: () => bodyTextOf(input, init),
    headers: () => new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined)),
  }
}

function urlOf(input: string | URL | Request): string {
  if (typeof input === 'string') return input
  return input instanceof URL ? input.href : input.url
}

/** Without `async`: it stands in the way of every call, and mostly has nothing to wait for. */
function exchange(
  original: typeof fetch,
  input: string | URL | Request,
  init: RequestInit | undefined,
  call: RecognizedCall,
  dependencies: TapDependencies,
  isNodes: boolean,
): Promise<Response> {
  const send = (bodyText: string | undefined) => {
    const prepared = guarded(dependencies, () => {
      const key = { url: urlOf(input), body: bodyText, retryCount: headerOf(input, init, RETRY_COUNT) }
      const exchange = new Exchange(key, call, dependencies, true)
      return { exchange, outgoing: rewritten(input, init, exchange) }
    })
    if (prepared === undefined) return original(input, init)
    const { exchange, outgoing } = prepared
    return isNodes
      ? sendByNode(original, input, outgoing, exchange, init?.signal ?? undefined)
      : sendByOther(original, input, outgoing, exchange, signalOf(input, init), dependencies)
  }
  const bodyText = guarded(dependencies, () => bodyTextOf(input, init))
  if (!(bodyText instanceof Promise)) return send(bodyText)
  return bodyText.then(send, (error: unknown) => {
    dependencies.onError(error)
    return original(input, init)
  })
}

/** Node's own fetch: the dispatcher's tap watches the answer, and sees to what becomes of it. */
function sendByNode(
  original: typeof fetch,
  input: string | URL | Request,
  outgoing: RequestInit | undefined,
  exchange: Exchange,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const watched: Watched = { exchange, isTaken: false }
  return insideTap
    .run(watched, () => original(input, outgoing))
    .then(
      (response) => {
        exchange.settle()
        return watched.isTaken ? response : withWatchedBody(response, exchange, signal)
      },
      (error: unknown) => {
        exchange.fail()
        throw error
      },
    )
}

/**
 * Any other fetch. The application's signal must not cut the transport below us: the answer may have to be read
 * on for its usage.
 */
async function sendByOther(
  original: typeof fetch,
  input: string | URL | Request,
  init: RequestInit | undefined,
  exchange: Exchange,
  signal: AbortSignal | undefined,
  dependencies: TapDependencies,
): Promise<Response> {
  const watched: Watched = { exchange, isTaken: false }
  const upstream = signal === undefined ? undefined : new AbortController()
  const forward = () => upstream?.abort(signal?.reason)
  if (signal?.aborted === true) forward()
  else signal?.addEventListener('abort', forward, { once: true })
  const outgoing = upstream === undefined ? init : { ...init, signal: upstream.signal }
  let response: Response
  try {
    response = await insideTap.run(watched, () => original(input, outgoing))
  } catch (error) {
    signal?.removeEventListener('abort', forward)
    exchange.fail()
    throw error
  }
  exchange.settle()
  if (watched.isTaken) {
    exchange.whenOver(() => signal?.removeEventListener('abort', forward))
    return response
  }
  signal?.removeEventListener('abort', forward)
  return guarded(dependencies, () => withWatchedBody(response, exchange, signal)) ?? response
}

function signalOf(input: string | URL | Request, init: RequestInit | undefined): AbortSignal | undefined {
  return init?.signal ?? (input instanceof Request ? input.signal : undefined)
}

/** The answer with a body that is watched as it is read. */
function withWatchedBody(response: Response, exchange: Exchange, signal: AbortSignal | undefined): Response {
  exchange.respond(response.status, (name) => response.headers.get(name), false)
  if (response.body !== null) return withBody(response, readThrough(response.body, exchange, signal))
  exchange.complete()
  return response
}

/** The request as it goes out. */
function rewritten(
  input: string | URL | Request,
  init: RequestInit | undefined,
  { rewrittenBody }: Exchange,
): RequestInit | undefined {
  if (rewrittenBody === undefined) return init
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined))
  headers.delete('content-length')
  // Nothing can be taken out of a compressed answer: it is asked for plain.
  headers.set('accept-encoding', 'identity')
  return { ...init, headers, body: rewrittenBody }
}

function headerOf(input: string | URL | Request, init: RequestInit | undefined, name: string): string | null {
  const headers = init?.headers ?? (input instanceof Request ? input.headers : undefined)
  if (headers === undefined) return null
  return (headers instanceof Headers ? headers : new Headers(headers)).get(name)
}

/** The request's text, read without taking it from the application. */
function bodyTextOf(
  input: string | URL | Request,
  init: RequestInit | undefined,
): string | undefined | Promise<string> {
  const body = init?.body
  if (typeof body === 'string') return body
  if (body instanceof Uint8Array)
    return Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8')
  if (body instanceof ArrayBuffer) return Buffer.from(body).toString('utf8')
  if (body instanceof FormData) return formText(body)
  if (body === undefined && input instanceof Request && input.body !== null) return input.clone().text()
  return undefined
}

/** The text fields of a form as JSON: a multipart body itself is made only while it is sent. */
function formText(form: FormData): string {
  const fields: Record<string, string> = {}
  for (const [name, value] of form) if (typeof value === 'string') fields[name] = value
  return JSON.stringify(fields)
}

/**
 * The body as the application gets it from a `fetch` that is not Node's own: one chunk is read from the
 * provider for each that is asked for, never ahead. When the application leaves (cancel, abort, or forgetting
 * the body), what is left is read in the background.
 */
export function readThrough(
  source: ReadableStream<Uint8Array<ArrayBuffer>>,
  exchange: Exchange,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  const reader = source.getReader()
  let isOver = false
  let controllerRef: WeakRef<ReadableByteStreamController> | undefined

  const over = () => {
    isOver = true
    signal?.removeEventListener('abort', abort)
  }
  const leave = (reason?: unknown) => {
    if (isOver) return
    over()
    const cancel = (why?: unknown) => void reader.cancel(why).catch(() => undefined)
    if (exchange.leave({ abort: cancel, resume: () => undefined })) {
      void drain(reader, exchange)
      return
    }
    // A failure whose body nobody wants to read, as an SDK's before it tries again, is over too.
    exchange.fail()
    cancel(reason)
  }
  const abort = () => {
    if (isOver) return
    controllerRef?.deref()?.error(signal?.reason)
    leave(signal?.reason)
  }

  const body = new ReadableStream(
    {
      type: 'bytes',
      start(controller) {
        controllerRef = new WeakRef(controller)
      },
      async pull(controller) {
        for (;;) {
          const chunk = await reader.read().catch((error: unknown) => {
            if (!isOver) {
              over()
              exchange.fail()
            }
            throw error
          })
          if (isOver) return
          if (chunk.done) {
            over()
            const rest = exchange.complete()
            if (rest !== undefined) controller.enqueue(new Uint8Array(rest))
            controller.close()
            controller.byobRequest?.respond(0)
            return
          }
          const visible = exchange.data(chunk.value)
          if (visible === undefined) continue
          // Memory of ours is copied: a byte stream takes over what it is given.
          controller.enqueue(visible === chunk.value ? chunk.value : new Uint8Array(visible))
          return
        }
      },
      cancel: leave,
    },
    { highWaterMark: 0 },
  )
  if (signal?.aborted === true) abort()
  else signal?.addEventListener('abort', abort, { once: true })
  forgotten.register(body, leave)
  return body
}

async function drain(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  exchange: Exchange,
): Promise<void> {
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) exchange.data(chunk.value)
    exchange.complete()
  } catch {
    // The provider hung up: what came until then counts, the rest is estimated.
    exchange.fail()
  }
}

/** The same answer with another body. `Response` offers no way to keep these three but to define them. */
function withBody(response: Response, body: ReadableStream<Uint8Array>): Response {
  const { status, statusText, headers } = response
  return describedAs(response, new Response(body, { status, statusText, headers }))
}

function describedAs(original: Response, copy: Response): Response {
  const { url, redirected, type } = original
  return Object.defineProperties(copy, {
    url: { value: url },
    redirected: { value: redirected },
    type: { value: type },
    clone: { value: () => describedAs(original, Response.prototype.clone.call(copy)) },
  })
}
