import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { type UsageEvent, usageEventToJson } from '@tokentally/core'
import type { EventSink } from '../event-sink.ts'
import type { CostSummary } from './cost-summary.ts'
import { isBusy, isUnwritable, openForAppending } from './local-file.ts'
import { priceEdition } from './local-prices.ts'
import { type LocalRating, rateUnrated } from './local-rating.ts'
import { openLocalReader } from './local-report.ts'

/**
 * Local mode: the ledger is a SQLite file that several processes may share. Events are appended as they come
 * and rated by the list prices when they are first asked for; a rating is kept, so that newer prices change
 * no past cost.
 *
 * An event is appended, or waits in memory: while another process writes, for a moment; while the file cannot
 * be opened (no space, no permission), until it can. Every `RETRY_MS` what waits is tried again. At
 * `WAITING_MAX` new events are dropped and reported.
 */

const RETRY_MS = 50
const REOPEN_MS = 5_000
const WAITING_MAX = 10_000
/** How long the last attempt, at the end of the process, waits for other processes. */
const CLOSE_TIMEOUT_MS = 2_000
/** As long an event that ends after that waits for them. */
const LATE_TIMEOUT_MS = 50

interface OpenFile {
  readonly database: DatabaseSync
  readonly insert: StatementSync
  readonly replace: StatementSync
}

