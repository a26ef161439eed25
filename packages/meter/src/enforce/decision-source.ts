import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { StringDecoder } from 'node:string_decoder'
import { insideTap } from '../tap/tap.ts'
import { readSnapshot, type Snapshot } from './decision.ts'
import { EventStream } from './event-stream.ts'

/**
 * Keeps a connection to the service's decisions (`GET /api/v1/decisions/stream`). States:
 *
 *   connecting  from the start, and after each wait.
 *   fresh       a snapshot has come, and something, if only a heartbeat, within the last `SILENCE_MAX_MS`.
 *   stale       never fresh yet, or silent for longer, or disconnected and not back within that time.
 *   waiting     the connection failed or ended: until the next attempt the wait doubles from 250 ms to 5 s, each a
 *               random part of the full one, and is 30 s where the service refuses the key. It may be fresh still.
 *   closed      for good.
 *
 * Silence is counted in ticks of a timer, not read off a clock: a process that was busy or suspended for seconds has
 * not listened, and what came meanwhile is read before the next tick. Nothing here keeps the process alive.
 */

export interface DecisionSourceOptions {
  readonly url: string
  readonly apiKey: string
  readonly random: () => number
  readonly version: string
  readonly onSnapshot: (snapshot: Snapshot) => void
  readonly onError: (error: unknown) => void
}

const STREAM_PATH = '/api/v1/decisions/stream'
const EVENT = 'decisions'
const TICK_MS = 250
export const SILENCE_MAX_MS = 2_000
const FIRST_WAIT_MS = 250
const LONGEST_WAIT_MS = 5_000
/** A refused key: only a person can mend it. */
const REFUSED_WAIT_MS = 30_000
/** A connection that says nothing at all is given up. */
const CONNECT_MAX_MS = 5_000

export class DecisionSource {
  readonly #options: DecisionSourceOptions
  readonly #ticker: NodeJS.Timeout
  #request: ClientRequest | undefined
  #wait: NodeJS.Timeout | undefined
  #hasSnapshot = false
  #silentTicks = 0
  #connectingTicks = 0
  #failures = 0
  #isReported = false
  #isClosed = false
  #whenFresh: (() => void)[] = []

  constructor(options: DecisionSourceOptions) {
    this.#options = options
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
    this.#ticker.unref()
    this.#connect()
  }

  /** Whether what was decided last is known now. */
  get isFresh(): boolean {
    return this.#hasSnapshot && this.#silentTicks * TICK_MS <= SILENCE_MAX_MS
  }

  /** @returns whether decisions are fresh by then */
  async ready(timeoutMs: number): Promise<boolean> {
    if (this.isFresh || this.#isClosed) return this.isFresh
    const { promise, resolve } = Promise.withResolvers<void>()
    // Whoever waits wants the process to go on.
    const timer = setTimeout(resolve, timeoutMs)
    this.#whenFresh.push(resolve)
    await promise
    clearTimeout(timer)
    return this.isFresh
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#ticker)
    clearTimeout(this.#wait)
    this.#request?.destroy()
    this.#request = undefined
    this.#tellWaiting()
  }

  #tick(): void {
    this.#silentTicks++
    if (this.#request === undefined) return
    this.#connectingTicks++
    const isSilent = this.#silentTicks * TICK_MS > SILENCE_MAX_MS
    if (isSilent && this.#connectingTicks * TICK_MS > CONNECT_MAX_MS) {
      this.#failed(this.#request, `nothing came for ${CONNECT_MAX_MS} ms`)
    }
  }

  #connect(): void {
    const { url, apiKey, version } = this.#options
    this.#connectingTicks = 0
    try {
      const target = new URL(url + STREAM_PATH)
      const headers = {
        authorization: `Bearer ${apiKey}`,
        accept: 'text/event-stream',
        'user-agent': `tokentally-meter/${version}`,
      }
      const send = target.protocol === 'https:' ? httpsRequest : httpRequest
      // Outside of whatever request the application was serving, and of our own taps.
      const request = insideTap.run({ exchange: undefined, isTaken: false }, () => send(target, { headers }))
      this.#request = request
      request.on('socket', letEnd)
      request.on('error', (error) => this.#failed(request, error.message))
      request.on('response', (response) => this.#read(request, response))
      request.end()
    } catch (error) {
      this.#again(error instanceof Error ? error.message : String(error), 0)
    }
  }

  #read(request: ClientRequest, response: IncomingMessage): void {
    const { statusCode = 0 } = response
    if (statusCode !== 200) {
      response.resume()
      const retryAfterMs = Number(response.headers['retry-after'] ?? 0) * 1_000 || 0
      const isRefused = statusCode === 401 || statusCode === 403 || statusCode === 404
      const reason = `the service answered ${statusCode}`
      this.#failed(request, reason, isRefused ? REFUSED_WAIT_MS : Math.min(retryAfterMs, REFUSED_WAIT_MS))
      return
    }
    const decoder = new StringDecoder('utf8')
    const events = new EventStream()
    response.on('error', (error) => this.#failed(request, error.message))
    response.on('close', () => this.#failed(request, 'the connection ended'))
    response.on('data', (bytes: Buffer) => {
      if (this.#request !== request) return
      this.#connectingTicks = 0
      try {
        const snapshots = events.push(decoder.write(bytes), EVENT)
        // Each is whole: only the last one still holds.
        const last = snapshots.at(-1)
        if (last !== undefined) this.#take(last)
        if (this.#hasSnapshot) this.#silentTicks = 0
      } catch (error) {
        this.#failed(request, error instanceof Error ? error.message : String(error))
      }
    })
  }

  #take(json: string): void {
    const snapshot = readSnapshot(json)
    this.#options.onSnapshot(snapshot)
    this.#hasSnapshot = true
    this.#silentTicks = 0
    this.#failures = 0
    this.#isReported = false
    this.#tellWaiting()
  }

  #tellWaiting(): void {
    const waiting = this.#whenFresh
    this.#whenFresh = []
    for (const resolve of waiting) resolve()
  }

  #failed(request: ClientRequest, reason: string, waitMs = 0): void {
    if (this.#request !== request) return
    this.#request = undefined
    request.destroy()
    this.#again(reason, waitMs)
  }

  #again(reason: string, waitMs: number): void {
    if (this.#isClosed) return
    this.#failures++
    // A connection that ends is opened again; one that cannot be is worth a word, once until it can.
    if (this.#failures > 1 && !this.#isReported) {
      this.#isReported = true
      this.#options.onError(new Error(`decisions on budgets cannot be had from the service: ${reason}`))
    }
    const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#failures - 1, 16))
    const backOffMs = full * (0.1 + 0.9 * this.#options.random())
    this.#wait = setTimeout(() => this.#connect(), Math.max(waitMs, backOffMs))
    this.#wait.unref()
  }
}

/** The connection must not keep the process alive; Node may exchange its handle until it stands. */
function letEnd(socket: Socket): void {
  socket.unref()
  socket.once('connect', () => socket.unref())
}
