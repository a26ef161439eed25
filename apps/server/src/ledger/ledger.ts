import { rate, sell, type UsageEvent } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import type { RatingBookCache } from '../pricing/index.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import {
  type AppendBatch,
  type AppendOutcome,
  appendBatch,
  type EntryOutcome,
  entryKey,
  RatingBookChanged,
} from './append.ts'
import { DimensionSets, type DimensionValues, dimensionValuesOf } from './dimension-set.ts'
import type { LedgerEntry } from './ledger-row.ts'

/**
 * Group commit. Requests wait in one queue; up to `WRITERS_MAX` writers each take all that waits (up to
 * `BATCH_EVENTS_MAX` events) into one transaction. While a transaction runs, the next group gathers by
 * itself, so that single events under load become batches and an idle service adds no waiting time.
 *
 * At the limits: a request that would make the queue longer than `QUEUED_EVENTS_MAX` is refused with
 * `LedgerBusy('full')`; when the database does not answer, what waits is refused with `LedgerBusy('away')`.
 * Either way nothing of the request is stored.
 */

const WRITERS_MAX = 2
const BATCH_EVENTS_MAX = 2_500
const QUEUED_EVENTS_MAX = 50_000

/** An event on its way into the ledger, with the hash that tells a repeat from another event. */
export interface IncomingEvent {
  readonly event: UsageEvent
  readonly contentHash: Buffer
  /** The API key that sent it; absent for what the service measured itself. */
  readonly apiKeyId?: string | undefined
}

/** The ledger cannot take the events now; nothing of them is stored. Try again after `retryAfterS`. */
export class LedgerBusy extends Error {
  override readonly name = 'LedgerBusy'
  readonly reason: 'full' | 'away'
  readonly retryAfterS: number

  constructor(reason: 'full' | 'away', options?: ErrorOptions) {
    super(reason === 'full' ? 'too many events are waiting' : 'the database does not answer', options)
    this.reason = reason
    this.retryAfterS = reason === 'full' ? 1 : 5
  }
}

export interface LedgerDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly metrics: Metrics
  readonly now: () => Date
  /** Called after each commit that appended something; must not throw. */
  readonly onAppended: () => void
}

interface WaitingRequest {
  readonly organizationId: string
  readonly events: readonly IncomingEvent[]
  readonly resolve: (outcomes: readonly AppendOutcome[]) => void
  readonly reject: (error: unknown) => void
}

/** The only writer of usage events. */
export class Ledger {
  readonly #dependencies: LedgerDependencies
  readonly #dimensionSets = new DimensionSets()
  readonly #queue: WaitingRequest[] = []
  #queuedEvents = 0
  #writers = 0
  #idle: PromiseWithResolvers<void> | undefined

  constructor(dependencies: LedgerDependencies) {
    this.#dependencies = dependencies
  }

