import {
  createPostgresBackend,
  isPgPool,
  type JobsOptions,
  type JobType,
  Queue,
  type QueueOptions,
  runMigrations,
  Worker,
  type WorkerOptions,
} from 'bullmq'
import { createPool } from '../database/pool.ts'
import type { Logger } from '../telemetry/log.ts'
import type { JobData } from './jobs.ts'

/** BullMQ's tables live in a schema of their own. */
const POSTGRES_SCHEMA = 'bullmq'
/** Connections beside those that listen for jobs. */
const POSTGRES_SPARE_CONNECTIONS = 4

type WithoutConnection<T> = Omit<T, 'connection'>

/** Where BullMQ keeps its jobs; makes queues and workers on it. */
export interface JobStore {
  /** Creates what the store needs; safe to repeat and from many processes at once. */
  prepare(): Promise<void>
  queue(name: string, options: WithoutConnection<QueueOptions>): QueueHandle
  worker(
    name: string,
    processor: (job: { readonly name: string; readonly data: JobData }) => Promise<void>,
    options: WithoutConnection<WorkerOptions>,
  ): WorkerHandle
  /** @throws if the store does not answer */
  ping(): Promise<void>
  close(): Promise<void>
}

/** What is used of a BullMQ queue, whichever store it is on. */
export interface QueueHandle {
  add(name: string, data: JobData, options: JobsOptions): Promise<unknown>
  upsertJobScheduler(
    id: string,
    repeat: { every: number },
    template: { name: string; data: JobData; opts: JobsOptions },
  ): Promise<unknown>
  getJobCounts(...states: JobType[]): Promise<Record<string, number>>
  on(event: 'error', listener: (error: Error) => void): unknown
  close(): Promise<void>
}

/** What is used of a BullMQ worker, whichever store it is on. */
export interface WorkerHandle {
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'failed', listener: (job: FailedJob | undefined, error: Error) => void): unknown
  waitUntilReady(): Promise<unknown>
  close(): Promise<void>
}

/** A job whose handler threw. */
export interface FailedJob {
  readonly name: string
  readonly attemptsMade: number
  readonly opts: { readonly attempts?: number }
}

/** Jobs on Redis 7 or newer. Handlers wait for a lost Redis to come back; callers of `add` are told after a moment. */
export function createRedisStore(url: string): JobStore {
  const producer = { url, maxRetriesPerRequest: 3 }
  const consumer = { url, maxRetriesPerRequest: null }
  let probe: Queue<JobData> | undefined
  return {
    prepare: async () => undefined,
    queue: (name, options) => new Queue<JobData>(name, { ...options, connection: producer }),
    worker: (name, processor, options) =>
      new Worker<JobData, void>(name, processor, { ...options, connection: consumer }),
    async ping() {
      if (probe === undefined) {
        probe = new Queue<JobData>('ping', { connection: producer, skipMetasUpdate: true })
        probe.on('error', () => undefined)
      }
      await probe.count()
    },
    close: async () => probe?.close(),
  }
}

/** Jobs on the service's own PostgreSQL, through a small pool of its own: waiting workers hold connections. */
export function createPostgresStore(options: {
  readonly url: string
  /** How many workers may listen in this process. */
  readonly maxWorkers: number
  readonly logger: Logger
}): JobStore {
  const pool = createPool({
    url: options.url,
    maxConnections: options.maxWorkers + POSTGRES_SPARE_CONNECTIONS,
    applicationName: 'tokentally jobs',
    schema: POSTGRES_SCHEMA,
    logger: options.logger,
  })
  // The two packages' type declarations differ in wording only; BullMQ's own check bridges them.
  const connection: unknown = pool
  if (!isPgPool(connection)) throw new Error('BullMQ does not recognize the connection pool.')
  return {
    async prepare() {
      const client = await pool.connect()
      try {
        await runMigrations(client, POSTGRES_SCHEMA)
      } finally {
        client.release()
      }
    },
    queue: (name, settings) => new Queue(name, { ...settings, connection }, createPostgresBackend),
    worker: (name, processor, settings) =>
      new Worker(name, processor, { ...settings, connection }, createPostgresBackend),
    async ping() {
      await pool.query('select 1')
    },
    close: async () => pool.end(),
  }
}
