import type { ServerResponse } from 'node:http'
import type { Pool } from 'pg'
import { findActiveKeys } from '../../access/index.ts'
import type { Logger } from '../../telemetry/log.ts'
import { changeTokens } from './change-tokens.ts'
import { contentFor, type Evaluation, evaluate, snapshotJson } from './evaluation.ts'

/**
 * Hands out decisions: snapshots to whoever asks, and every change to whoever keeps a stream open.
 *
 * While streams are open, one statement every `POLL_MS` asks whether something changed for their organizations;
 * what did is evaluated once for each organization, and sent to the streams for which it makes a difference.
 * A poll sees the commits of all replicas alike, and costs the writers nothing (a NOTIFY in every append would
 * queue their commits one behind the other).
 *
 * A stream is told `: ` in between, so that its reader can tell silence from a broken connection; not while the
 * database cannot be asked, because silence is then the truth. A reader that does not read is skipped, gets the
 * newest state when it does again, and is cut off after a while.
 */

/** How often changes are looked for; with the time to evaluate them it must stay under a second. */
const POLL_MS = 250
/** The contract promises a heartbeat every 500 ms. */
const HEARTBEAT_MS = 400
/** Heartbeats go on for this long after the database was last heard of. */
const STALE_AFTER_MS = 3_000
/** Evaluated this often at least, whatever the tokens say. */
const REEVALUATE_MS = 10_000
/** How often the keys of open streams are looked up: a revoked one loses its stream. */
const KEYS_EVERY_MS = 10_000
/** A reader that takes nothing for this long is cut off. */
const STALLED_MAX_MS = 15_000
/** Open streams of one process. */
const STREAMS_MAX = 2_000
/** Organizations whose last evaluation is remembered. */
const REMEMBERED_MAX = 1_000

interface Remembered {
  readonly token: string
  readonly evaluation: Evaluation
  readonly atMs: number
}

interface Stream {
  readonly organizationId: string
  readonly apiKeyId: string
  readonly response: ServerResponse
  /** What the reader was told last. */
  content: string
  /** Since when the reader takes nothing; undefined: it does. */
  stalledSinceMs: number | undefined
}

/** The service cannot keep another stream open. */
export class TooManyStreams extends Error {
  override readonly name = 'TooManyStreams'
}

export interface DecisionHubDependencies {
  readonly pool: Pool
  readonly logger: Logger
  readonly now: () => Date
}

export class DecisionHub {
  readonly #dependencies: DecisionHubDependencies
  readonly #remembered = new Map<string, Remembered>()
  readonly #evaluating = new Map<string, Promise<Evaluation>>()
  readonly #streams = new Set<Stream>()
  #isClosed = false
  #poll: NodeJS.Timeout | undefined
  #polling: Promise<void> | undefined
  #heartbeat: NodeJS.Timeout | undefined
  /** On the process's own clock: the service's may be a test's. */
  #heardAtMs = 0
  #keysAtMs = 0

  constructor(dependencies: DecisionHubDependencies) {
    this.#dependencies = dependencies
  }

