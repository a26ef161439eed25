/** What a job carries: ids and small settings only; the handler loads the truth from the database. */
export type JobData = Readonly<Record<string, string | number | boolean | null>>

/** Does one job. May run twice, late, or beside itself: the database decides what is left to do. */
export type JobHandler = (data: JobData) => Promise<void>

export interface JobOptions {
  /** Runs the job on this schedule, in milliseconds, once for all replicas together. */
  readonly everyMs?: number
  /** How often a job is tried until it counts as failed; waits in between double from one second. Default 5. */
  readonly attempts?: number
  /** How many of these jobs one process runs at once. Default 1. */
  readonly concurrency?: number
  /**
   * Chores share one queue, whose listener is one connection for all of them; each may wait a moment for another.
   * Default false: a queue of its own, so that no other kind of job stands in its way.
   */
  readonly isChore?: boolean
}

export interface AddOptions {
  /**
   * While a job of this name with this id waits, another one is not added; while it runs, one more is kept to
   * run after it, so that what was written meanwhile is seen.
   */
  readonly dedupeId?: string
  /** Milliseconds until the job may run. */
  readonly delayMs?: number
}

/** Work that happens outside of a request, at least once, on any replica. */
export interface Jobs {
  /** Names a job and what does it. Call before `start`. @throws if the name is taken or the jobs run already */
  define(name: string, handler: JobHandler, options?: JobOptions): void
  /** Adds a job, durably. @throws if the name was never defined or the queue cannot be reached */
  add(name: string, data?: JobData, options?: AddOptions): Promise<void>
  /** Starts the schedules and the handlers of the defined jobs in this process. */
  start(): Promise<void>
  /** Lets running handlers finish, then closes every connection. */
  stop(): Promise<void>
  /** Jobs that are waiting, delayed or running, over all defined names. */
  depth(): Promise<number>
  /** @throws if the queue does not answer */
  ping(): Promise<void>
}
