import { createReader, type RecognizedCall } from '@tokentally/providers'
import { type Attempt, MeteredCall } from '../call.ts'
import {
  attempts,
  guarded,
  insideTap,
  mayBeRecognized,
  recognizeSafely,
  type TapDependencies,
} from './tap.ts'

/**
 * Makes a `fetch` that meters what it recognizes and is the given `fetch` for all else. The answer is the
 * provider's, byte for byte and at the same pace; whatever fails here goes to `onError` and the call goes on.
 *
 * @param dependenciesOf undefined while metering is off
 */
export function tapFetch(
  original: typeof fetch,
  dependenciesOf: () => TapDependencies | undefined,
): typeof fetch {
  // A function named fetch: stack traces and debuggers show what the application called.
  const tapped = function fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const dependencies = dependenciesOf()
    if (dependencies === undefined || insideTap.getStore() === true) return original(input, init)
    const call = guarded(dependencies, () => callOf(input, init, dependencies))
    return call === undefined ? original(input, init) : exchange(original, input, init, call, dependencies)
  }
  return tapped
}

function callOf(
  input: string | URL | Request,
  init: RequestInit | undefined,
  dependencies: TapDependencies,
): RecognizedCall | undefined {
  const url = urlOf(input)
  if (!mayBeRecognized(url)) return undefined
  return recognizeSafely(url, init?.method ?? (input instanceof Request ? input.method : 'GET'), dependencies)
}

function urlOf(input: string | URL | Request): string {
  if (typeof input === 'string') return input
  return input instanceof URL ? input.href : input.url
}

/** The request as it goes out, and what watches it. */
interface Outgoing {
  readonly metered: MeteredCall
  readonly attempt: Attempt
  readonly key: { readonly url: string; readonly body: string | undefined }
  readonly init: RequestInit | undefined
}

async function exchange(
  original: typeof fetch,
  input: string | URL | Request,
  init: RequestInit | undefined,
  call: RecognizedCall,
  dependencies: TapDependencies,
): Promise<Response> {
  let outgoing: Outgoing
  try {
    outgoing = await prepare(input, init, call, dependencies)
  } catch (error) {
    dependencies.onError(error)
    return original(input, init)
  }
  const { metered, attempt, key } = outgoing
  const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined)
  // The application's signal must not cut the stream below us: it may have to be finished for its usage.
  const upstream = signal === undefined || signal === null ? undefined : new AbortController()
  const forward = () => upstream?.abort(signal?.reason)
  if (signal?.aborted === true) forward()
  else signal?.addEventListener('abort', forward, { once: true })

  let response: Response
  try {
    response = await insideTap.run(true, () =>
      original(input, upstream === undefined ? outgoing.init : { ...outgoing.init, signal: upstream.signal }),
    )
  } catch (error) {
    signal?.removeEventListener('abort', forward)
    attempts.failed(key, attempt, dependencies.now())
    metered.fail()
    throw error
  }
  try {
    if (response.status >= 400) attempts.failed(key, attempt, dependencies.now())
    metered.respond(response.status, (name) => response.headers.get(name))
    if (response.body === null) {
      metered.endOfBody()
      metered.end('complete')
      return response
    }
    signal?.removeEventListener('abort', forward)
    return withBody(response, readThrough(response.body, metered, signal ?? undefined, dependencies))
  } catch (error) {
    dependencies.onError(error)
    return response
  }
}

async function prepare(
  input: string | URL | Request,
  init: RequestInit | undefined,
  call: RecognizedCall,
  dependencies: TapDependencies,
): Promise<Outgoing> {
  const bodyText = await bodyTextOf(input, init)
  const reader = createReader(call, { bodyText, injectStreamUsage: dependencies.injectStreamUsage })
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined))
  const key = { url: urlOf(input), body: bodyText }
  const attempt = attempts.next(
    { ...key, retryCount: headers.get('x-stainless-retry-count') },
    dependencies.now(),
  )
  const metered = new MeteredCall(dependencies, call, reader, attempt)
  if (reader.rewrittenBody === undefined) return { metered, attempt, key, init }
  headers.delete('content-length')
  return { metered, attempt, key, init: { ...init, headers, body: reader.rewrittenBody } }
}

/** The request's text, read without taking it from the application. */
async function bodyTextOf(
  input: string | URL | Request,
  init: RequestInit | undefined,
): Promise<string | undefined> {
  const body = init?.body
  if (typeof body === 'string') return body
  if (body instanceof Uint8Array)
    return Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8')
  if (body instanceof ArrayBuffer) return Buffer.from(body).toString('utf8')
  if (body === undefined && input instanceof Request && input.body !== null) return input.clone().text()
  return undefined
}

/** A left stream that nobody else refers to any more is finished when its body is collected. */
const forgotten = new FinalizationRegistry<() => void>((finish) => finish())

/**
 * The body as the application gets it: one chunk is read from the provider for each that is asked for, never
 * ahead. When the application leaves (cancel, abort, or forgetting the body), what is left is read in the
 * background up to the limits, because its end tells the usage.
 */
function readThrough(
  source: ReadableStream<Uint8Array<ArrayBuffer>>,
  metered: MeteredCall,
  signal: AbortSignal | undefined,
  dependencies: TapDependencies,
): ReadableStream<Uint8Array> {
  const reader = source.getReader()
  let isOver = false
  let controllerRef: WeakRef<ReadableByteStreamController> | undefined

  const over = () => {
    isOver = true
    signal?.removeEventListener('abort', abort)
  }
  const leave = () => {
    if (isOver) return
    over()
    finishInBackground(reader, metered, dependencies).catch(dependencies.onError)
  }
  const abort = () => {
    if (isOver) return
    controllerRef?.deref()?.error(signal?.reason)
    leave()
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
              guarded(dependencies, () => metered.endOfBody())
              metered.end('dropped')
            }
            throw error
          })
          if (isOver) return
          if (chunk.done) {
            over()
            const rest = guarded(dependencies, () => metered.endOfBody())
            if (rest !== undefined && rest.length > 0) controller.enqueue(new Uint8Array(rest))
            controller.close()
            controller.byobRequest?.respond(0)
            metered.end('complete')
            return
          }
          const visible = guarded(dependencies, () => metered.push(chunk.value)) ?? chunk.value
          if (visible.length === 0) continue
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

async function finishInBackground(
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  metered: MeteredCall,
  { finishLeftStreams }: TapDependencies,
): Promise<void> {
  if (finishLeftStreams === false) {
    metered.end('abandoned')
    await reader.cancel()
    return
  }
  const timeout = Promise.withResolvers<'timeout'>()
  const timer = setTimeout(() => timeout.resolve('timeout'), finishLeftStreams.timeoutMs)
  timer.unref()
  let bytes = 0
  try {
    for (;;) {
      const chunk = await Promise.race([reader.read(), timeout.promise])
      if (chunk === 'timeout' || bytes > finishLeftStreams.bytesMax) {
        metered.end('abandoned')
        await reader.cancel()
        return
      }
      if (chunk.done) {
        metered.endOfBody()
        metered.end('complete')
        return
      }
      bytes += chunk.value.length
      metered.push(chunk.value)
    }
  } catch {
    // The provider hung up: what came until then counts, the rest is estimated.
    metered.end('dropped')
  } finally {
    clearTimeout(timer)
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