/** @throws Error when the file cannot be opened */
function openFile(path: string): OpenFile {
  const database = openForAppending(path)
  const values = `usage_event (event_id, ts_ms, provider, model, customer, feature, status, input_tokens,
      output_tokens, json, execution) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
  const insert = database.prepare(`insert into ${values} on conflict do nothing`)
  // The row is another one then, without the rating of the one before.
  const replace = database.prepare(`insert or replace into ${values}`)
  return { database, insert, replace }
}

export class LocalLedger implements EventSink {
  readonly #path: string
  readonly #onError: (error: unknown) => void
  readonly #elapsed: () => number
  #file: OpenFile | undefined
  #triedElapsed = Number.NEGATIVE_INFINITY
  #waiting: UsageEvent[] = []
  /** Ids of events that are in the file as they were held. */
  readonly #held = new Set<string>()
  #retry: NodeJS.Timeout | undefined
  #isFailing = false
  #isClosed = false

  /**
   * A file that cannot be opened is reported, and tried again every `REOPEN_MS`.
   *
   * @param elapsed monotonic milliseconds
   */
  constructor(path: string, onError: (error: unknown) => void, elapsed: () => number) {
    this.#path = path
    this.#onError = onError
    this.#elapsed = elapsed
    this.#open()
  }

  append(event: UsageEvent): void {
    if (this.#isClosed) {
      this.#appendLate(event)
      return
    }
    // What waits goes first: a file that fills up must not keep the newest only.
    if (this.#waiting.length === 0 && this.#insert(event)) return
    if (this.#waiting.length >= WAITING_MAX) {
      this.#onError(new Error(`${WAITING_MAX} events wait for ${this.#path}; a further one is lost`))
    } else this.#waiting.push(event)
    this.#retryLater()
  }

  /** The event is in the file until the finished one takes its place. */
  hold(event: UsageEvent): () => void {
    if (this.#isClosed || this.#waiting.length > 0 || !this.#insert(event)) return () => undefined
    this.#held.add(event.eventId)
    return () => this.#held.delete(event.eventId)
  }

  /** Writes what waits. @returns how many events still wait */
  settle(): number {
    let written = 0
    for (const event of this.#waiting) {
      if (!this.#insert(event)) break
      written += 1
    }
    this.#waiting.splice(0, written)
    if (this.#waiting.length > 0) this.#retryLater()
    return this.#waiting.length
  }

  /**
   * @param startMs included @param endMs excluded, UTC milliseconds
   * @throws Error when the file cannot be read
   */
  async cost(startMs: number, endMs: number, provider: string | undefined): Promise<CostSummary> {
    this.settle()
    const database = this.#open()?.database
    if (database !== undefined) await this.#rate(database, startMs, endMs)
    const reader = openLocalReader(this.#path)
    try {
      return await reader.summary({ startMs, endMs, provider })
    } finally {
      reader.close()
    }
  }

  /** Writes what waits, if need be after a wait for others, and reports what is lost. */
  close(): void {
    if (this.#isClosed) return
    const file = this.#open()
    file?.database.exec(`pragma busy_timeout = ${CLOSE_TIMEOUT_MS}`)
    const lost = this.settle()
    this.#isClosed = true
    clearTimeout(this.#retry)
    if (lost > 0)
      this.#onError(new Error(`${lost} events could not be written to ${this.#path} and are lost`))
    file?.database.close()
    this.#file = undefined
  }

  /** Writes what ends after the file was closed, and closes it again. */
  #appendLate(event: UsageEvent): void {
    let isWritten = false
    try {
      this.#file = openFile(this.#path)
      this.#file.database.exec(`pragma busy_timeout = ${LATE_TIMEOUT_MS}`)
      isWritten = this.#insert(event)
    } catch (error) {
      this.#onError(error)
    } finally {
      this.#file?.database.close()
      this.#file = undefined
    }
    if (!isWritten) {
      this.#onError(
        new Error(`an event that ended after shutdown could not be written to ${this.#path} and is lost`),
      )
    }
  }

  #open(): OpenFile | undefined {
    if (this.#file !== undefined || this.#isClosed) return this.#file
    const elapsed = this.#elapsed()
    if (elapsed - this.#triedElapsed < REOPEN_MS) return undefined
    this.#triedElapsed = elapsed
    try {
      this.#file = openFile(this.#path)
    } catch (error) {
      this.#onError(new Error(`${this.#path} cannot be opened: events wait in memory`, { cause: error }))
    }
    return this.#file
  }

  /** @returns false when the event was not written */
  #insert(event: UsageEvent): boolean {
    try {
      const file = this.#open()
      if (file === undefined) return false
      const statement = this.#held.has(event.eventId) ? file.replace : file.insert
      statement.run(
        event.eventId,
        event.tsMs,
        event.provider,
        event.model ?? null,
        event.customer ?? null,
        event.feature ?? null,
        event.status,
        event.quantities['input_tokens'] ?? 0,
        event.quantities['output_tokens'] ?? 0,
        JSON.stringify(usageEventToJson(event)),
        event.conversation ?? event.traceId ?? event.callId ?? event.eventId,
      )
      this.#isFailing = false
      return true
    } catch (error) {
      if (isBusy(error)) return false
      if (isUnwritable(error)) {
        this.#onError(new Error(`an event cannot be stored in ${this.#path} and is lost`, { cause: error }))
        return true
      }
      // A full disk, perhaps: reported once for as long as it lasts.
      if (!this.#isFailing) this.#onError(error)
      this.#isFailing = true
      return false
    }
  }

  #retryLater(): void {
    if (this.#isClosed) return
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined
      this.settle()
    }, RETRY_MS).unref()
  }

  /** Keeps the ratings of a range, unless another process writes just now: then the report makes its own. */
  async #rate(database: DatabaseSync, startMs: number, endMs: number): Promise<void> {
    const update = database.prepare(
      `update usage_event set list_cost_usd = ?, rating_status = ?, rated_by = ?
      where event_id = ? and rating_status is not 'rated'`,
    )
    const edition = priceEdition()
    const keep = (ratings: readonly LocalRating[]) => {
      database.exec('begin immediate')
      try {
        for (const { eventId, listCostUsd, status } of ratings) {
          update.run(listCostUsd, status, edition, eventId)
        }
        database.exec('commit')
      } catch (error) {
        database.exec('rollback')
        throw error
      }
    }
    try {
      await rateUnrated(database, { startMs, endMs }, keep)
    } catch (error) {
      if (!isBusy(error)) this.#onError(error)
    }
  }
}
