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

/** The queue that chores share, and how many of them one process runs at once. */
const CHORES = 'chores'
const CHORES_AT_ONCE = 3

/**
 * Jobs on BullMQ: a queue for each name, so that a slow kind of job never stands in another one's way; and one for
 * all chores, because each queue costs a listening connection.
 */
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
    if (name === CHORES) throw new Error(`The job name ${name} is that of a queue.`)
    if (name.includes(':')) throw new Error(`The job name ${name} contains a colon.`)
    this.#definitions.set(name, { handler, options })
  }

  async add(name: string, data: JobData = {}, options: AddOptions = {}): Promise<void> {
    const { queue, definition } = await this.#queueOf(name)
    await queue.add(name, data, {
      attempts: attemptsOf(definition),
      ...(options.delayMs === undefined ? {} : { delay: options.delayMs }),
      ...(options.dedupeId === undefined
        ? {}
        : { deduplication: { id: options.dedupeId.replaceAll(':', '-'), keepLastIfActive: true } }),
    })
  }

  async start(): Promise<void> {
    this.#isStarted = true
    await this.#prepare()
    for (const [queueName, names] of this.#namesByQueue()) {
      for (const name of names) await this.#schedule(name)
      const worker = this.#store.worker(queueName, (job) => this.#run(job), {
        concurrency:
          queueName === CHORES
            ? CHORES_AT_ONCE
            : (this.#definitions.get(queueName)?.options.concurrency ?? 1),
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
          { err: error, job: job?.name ?? queueName, attempt: job?.attemptsMade },
          isLast ? 'a job failed' : 'a job will be tried again',
        )
      })
      this.#workers.push(worker)
    }
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()))
  }

  async #schedule(name: string): Promise<void> {
    const { queue, definition } = await this.#queueOf(name)
    const { everyMs } = definition.options
    if (everyMs === undefined) return
    const opts = { attempts: attemptsOf(definition) }
    await queue.upsertJobScheduler(name, { every: everyMs }, { name, data: {}, opts })
  }

  async #run({ name, data }: { readonly name: string; readonly data: JobData }): Promise<void> {
    // A replica of another version may have left it behind.
    const definition = this.#definitions.get(name)
    if (definition === undefined) throw new Error(`The job ${name} is not defined here.`)
    await definition.handler(data)
  }

  #namesByQueue(): ReadonlyMap<string, readonly string[]> {
    return Map.groupBy(this.#definitions.keys(), (name) =>
      this.#definitions.get(name)?.options.isChore === true ? CHORES : name,
    )
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
    for (const names of this.#namesByQueue().values()) {
      const [first] = names
      if (first === undefined) continue
      const { queue } = await this.#queueOf(first)
      const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'prioritized')
      const jobs = Object.values(counts).reduce((sum, count) => sum + count, 0)
      // A schedule always keeps its next run as a delayed job; that is no work that waits.
      const schedules = names.filter((name) => this.#definitions.get(name)?.options.everyMs !== undefined)
      depth += Math.max(0, jobs - schedules.length)
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

  /** The queue that a job waits in. @throws when the job was never defined */
  async #queueOf(name: string): Promise<{ queue: QueueHandle; definition: Definition }> {
    const definition = this.#definitions.get(name)
    if (definition === undefined) throw new Error(`The job ${name} is not defined.`)
    await this.#prepare()
    const queueName = definition.options.isChore === true ? CHORES : name
    const known = this.#queues.get(queueName)
    if (known !== undefined) return { queue: known, definition }
    const queue = this.#store.queue(queueName, {
      defaultJobOptions: {
        backoff: { type: 'exponential', delay: this.#backoffFirstMs },
        removeOnComplete: true,
        removeOnFail: KEEP_FAILED,
      },
    })
    queue.on('error', (error) => this.#complain(error))
    this.#queues.set(queueName, queue)
    return { queue, definition }
  }

  #complain(error: Error): void {
    const nowMs = Date.now()
    if (nowMs - this.#lastComplaintMs < COMPLAINT_EVERY_MS) return
    this.#lastComplaintMs = nowMs
    this.#logger.warn({ err: error }, 'the job queue has trouble; it goes on by itself')
  }
}

/** What runs on a schedule runs again anyway. */
function attemptsOf({ options: { attempts, everyMs } }: Definition): number {
  return attempts ?? (everyMs === undefined ? ATTEMPTS_DEFAULT : 1)
}
