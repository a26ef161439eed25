import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'

/** The HTTP application that rooms register their routes on; schemas are zod schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>

/** What an API key may do. `admin` implies all others. */
export type Scope = 'ingest' | 'read' | 'write' | 'admin'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The scope that a caller's key needs, or one of several. A route without it is public. */
    scope?: Scope | readonly Scope[]
  }
  interface FastifyRequest {
    /** The caller's organization (a uuid); set before the handler of every route that declares a `scope`. */
    organizationId: string
    /** The caller's API key (a uuid); set together with the organization. */
    apiKeyId: string
  }
}
