import { Readable } from 'node:stream'
import { type EndpointMapping, mayBeCall, type RecognizedCall, recognize } from '@tokentally/providers'
import { Exchange } from './exchange.ts'
import { readThrough } from './fetch.ts'
import { setOwn } from './own-method.ts'
import { requestKey } from './request-key.ts'
import {
  forgotten,
  guarded,
  insideTap,
  recognizeOnce,
  type TapDependencies,
  type Watched,
  watchedHere,
} from './tap.ts'
import { leaveOpen, onLeftOpen } from './watched-body.ts'

/**
 * Explicit metering of the AWS SDK for JavaScript v3, for what the taps of `node:http`, `node:http2` and `fetch`
 * cannot know: that a client of Bedrock speaks to an address which is not AWS's, and that a stream is left.
 *
 * Its clients pass each attempt through a stack of middleware (`@smithy/types` 4, `middleware.ts`). One of ours is
 * the last before the transport (step `deserialize`), where requests are signed and answers not yet read; where the
 * transport is tapped itself, that tap watches the answer. Another one (step `initialize`) sees what the
 * application gets. The SDK neither reads on nor closes a stream that is left by `break` or `return`, and whoever
 * loops over it again goes on where it stopped: so it is not closed here either, but read ahead into the answer's
 * own buffer.
 *
 * The types here are of the SDK's shape, so that the SDK itself is not needed.
 */

/** A client of the AWS SDK, as far as it is needed. */
export interface AwsClient {
  readonly middlewareStack: {
    add(middleware: AwsMiddleware, options: AwsMiddlewareOptions): void
  }
}

/**
 * Where a middleware stands: `deserialize` is the step of each attempt's answer, `low` the place next to the
 * transport; `initialize` is the step of the whole command, `high` the place next to the application.
 */
export interface AwsMiddlewareOptions {
  readonly step: 'deserialize' | 'initialize'
  readonly priority: 'low' | 'high'
  readonly name: string
  /** Replace a middleware of that name instead of failing. */
  readonly override: boolean
}

/** What a handler of this step takes: the request as it goes out, an `HttpRequest`. */
export interface AwsArguments {
  readonly request: unknown
}

/** What it answers: the answer as it comes in, an `HttpResponse`, and what the application gets of it. */
export interface AwsOutcome {
  readonly response: unknown
  readonly output?: unknown
}

export type AwsHandler = (args: AwsArguments) => Promise<AwsOutcome>
export type AwsMiddleware = (next: AwsHandler, context: unknown) => AwsHandler

/** Whether something is a client of the AWS SDK v3. */
export function isAwsClient(client: object): client is AwsClient {
  return 'middlewareStack' in client && typeof fieldOf(client.middlewareStack, 'add') === 'function'
}

/**
 * Meters an AWS client from now on; calls to other services than Bedrock pass through.
 *
 * @param dependenciesOf undefined while metering is off
 */
export function tapAwsClient(
  { middlewareStack }: AwsClient,
  dependenciesOf: () => TapDependencies | undefined,
): void {
  /** The body of a command's last answer, by the command's context. */
  const bodies = new WeakMap<object, object>()
  const attempt: AwsMiddleware = (next, context) => async (args) => {
    const dependencies = dependenciesOf()
    if (dependencies === undefined || watchedHere() !== undefined) return next(args)
    const refusal = guarded(dependencies, () => refusalOf(args.request, context, dependencies))
    if (refusal !== undefined) throw refusal
    const exchange = guarded(dependencies, () => exchangeOf(args.request, context, dependencies))
    if (exchange === undefined) return next(args)
    const outcome = await send(next, args, exchange, dependencies)
    const body = fieldOf(outcome.response, 'body')
    if (isObject(context) && isObject(body)) bodies.set(context, body)
    return outcome
  }
  const command: AwsMiddleware = (next, context) => async (args) => {
    const outcome = await next(args)
    const body = isObject(context) ? bodies.get(context) : undefined
    const dependencies = dependenciesOf()
    if (body !== undefined && dependencies !== undefined) {
      guarded(dependencies, () => noticeLeaving(outcome.output, body, dependencies))
    }
    return outcome
  }
  middlewareStack.add(attempt, {
    step: 'deserialize',
    priority: 'low',
    name: 'tokenTallyMeter',
    override: true,
  })
  middlewareStack.add(command, {
    step: 'initialize',
    priority: 'high',
    name: 'tokenTallyMeterOfStreams',
    override: true,
  })
}