  /** What is decided now, as committed at the call or later. JSON text. */
  async snapshot(organizationId: string, apiKeyId: string): Promise<string> {
    const content = contentFor(await this.#current(organizationId), apiKeyId)
    return snapshotJson(content, this.#dependencies.now())
  }

  /**
   * Sends the decisions now and at every change, until the reader goes or the service stops.
   *
   * @param begin answers the request, once there is something to send
   * @throws TooManyStreams when this process has too many, or is stopping
   */
  async open(organizationId: string, apiKeyId: string, begin: () => ServerResponse): Promise<void> {
    if (this.#isClosed || this.#streams.size >= STREAMS_MAX) throw new TooManyStreams()
    const evaluation = await this.#current(organizationId)
    if (this.#isClosed) throw new TooManyStreams()
    const response = begin()
    const stream: Stream = { organizationId, apiKeyId, response, content: '', stalledSinceMs: undefined }
    this.#streams.add(stream)
    response.once('close', () => {
      this.#streams.delete(stream)
      if (this.#streams.size === 0) this.#rest()
    })
    response.on('error', () => response.destroy())
    response.on('drain', () => {
      stream.stalledSinceMs = undefined
      const known = this.#remembered.get(organizationId)
      if (known !== undefined) this.#tell(stream, known.evaluation)
    })
    this.#tell(stream, evaluation)
    this.#wake()
  }

  /** Ends all streams and stops looking for changes. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#rest()
    for (const { response, stalledSinceMs } of this.#streams) {
      // What a reader does not take would keep its connection open.
      if (stalledSinceMs === undefined) response.end()
      else response.destroy()
    }
    await this.#polling
  }

  async #current(organizationId: string): Promise<Evaluation> {
    const tokens = await changeTokens(this.#dependencies.pool, [organizationId])
    return this.#evaluated(organizationId, tokens.get(organizationId) ?? '')
  }

  /** The evaluation of a state that is at least as new as the token. */
  #evaluated(organizationId: string, token: string): Promise<Evaluation> {
    const nowMs = this.#dependencies.now().getTime()
    const known = this.#remembered.get(organizationId)
    const isCurrent =
      known !== undefined &&
      known.token === token &&
      nowMs < known.evaluation.nextChangeMs &&
      Math.abs(nowMs - known.atMs) < REEVALUATE_MS
    if (isCurrent) return Promise.resolve(known.evaluation)
    const key = `${organizationId} ${token}`
    const running = this.#evaluating.get(key)
    if (running !== undefined) return running
    const evaluating = evaluate(this.#dependencies.pool, organizationId, nowMs)
      .then((evaluation) => {
        if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear()
        this.#remembered.set(organizationId, { token, evaluation, atMs: nowMs })
        return evaluation
      })
      .finally(() => this.#evaluating.delete(key))
    this.#evaluating.set(key, evaluating)
    return evaluating
  }

  #wake(): void {
    if (this.#isClosed) return
    this.#heardAtMs = performance.now()
    this.#heartbeat ??= setInterval(() => this.#beat(), HEARTBEAT_MS).unref()
    if (this.#poll === undefined && this.#polling === undefined) this.#pollSoon()
  }

  #rest(): void {
    clearInterval(this.#heartbeat)
    clearTimeout(this.#poll)
    this.#heartbeat = undefined
    this.#poll = undefined
  }

  #pollSoon(): void {
    this.#poll = setTimeout(() => {
      this.#poll = undefined
      this.#polling = this.#lookForChanges()
        .catch((error: unknown) =>
          this.#dependencies.logger.warn({ err: error }, 'decisions could not be brought up to date'),
        )
        .finally(() => {
          this.#polling = undefined
          if (!this.#isClosed && this.#streams.size > 0) this.#pollSoon()
        })
    }, POLL_MS).unref()
  }

  async #lookForChanges(): Promise<void> {
    const byOrganization = Map.groupBy(this.#streams, (stream) => stream.organizationId)
    const tokens = await changeTokens(this.#dependencies.pool, [...byOrganization.keys()])
    for (const [organizationId, streams] of byOrganization) {
      const evaluation = await this.#evaluated(organizationId, tokens.get(organizationId) ?? '')
      for (const stream of streams) this.#tell(stream, evaluation)
    }
    this.#heardAtMs = performance.now()
    if (this.#heardAtMs - this.#keysAtMs > KEYS_EVERY_MS) await this.#endStreamsOfRevokedKeys()
  }

  async #endStreamsOfRevokedKeys(): Promise<void> {
    const ids = [...new Set([...this.#streams].map((stream) => stream.apiKeyId))]
    const active = await findActiveKeys(this.#dependencies.pool, ids)
    for (const { apiKeyId, response } of this.#streams) if (!active.has(apiKeyId)) response.end()
    this.#keysAtMs = performance.now()
  }

  #tell(stream: Stream, evaluation: Evaluation): void {
    if (stream.stalledSinceMs !== undefined || stream.response.writableEnded) return
    const content = contentFor(evaluation, stream.apiKeyId)
    if (content === stream.content) return
    stream.content = content
    this.#write(stream, `event: decisions\ndata: ${snapshotJson(content, this.#dependencies.now())}\n\n`)
  }

  #beat(): void {
    const nowMs = performance.now()
    const isHeard = nowMs - this.#heardAtMs < STALE_AFTER_MS
    for (const stream of this.#streams) {
      if (stream.stalledSinceMs !== undefined) {
        if (nowMs - stream.stalledSinceMs > STALLED_MAX_MS) stream.response.destroy()
      } else if (isHeard && !stream.response.writableEnded) this.#write(stream, ': \n\n')
    }
  }

  #write(stream: Stream, text: string): void {
    if (!stream.response.write(text)) stream.stalledSinceMs = performance.now()
  }
}
