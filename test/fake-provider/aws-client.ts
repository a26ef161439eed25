import { request as httpRequest } from 'node:http'
import { connect } from 'node:http2'
import { Readable } from 'node:stream'

/**
 * A client of the shape of the AWS SDK v3's: a stack of middleware as `@smithy/middleware-stack` documents it, with
 * retries at `finalizeRequest`, and a deserializer and the transport behind it. It stands in for the SDK where
 * that is not installed.
 */

interface Arguments {
  readonly request: unknown
}
interface Outcome {
  readonly response: unknown
  readonly output?: unknown
}
type Handler = (args: Arguments) => Promise<Outcome>
type Middleware = (next: Handler, context: unknown) => Handler
interface Options {
  readonly step?: string
  readonly priority?: string
  readonly name?: string
  readonly override?: boolean
}

const STEPS = ['initialize', 'serialize', 'build', 'finalizeRequest', 'deserialize']
const PRIORITIES = ['high', 'normal', 'low']

/** Middleware by step, then by priority, then as it was added; a name is there once. */
export class MiddlewareStack {
  #entries: (Options & { readonly middleware: Middleware })[] = []

  add(middleware: Middleware, options: Options = {}): void {
    const { name } = options
    if (name !== undefined && this.#entries.some((entry) => entry.name === name)) {
      if (options.override !== true) throw new Error(`Duplicate middleware name '${name}'`)
      this.#entries = this.#entries.filter((entry) => entry.name !== name)
    }
    this.#entries.push({ ...options, middleware })
  }

  concat(other: MiddlewareStack): MiddlewareStack {
    const both = new MiddlewareStack()
    both.#entries = [...this.#entries, ...other.#entries]
    return both
  }

  resolve(handler: Handler, context: unknown): Handler {
    const rank = ({ step = 'initialize', priority = 'normal' }: Options) =>
      STEPS.indexOf(step) * PRIORITIES.length + PRIORITIES.indexOf(priority)
    return this.#entries
      .toSorted((a, b) => rank(a) - rank(b))
      .reduceRight((next, { middleware }) => middleware(next, context), handler)
  }
}

/** `HttpRequest` of `@smithy/protocol-http`. */
export interface HttpRequest {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Uint8Array
}

/** `HttpResponse` of `@smithy/protocol-http`. */
export interface HttpResponse {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, unknown>>
  body: unknown
}

export class BedrockRuntimeClient {
  readonly middlewareStack = new MiddlewareStack()
  readonly #transport: (request: HttpRequest) => Promise<HttpResponse>
  readonly #attemptsMax: number

  constructor(transport: (request: HttpRequest) => Promise<HttpResponse>, attemptsMax = 3) {
    this.#transport = transport
    this.#attemptsMax = attemptsMax
  }

  /** Sends a command: its own middleware are the deserializer, which hands out the body as it finds it, and retries. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    const command = new MiddlewareStack()
    command.add(
      (next) => async (args) => {
        for (let attempt = 1; ; attempt++) {
          const headers = {
            ...request.headers,
            'amz-sdk-invocation-id': 'invocation-1',
            'amz-sdk-request': `attempt=${attempt}; max=${this.#attemptsMax}`,
          }
          const outcome = await next({ ...args, request: { ...request, headers } })
          const { response } = outcome
          if (!isHttpResponse(response) || response.statusCode < 429 || attempt === this.#attemptsMax)
            return outcome
        }
      },
      { step: 'finalizeRequest', priority: 'high', name: 'retryMiddleware' },
    )
    command.add(
      (next) => async (args) => {
        const { response } = await next(args)
        // The deserializer reads a failure to its end, to name it.
        if (isHttpResponse(response) && response.statusCode >= 300 && response.body instanceof Readable) {
          await response.body.toArray()
        }
        return { response, output: isHttpResponse(response) ? response.body : undefined }
      },
      { step: 'deserialize', name: 'deserializerMiddleware' },
    )
    const transport: Handler = async (args) => {
      if (!isHttpRequest(args.request)) throw new TypeError('no request')
      return { response: await this.#transport(args.request) }
    }
    const context = { clientName: 'BedrockRuntimeClient', commandName: 'ConverseStreamCommand' }
    const { response, output } = await this.middlewareStack.concat(command).resolve(transport, context)({
      request,
    })
    if (!isHttpResponse(response)) throw new TypeError('no response')
    return { ...response, body: output }
  }
}

function isHttpRequest(value: unknown): value is HttpRequest {
  return typeof value === 'object' && value !== null && 'hostname' in value && 'path' in value
}

function isHttpResponse(value: unknown): value is HttpResponse {
  return typeof value === 'object' && value !== null && 'statusCode' in value
}

/** As `NodeHttpHandler`. */
export function overHttp(port: number) {
  return ({ method, path, headers, body }: HttpRequest) =>
    new Promise<HttpResponse>((resolve, reject) => {
      const request = httpRequest({ host: '127.0.0.1', port, method, path, headers }, (response) =>
        resolve({ statusCode: response.statusCode ?? -1, headers: response.headers, body: response }),
      )
      request.on('error', reject)
      request.end(body)
    })
}

/** As `NodeHttp2Handler`: the body is the stream itself. */
export function overHttp2(port: number) {
  return ({ method, path, headers, body }: HttpRequest) =>
    new Promise<HttpResponse>((resolve, reject) => {
      const session = connect(`http://127.0.0.1:${port}`)
      session.on('error', reject)
      const stream: Readable & ReturnType<typeof session.request> = session.request({
        ':method': method,
        ':path': path,
        ...headers,
      })
      stream.on('error', reject)
      stream.on('close', () => session.close())
      stream.on('response', (answered) =>
        resolve({ statusCode: answered[':status'] ?? -1, headers: answered, body: stream }),
      )
      stream.end(body)
    })
}