/** Streams of events are members of the output that can be looped over: `stream` of Converse, `body` of InvokeModel. */
function noticeLeaving(output: unknown, body: object, dependencies: TapDependencies): void {
  for (const name of ['stream', 'body']) {
    const stream = fieldOf(output, name)
    if (!isObject(stream) || stream === body) continue
    const iterate: unknown = Reflect.get(stream, Symbol.asyncIterator)
    if (typeof iterate !== 'function') continue
    Object.defineProperty(stream, Symbol.asyncIterator, {
      configurable: true,
      enumerable: false,
      writable: true,
      value: () => {
        const iterator: unknown = Reflect.apply(iterate, stream, [])
        if (isObject(iterator)) guarded(dependencies, () => noticeEnd(iterator, body, dependencies))
        return iterator
      },
    })
  }
}

/** Tells of a loop that ends before its stream does. */
function noticeEnd(iterator: object, body: object, dependencies: TapDependencies): void {
  for (const leaving of ['return', 'throw']) {
    const original: unknown = Reflect.get(iterator, leaving)
    if (typeof original !== 'function') continue
    setOwn(iterator, leaving, (...args) => {
      guarded(dependencies, () => leaveOpen(body))
      return Reflect.apply(original, iterator, args)
    })
  }
}

function callOf(request: unknown, context: unknown, dependencies: TapDependencies) {
  const url = urlOf(request)
  if (url === undefined || !mayBeCall(url)) return undefined
  const method = textField(request, 'method') ?? 'GET'
  const call = recognizeOnce(url, method, dependencies) ?? recognizeOwn(url, method, context)
  return call && { url, call }
}

/** Each attempt is asked for. The SDK does not retry what it is thrown here, and hands it on as it is. */
function refusalOf(request: unknown, context: unknown, dependencies: TapDependencies): Error | undefined {
  const { enforcer } = dependencies
  const recognized = enforcer && callOf(request, context, dependencies)
  if (enforcer === undefined || recognized === undefined) return undefined
  // A request of AWS's is signed by now: it cannot be changed.
  const verdict = enforcer.judge(recognized.call, bodyText(fieldOf(request, 'body')), false)
  return verdict.kind === 'refused' ? verdict.error : undefined
}

function exchangeOf(request: unknown, context: unknown, dependencies: TapDependencies): Exchange | undefined {
  const recognized = callOf(request, context, dependencies)
  if (recognized === undefined) return undefined
  const { url, call } = recognized
  const headers = fieldOf(request, 'headers')
  const key = requestKey(url, bodyText(fieldOf(request, 'body')), (name) => headerOf(headers, name))
  return new Exchange(key, call, dependencies, false)
}

/** A call of Bedrock's own client to an address that is not AWS's: a proxy, a test's server. */
function recognizeOwn(url: string, method: string, context: unknown): RecognizedCall | undefined {
  if (textField(context, 'clientName') !== 'BedrockRuntimeClient') return undefined
  const parsed = new URL(url)
  const endpoint: EndpointMapping = {
    origin: parsed.origin,
    path: '',
    format: 'bedrock',
    provider: 'aws.bedrock',
  }
  return recognize(parsed, method.toUpperCase(), [endpoint])
}

async function send(
  next: AwsHandler,
  args: AwsArguments,
  exchange: Exchange,
  dependencies: TapDependencies,
): Promise<AwsOutcome> {
  const watched: Watched = { exchange, isTaken: false }
  let outcome: AwsOutcome
  try {
    outcome = await insideTap.run(watched, () => next(args))
  } catch (error) {
    exchange.fail()
    throw error
  }
  // A transport that is tapped itself has watched the answer already.
  if (!watched.isTaken) guarded(dependencies, () => watch(outcome.response, exchange))
  return outcome
}

