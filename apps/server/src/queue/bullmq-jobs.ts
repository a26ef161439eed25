import type { Logger } from '../telemetry/log.ts'
import type { JobStore, QueueHandle, WorkerHandle } from './job-store.ts'
import type { AddOptions, JobData, JobHandler, JobOptions, Jobs } from './jobs.ts'

const ATTEMPTS_DEFAULT = 5
const BACKOFF_FIRST_MS = 1_000
/** Failed jobs stay to be looked at: this many of a name, this long. */
const KEEP_FAILED = { count: 1_000, age: 7 * 24 * 3_600 }
/** A job whose process died is given to another one after about this long; running it twice does no harm. */
const STALLED_AFTER_MS = 15_000
/** How often a job may lose its process until it counts as failed. */
const STALLED_MAX = 20
/** How soon a worker tries again after the queue was away. */
const RECONNECT_MS = 1_000
/** While the queue is away every connection complains; one line per this time is enough. */
const COMPLAINT_EVERY_MS = 10_000

interface Definition {
  readonly handler: JobHandler
  readonly options: JobOptions
}

export interface BullmqJobsOptions {
  readonly logger: Logger
  /** See STALLED_AFTER_MS. */
  readonly stalledAfterMs?: number
  /** Wait before the first retry; doubles with each one. */
  readonly backoffFirstMs?: number
}

/** Jobs on BullMQ: a queue for each name, so that a slow kind of job never stands in another one's way. */
export class BullmqJobs implements Jobs {
  readonly #store: JobStore
  readonly #logger: Logger
  readonly #stalledAfterMs: number
  readonly #backoffFirstMs: number
  readonly #definitions = new Map<string, Definition>()
  readonly #queues = new Map<string, QueueHandle>()
  readonly #workers: WorkerHandle[] = []
  #prepared: Promise<void> | undefined
  #isStarted = false
  #stopped: Promise<void> | undefined
  #lastComplaintMs = 0

  constructor(store: JobStore, options: BullmqJobsOptions) {
    this.#store = store
    this.#logger = options.logger
    this.#stalledAfterMs = options.stalledAfterMs ?? STALLED_AFTER_MS
    this.#backoffFirstMs = options.backoffFirstMs ?? BACKOFF_FIRST_MS
  }

  define(name: string, handler: JobHandler, options: JobOptions = {}): void {
    if (this.#isStarted) throw new Error(`The job ${name} is defined after the jobs were started.`)
    if (this.#definitions.has(name)) throw new Error(`The job ${name} is defined twice.`)
    if (name.includes(':')) throw new Error(`The job name ${name} contains a colon.`)
    this.#definitions.set(name, { handler, options })
  }

  async add(name: string, data: JobData = {}, options: AddOptions = {}): Promise<void> {
    const queue = await this.#queue(name)
    await queue.add(name, data, {
      ...(options.delayMs === undefined ? {} : { delay: options.delayMs }),
      ...(options.dedupeId === undefined
        ? {}
        : { deduplication: { id: options.dedupeId.replaceAll(':', '-'), keepLastIfActive: true } }),
    })
  }

  async start(): Promise<void> {
    this.#isStarted = true
    await this.#prepare()
    for (const [name, { handler, options }] of this.#definitions) {
      if (options.everyMs !== undefined) {
        const queue = await this.#queue(name)
        await queue.upsertJobScheduler(name, { every: options.everyMs }, { name, data: {} })
      }
      const worker = this.#store.worker(name, async (job) => handler(job.data), {
        concurrency: options.concurrency ?? 1,
        lockDuration: this.#stalledAfterMs,
        stalledInterval: this.#stalledAfterMs,
        maxStalledCount: STALLED_MAX,
        runRetryDelay: RECONNECT_MS,
        drainDelay: 5,
      })
      worker.on('error', (error) => this.#complain(error))
      worker.on('failed', (job, error) => {
        const isLast = job === undefined || job.attemptsMade >= (job.opts.attempts ?? 1)
        this.#logger[isLast ? 'error' : 'warn'](
          { err: error, job: name, attempt: job?.attemptsMade },
          isLast ? 'a job failed' : 'a job will be tried again',
        )
      })
      this.#workers.push(worker)
    }
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()))
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    const workers = this.#workers.splice(0)
    await Promise.allSettled(workers.map((worker) => worker.close()))
    await Promise.allSettled([...this.#queues.values()].map((queue) => queue.close()))
    this.#queues.clear()
    await this.#store.close()
  }

  async depth(): Promise<number> {
    let depth = 0
    for (const [name, { options }] of this.#definitions) {
      const queue = await this.#queue(name)
      const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'prioritized')
      const jobs = Object.values(counts).reduce((sum, count) => sum + count, 0)
      // A schedule always keeps its next run as a delayed job; that is no work that waits.
      depth += options.everyMs === undefined ? jobs : Math.max(0, jobs - 1)
    }
    return depth
  }

  async ping(): Promise<void> {
    await this.#store.ping()
  }

  /** Prepares the store once; a failure is forgotten, so that the next caller tries again. */
  async #prepare(): Promise<void> {
    this.#prepared ??= this.#store.prepare().catch((error: unknown) => {
      this.#prepared = undefined
      throw error
    })
    await this.#prepared
  }

  async #queue(name: string): Promise<QueueHandle> {
    const definition = this.#definitions.get(name)
    if (definition === undefined) throw new Error(`The job ${name} is not defined.`)
    await this.#prepare()
    const known = this.#queues.get(name)
    if (known !== undefined) return known
    const { everyMs, attempts } = definition.options
    const queue = this.#store.queue(name, {
      defaultJobOptions: {
        // What runs on a schedule runs again anyway.
        attempts: attempts ?? (everyMs === undefined ? ATTEMPTS_DEFAULT : 1),
        backoff: { type: 'exponential', delay: this.#backoffFirstMs },
        removeOnComplete: true,
        removeOnFail: KEEP_FAILED,
      },
    })
    queue.on('error', (error) => this.#complain(error))
    this.#queues.set(name, queue)
    return queue
  }

  #complain(error: Error): void {
    const nowMs = Date.now()
    if (nowMs - this.#lastComplaintMs < COMPLAINT_EVERY_MS) return
    this.#lastComplaintMs = nowMs
    this.#logger.warn({ err: error }, 'the job queue has trouble; it goes on by itself')
  }
}
