import { Readable } from 'node:stream'
import { type EndpointMapping, mayBeCall, type RecognizedCall, recognize } from '@tokentally/providers'
import { Exchange } from './exchange.ts'
import { readThrough } from './fetch.ts'
import { forgotten, guarded, insideTap, recognizeOnce, type TapDependencies, type Watched } from './tap.ts'

/**
 * Metering of the AWS SDK for JavaScript v3, which sends Bedrock's calls over `node:http2` and so past every tap
 * of `fetch`. Its clients pass each attempt through a stack of middleware (`@smithy/types` 4, `middleware.ts`); the
 * tap is the last before the transport, where requests are signed and answers not yet read. The types here are of
 * that shape, so that the SDK itself is not needed.
 */

/** A client of the AWS SDK, as far as it is needed. */
export interface AwsClient {
  readonly middlewareStack: {
    add(middleware: AwsMiddleware, options: AwsMiddlewareOptions): void
  }
}

/** Where a middleware stands: `deserialize` is the step of each attempt's answer, `low` the place next to the transport. */
export interface AwsMiddlewareOptions {
  readonly step: 'deserialize'
  readonly priority: 'low'
  readonly name: string
  /** Replace a middleware of that name instead of failing. */
  readonly override: boolean
}

/** What a handler of this step takes: the request as it goes out, an `HttpRequest`. */
export interface AwsArguments {
  readonly request: unknown
}

/** What it answers: the answer as it comes in, an `HttpResponse`. */
export interface AwsOutcome {
  readonly response: unknown
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
  const middleware: AwsMiddleware = (next, context) => (args) => {
    const dependencies = dependenciesOf()
    if (dependencies === undefined || insideTap.getStore() !== undefined) return next(args)
    const exchange = guarded(dependencies, () => exchangeOf(args.request, context, dependencies))
    return exchange === undefined ? next(args) : send(next, args, exchange, dependencies)
  }
  middlewareStack.add(middleware, {
    step: 'deserialize',
    priority: 'low',
    name: 'tokenTallyMeter',
    override: true,
  })
}

function exchangeOf(request: unknown, context: unknown, dependencies: TapDependencies): Exchange | undefined {
  const url = urlOf(request)
  if (url === undefined || !mayBeCall(url)) return undefined
  const method = textField(request, 'method') ?? 'GET'
  const call = recognizeOnce(url, method, dependencies) ?? recognizeOwn(url, method, context)
  if (call === undefined) return undefined
  const headers = fieldOf(request, 'headers')
  // The same for all attempts of a call, which are numbered from 1.
  const invocation = textField(headers, 'amz-sdk-invocation-id') ?? ''
  const attempt = /attempt=(\d+)/.exec(textField(headers, 'amz-sdk-request') ?? '')?.[1]
  const key = {
    url: `${url}#${invocation}`,
    body: bodyText(fieldOf(request, 'body')),
    retryCount: attempt === undefined ? null : String(Number(attempt) - 1),
  }
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
 * The same bytes at the same pace: a chunk is read from the transport for each that is asked for, never ahead.
 * When the application leaves, what is left is read in the background as far as the limits allow.
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

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