/** Puts a body that is watched in the place of the answer's own: whoever reads the answer comes after. */
function watch(response: unknown, exchange: Exchange): void {
  const status = fieldOf(response, 'statusCode')
  if (typeof response !== 'object' || response === null || typeof status !== 'number') {
    exchange.fail()
    return
  }
  const headers = fieldOf(response, 'headers')
  const body = fieldOf(response, 'body')
  const isWeb = body instanceof ReadableStream
  // A body from `fetch` is decoded already.
  exchange.respond(status, (name) => headerOf(headers, name), !isWeb)
  if (body instanceof Readable) Reflect.set(response, 'body', watchedReadable(body, exchange))
  else if (isWeb) Reflect.set(response, 'body', readThrough(body, exchange, undefined))
  else {
    const bytes = typeof body === 'string' ? Buffer.from(body) : body
    if (bytes instanceof Uint8Array) exchange.data(bytes)
    exchange.complete()
  }
}

/**
 * For a transport that is not Node's own. The same bytes at the same pace: a chunk is read from the transport for
 * each that is asked for, never ahead. When the application closes the body, what is left is read in the
 * background, when it merely leaves it, ahead, both as far as the limits allow.
 */
function watchedReadable(source: Readable, exchange: Exchange): Readable {
  const chunks: AsyncIterator<unknown> = source.iterator({ destroyOnReturn: false })
  let isOver = false

  const leave = () => {
    if (isOver) return
    isOver = true
    const abort = () => void source.destroy()
    if (exchange.leave({ abort, resume: () => undefined })) void drain(chunks, exchange)
    else abort()
  }
  // Given the body, not closing over it: what the registry keeps must not keep the body.
  const pull = async (body: Readable) => {
    for (;;) {
      const next = await chunks.next().catch((error: unknown) => {
        isOver = true
        exchange.fail()
        throw error
      })
      if (isOver) {
        if (next.done !== true) seen(next.value, exchange)
        return
      }
      if (next.done === true) {
        isOver = true
        const rest = exchange.complete()
        if (rest !== undefined) body.push(rest)
        body.push(null)
        return
      }
      const visible = seen(next.value, exchange)
      if (visible === undefined) continue
      body.push(visible)
      return
    }
  }
  const body = new Readable({
    highWaterMark: 0,
    read() {
      pull(this).catch((error: unknown) => this.destroy(error instanceof Error ? error : undefined))
    },
    destroy(error, callback) {
      leave()
      callback(error)
    },
  })
  forgotten.register(body, leave)
  onLeftOpen(body, () => {
    let isAhead = true
    const stop = () => {
      isAhead = false
    }
    if (isOver || !exchange.readAhead({ abort: stop, resume: () => undefined })) return
    const readOn = async () => {
      while (isAhead && !isOver) await pull(body)
    }
    readOn().catch((error: unknown) => body.destroy(error instanceof Error ? error : undefined))
  })
  return body
}

async function drain(chunks: AsyncIterator<unknown>, exchange: Exchange): Promise<void> {
  try {
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
      seen(next.value, exchange)
    }
    exchange.complete()
  } catch {
    // The provider hung up: what came until then counts, the rest is estimated.
    exchange.fail()
  }
}

/** Shows a chunk to the meter. @returns what the application may see of it */
function seen(chunk: unknown, exchange: Exchange): unknown {
  if (chunk instanceof Uint8Array) return exchange.data(chunk)
  if (typeof chunk === 'string') exchange.data(Buffer.from(chunk))
  return chunk
}

function urlOf(request: unknown): string | undefined {
  const host = textField(request, 'hostname')
  const path = textField(request, 'path')
  if (host === undefined || path === undefined) return undefined
  const port = fieldOf(request, 'port')
  return `${textField(request, 'protocol') ?? 'https:'}//${host}${typeof port === 'number' ? `:${port}` : ''}${path}`
}

function bodyText(body: unknown): string | undefined {
  if (typeof body === 'string') return body
  return body instanceof Uint8Array
    ? Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8')
    : undefined
}

/** Names of headers are in lower case where `node:http(s)` made them; other transports keep them as they came. */
function headerOf(headers: unknown, name: string): string | null {
  const own = textField(headers, name)
  if (own !== undefined || typeof headers !== 'object' || headers === null) return own ?? null
  const spelled = Object.keys(headers).find((key) => key.toLowerCase() === name)
  return spelled === undefined ? null : (textField(headers, spelled) ?? null)
}

function textField(value: unknown, name: string): string | undefined {
  const field = fieldOf(value, name)
  return typeof field === 'string' ? field : undefined
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
