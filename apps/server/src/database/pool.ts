import pg, { type Pool } from 'pg'
import type { Logger } from '../telemetry/log.ts'

/** Longest that one statement of a request may take; exports and jobs set their own. */
const STATEMENT_TIMEOUT_MS = 60_000
/** Longest wait for a connection until a request is answered with 503. */
const CONNECT_TIMEOUT_MS = 5_000
const IDLE_TIMEOUT_MS = 60_000

export interface PoolOptions {
  readonly url: string
  readonly maxConnections: number
  /** Shown in `pg_stat_activity`. */
  readonly applicationName: string
  /** The schema that unqualified names mean; `public` when absent. */
  readonly schema?: string
  readonly logger: Logger
}

/**
 * Makes a pool of connections. Values: `numeric`, `bigint` and `date` arrive as text (exact), `timestamptz` as
 * `Date`.
 * Connections that break while idle are logged and replaced; the pool heals when the database comes back.
 */
export function createPool(options: PoolOptions): Pool {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.maxConnections,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
    keepAlive: true,
    types: {
      getTypeParser: (oid, format) =>
        oid === pg.types.builtins.DATE ? asText : pg.types.getTypeParser(oid, format),
    },
    options: `-c TimeZone=UTC${options.schema === undefined ? '' : ` -c search_path=${options.schema}`}`,
  })
  // The job queues on the database share the pool, and each of them listens for its errors.
  pool.setMaxListeners(100)
  pool.on('error', (error) => options.logger.warn({ err: error }, 'a database connection broke'))
  // A connection that breaks while checked out also emits `error`; its query rejects, the event must not crash us.
  pool.on('connect', (client) => client.on('error', () => undefined))
  return pool
}

/** A calendar day is no instant: the driver would make it midnight in the process's own time zone. */
const asText = (value: string) => value
