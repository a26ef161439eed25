import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyBaseLogger, LogController } from 'fastify'
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { App } from './app.ts'
import { answerWithProblem } from './error-answer.ts'
import { PROBLEM_CONTENT_TYPE, Problem, problemSchema } from './problem.ts'

/** Of one part of a path, as sent: 512 characters of an id, each up to nine when percent-encoded. */
const PARAM_MAX_CHARS = 9 * 512

export interface AppOptions {
  readonly logger: Logger
  readonly metrics: Metrics
  /** Largest request body in bytes, as sent; a route may set a limit of its own. */
  readonly bodyMaxBytes: number
  readonly version: string
}

/**
 * Makes the HTTP application: validation by zod, errors as RFC 9457 problems, OpenAPI 3.1 at
 * `GET /openapi.json`, a readable page at `GET /docs`, request metrics and log lines.
 * Routes are registered afterwards; a `Listener` serves it.
 */
export async function createApp(options: AppOptions): Promise<App> {
  const loggerInstance: FastifyBaseLogger = options.logger
  const app = Fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: options.bodyMaxBytes,
    frameworkErrors: answerWithProblem,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: PARAM_MAX_CHARS },
  }).withTypeProvider<ZodTypeProvider>()

  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  app.setErrorHandler(answerWithProblem)
  app.setNotFoundHandler((request, reply) =>
    answerWithProblem(
      new Problem({
        code: 'not-found',
        detail: `No route answers ${request.method} ${pathOf(request.url)}.`,
      }),
      request,
      reply,
    ),
  )
  observeRequests(app, options)
  await describe(app, options.version)
  return app
}

/** Counts and times every request, and logs those that failed; the others only at level `debug`. */
function observeRequests(app: App, { logger, metrics }: Pick<AppOptions, 'logger' | 'metrics'>): void {
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unmatched'
    const status = reply.statusCode
    metrics.requestSeconds.observe({ route, method: request.method, status }, reply.elapsedTime / 1000)
    const level = status >= 500 ? 'warn' : status >= 400 ? 'info' : 'debug'
    if (!logger.isLevelEnabled(level)) return
    request.log[level](
      { method: request.method, path: pathOf(request.url), status, ms: Math.round(reply.elapsedTime) },
      'request',
    )
  })
}

/** Registers the OpenAPI document and its page; every asset is served from here. */
async function describe(app: App, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'TokenTally',
        version,
        description:
          'Usage and cost of LLM calls. Money is a decimal string in USD; ranges are `start` (included) and `end` (excluded); errors are RFC 9457 problem details.',
      },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer' },
          key: { type: 'apiKey', in: 'header', name: 'x-tokentally-key' },
        },
      },
    },
    transform: (input) => {
      const { schema } = input
      if (schema.hide === true) return jsonSchemaTransform(input)
      const transformed = jsonSchemaTransform({
        ...input,
        // Any route may answer with a problem; one that declares no answer has a body of its own kind.
        schema: {
          ...schema,
          response: { 200: z.null(), default: problemSchema, ...objectOf(schema.response) },
        },
      })
      const { scope } = input.route.config ?? {}
      return {
        ...transformed,
        schema: {
          ...transformed.schema,
          response: problemsByTheirType(objectOf(transformed.schema['response'])),
          ...(scope !== undefined && { security: [{ bearer: [] }, { key: [] }] }),
        },
      }
    },
  })
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    // A service inside a network often has no certificate: an upgrade would leave the page blank.
    transformStaticCSP: (header) => header.replace(/;? *upgrade-insecure-requests/, ''),
  })
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) => reply.send(app.swagger()))
}

/** Problems have a content type of their own. */
function problemsByTheirType(responses: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(responses).map(([status, schema]) =>
      status === 'default' || Number(status) >= 400
        ? [status, { description: 'A problem', content: { [PROBLEM_CONTENT_TYPE]: { schema } } }]
        : [status, schema],
    ),
  )
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

/** The path without its query, which may name customers. */
function pathOf(url: string): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}