  /**
   * Appends events once and resolves after the commit.
   *
   * @returns the outcome of each event, in order
   * @throws LedgerBusy when nothing was stored and the sender should try again
   */
  append(organizationId: string, events: readonly IncomingEvent[]): Promise<readonly AppendOutcome[]> {
    if (events.length === 0) return Promise.resolve([])
    if (this.#queuedEvents > 0 && this.#queuedEvents + events.length > QUEUED_EVENTS_MAX) {
      return Promise.reject(new LedgerBusy('full'))
    }
    const { promise, resolve, reject } = Promise.withResolvers<readonly AppendOutcome[]>()
    this.#queue.push({ organizationId, events, resolve, reject })
    this.#queuedEvents += events.length
    if (this.#writers < WRITERS_MAX) {
      this.#writers++
      // In the next turn of the event loop: requests that were parsed in this one join the group.
      setImmediate(() => void this.#write())
    }
    return promise
  }

  /** Resolves once everything that was handed over is committed or refused. */
  async drain(): Promise<void> {
    if (this.#writers === 0) return
    this.#idle ??= Promise.withResolvers<void>()
    await this.#idle.promise
  }

  async #write(): Promise<void> {
    for (;;) {
      const group = this.#takeGroup()
      if (group.length === 0) break
      await this.#commit(group)
    }
    this.#writers--
    if (this.#writers === 0) {
      this.#idle?.resolve()
      this.#idle = undefined
    }
  }

  #takeGroup(): WaitingRequest[] {
    const group: WaitingRequest[] = []
    let size = 0
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (group.length > 0 && size + next.events.length > BATCH_EVENTS_MAX) break
      group.push(next)
      size += next.events.length
      this.#queue.shift()
    }
    this.#queuedEvents -= size
    return group
  }

  async #commit(group: readonly WaitingRequest[]): Promise<void> {
    try {
      const outcomes = await this.#append(group)
      group.forEach((request, index) => {
        request.resolve(outcomes[index] ?? [])
      })
    } catch (error) {
      if (group.length > 1 && !(error instanceof LedgerBusy)) {
        // The database refuses something in here for good. Alone, every other request goes through.
        for (const request of group) await this.#commit([request])
        return
      }
      for (const request of group) request.reject(error)
    }
  }

  async #append(group: readonly WaitingRequest[]): Promise<readonly (readonly AppendOutcome[])[]> {
    const { distinct, positions } = withoutRepeats(group)
    const outcomes = await this.#appendDistinct(distinct)
    const { metrics } = this.#dependencies
    let accepted = 0
    let duplicates = 0
    const perRequest = positions.map((request, requestIndex) =>
      request.map(({ index, isRepeat }, eventIndex): AppendOutcome => {
        const { outcome = 'conflict', standingHash = distinct[index]?.contentHash } = outcomes[index] ?? {}
        // An event that stands twice in one group is judged by the one that holds the id in the end.
        const hash = group[requestIndex]?.events[eventIndex]?.contentHash
        const isSame = hash !== undefined && standingHash?.equals(hash) === true
        const own = isRepeat ? (isSame ? 'duplicate' : 'conflict') : outcome
        if (own === 'accepted') accepted++
        else if (own === 'duplicate') duplicates++
        return own
      }),
    )
    metrics.ingestedEvents.inc(accepted)
    metrics.duplicateEvents.inc(duplicates)
    if (accepted > 0) this.#dependencies.onAppended()
    return perRequest
  }

  async #appendDistinct(events: readonly DistinctEvent[]): Promise<readonly EntryOutcome[]> {
    const { pool, ratingBooks, metrics, now } = this.#dependencies
    const months = new Set(events.map(({ event }) => new Date(event.tsMs).toISOString().slice(0, 7)))
    const client = await connect(pool)
    try {
      await this.#ensurePartitions(client, months)
      for (;;) {
        const batch = this.#rate(events)
        const stop = metrics.appendSeconds.startTimer()
        try {
          const outcomes = await appendBatch(client, batch, now())
          stop()
          for (const set of batch.newDimensionSets)
            this.#dimensionSets.remember(set.organizationId, [set.values])
          noteFindings(batch.entries, outcomes, metrics)
          client.release()
          return outcomes
        } catch (error) {
          if (!(error instanceof RatingBookChanged)) throw error
          await ratingBooks.refresh()
        }
      }
    } catch (error) {
      // Discarded: a connection in an unknown state must not serve the next batch.
      client.release(true)
      throw isAway(error) ? new LedgerBusy('away', { cause: error }) : error
    }
  }

  readonly #knownPartitions = new Set<string>()

  async #ensurePartitions(client: PoolClient, months: Iterable<string>): Promise<void> {
    for (const month of months) {
      if (this.#knownPartitions.has(month)) continue
      await client.query('select ensure_usage_partition($1)', [`${month}-01T00:00:00Z`])
      this.#knownPartitions.add(month)
    }
  }

  #rate(events: readonly DistinctEvent[]): AppendBatch {
    const book = this.#dependencies.ratingBooks.current()
    const entries: LedgerEntry[] = []
    const newSets = new Map<string, { organizationId: string; id: string; values: DimensionValues }>()
    for (const { organizationId, event, contentHash, apiKeyId } of events) {
      const values = dimensionValuesOf(event)
      const { id, isStored } = this.#dimensionSets.identify(organizationId, values)
      if (!isStored) newSets.set(organizationId + id, { organizationId, id, values })
      const rating = rate(organizationId, event, book.prices)
      entries.push({
        organizationId,
        event,
        contentHash,
        dimensionSetId: id,
        rating,
        sale: sell(organizationId, event, rating, book),
        apiKeyId,
      })
    }
    return { entries, ratingBookRevision: book.revision, newDimensionSets: [...newSets.values()] }
  }
}

interface DistinctEvent extends IncomingEvent {
  readonly organizationId: string
}

interface Position {
  /** Index among the distinct events. */
  readonly index: number
  /** An earlier event of the group has the same id. */
  readonly isRepeat: boolean
}

function withoutRepeats(group: readonly WaitingRequest[]): {
  distinct: readonly DistinctEvent[]
  positions: readonly (readonly Position[])[]
} {
  const distinct: DistinctEvent[] = []
  const indexByKey = new Map<string, number>()
  const positions = group.map(({ organizationId, events }) =>
    events.map((incoming): Position => {
      const key = entryKey(organizationId, incoming.event.eventId)
      const known = indexByKey.get(key)
      if (known === undefined) {
        indexByKey.set(key, distinct.length)
        distinct.push({ organizationId, ...incoming })
        return { index: distinct.length - 1, isRepeat: false }
      }
      return { index: known, isRepeat: true }
    }),
  )
  return { distinct, positions }
}

async function connect(pool: Pool): Promise<PoolClient> {
  try {
    return await pool.connect()
  } catch (error) {
    throw new LedgerBusy('away', { cause: error })
  }
}

/**
 * Whether the database, not the data, is the trouble. SQLSTATE classes: 08 connection, 53 resources,
 * 57 operator intervention, 58 system error, 40 transaction rollback; 25006 read-only (a fail-over).
 * Source: PostgreSQL documentation, appendix A.
 */
function isAway(error: unknown): boolean {
  if (error instanceof TypeError || error instanceof RangeError) return false
  if (typeof error !== 'object' || error === null || !('code' in error) || typeof error.code !== 'string')
    return true
  return !/^[0-9A-Z]{5}$/.test(error.code) || /^(08|53|57|58|40)|^25006$/.test(error.code)
}

/** Counts what somebody may have to look into, of the events that were accepted. */
function noteFindings(
  entries: readonly LedgerEntry[],
  outcomes: readonly EntryOutcome[],
  metrics: LedgerDependencies['metrics'],
): void {
  entries.forEach(({ event, rating }, index) => {
    if (outcomes[index]?.outcome !== 'accepted') return
    if (rating.status !== 'rated') metrics.unpricedEvents.inc()
    if (event.estimated) metrics.estimatedEvents.inc()
    if (event.mismatch !== undefined) metrics.mismatchedEvents.inc()
  })
}
