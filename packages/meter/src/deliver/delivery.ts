import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { Spool, SpooledBatch } from '../spool/spool.ts'
import type { SpooledEvent } from '../spool/spooled-event.ts'
import { otlpRequest } from './otlp-request.ts'

/**
 * Carries the spool to the service. States: idle (nothing waits); gathering (`GATHER_MS`, or until a
 * full batch waits); sending; backing off (after a failure: waits that double from 250 ms to 30 s, each
 * a random part of the full wait, and never less than the service's `Retry-After`). An event leaves the spool
 * when the service has acknowledged it, or has refused it alone for good.
 */

const BATCH_EVENTS_MAX = 500
const GATHER_MS = 1_000
const FIRST_WAIT_MS = 250
const LONGEST_WAIT_MS = 30_000
const REQUEST_TIMEOUT_MS = 15_000
/** Waits on a refused key are long: only a person can mend it. */
const REFUSED_WAIT_MS = 30_000

const LOOPBACK_HOST = /^(localhost|127(\.\d+){3}|\[::1\])$/
const compressed = promisify(gzip)

export interface DeliveryOptions {
  readonly url: string
  readonly apiKey: string
  readonly spool: Spool
  /** Untapped: deliveries are not metered. */
  readonly fetch: typeof fetch
  readonly random: () => number
  readonly version: string
  readonly onError: (error: unknown) => void
}

/** A waiting event and the span that it is sent as, JSON in UTF-8. */
interface Sendable {
  readonly spooled: SpooledEvent
  readonly span: Uint8Array
}

type Answer =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string }
  | { readonly kind: 'unavailable'; readonly retryAfterMs: number; readonly reason: string }

export class Delivery {
  readonly #options: DeliveryOptions
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined
  #isUrgent: PromiseWithResolvers<void> = Promise.withResolvers()
  #failures = 0
  #isFlushing = false
  readonly #isLocal: boolean

  constructor(options: DeliveryOptions) {
    this.#options = options
    this.#isLocal = LOOPBACK_HOST.test(URL.parse(options.url)?.hostname ?? '')
    options.spool.onAppended = () => this.#wake(false)
    if (options.spool.waiting > 0) this.#wake(false)
  }

  /**
   * Delivers what waits now.
   *
   * @returns how many events still wait when the time is up; 0 when all was delivered
   */
  async flush(timeoutMs: number): Promise<number> {
    const deadline = AbortSignal.timeout(timeoutMs)
    this.#isFlushing = true
    while (this.#options.spool.waiting > 0 && !deadline.aborted && !this.#stop.signal.aborted) {
      // While the service is away, flushing does not press it: the waits stay.
      this.#wake(this.#failures === 0)
      await Promise.race([this.#running, aborted(deadline)])
    }
    this.#isFlushing = false
    return this.#options.spool.waiting
  }

  /** Delivers within the time and stops for good; what is left stays in the spool. */
  async stop(timeoutMs: number): Promise<void> {
    await this.flush(timeoutMs)
    this.#stop.abort()
    this.#isUrgent.resolve()
    await this.#running
  }

  #wake(isUrgent: boolean): void {
    if (this.#stop.signal.aborted) return
    if (isUrgent || this.#options.spool.waiting >= BATCH_EVENTS_MAX) this.#isUrgent.resolve()
    this.#running ??= this.#run()
      .catch(this.#options.onError)
      .finally(() => {
        this.#running = undefined
        this.#isUrgent = Promise.withResolvers()
        if (this.#options.spool.waiting > 0) this.#wake(false)
      })
  }

  /** One gathering and every full batch that waits then, all of it for a flush; or one failure. */
  async #run(): Promise<void> {
    await this.#pause(this.#failures === 0 ? GATHER_MS : this.#backOffMs())
    while (!this.#stop.signal.aborted) {
      const batch = this.#options.spool.next(BATCH_EVENTS_MAX)
      if (batch === undefined) return
      const sendable = this.#sendable(batch)
      if (sendable.length > 0 && !(await this.#deliver(batch, sendable))) return
      batch.acknowledge()
      this.#failures = 0
      // Few are left: they gather again, instead of going one by one. A flush goes on.
      if (!this.#isFlushing && this.#options.spool.waiting < BATCH_EVENTS_MAX) return
    }
  }

  /** An event that no service could understand must not hold up the others, nor vanish. */
  #sendable(batch: SpooledBatch): readonly Sendable[] {
    const sendable: Sendable[] = []
    for (const spooled of batch.events) {
      const { span } = spooled
      if (span instanceof Uint8Array) {
        sendable.push({ spooled, span })
        continue
      }
      batch.setAside(spooled, span.unreadable)
      this.#options.onError(new Error(`a usage event was set aside: ${span.unreadable}`))
    }
    return sendable
  }

  /** @returns whether all events are settled: delivered, or set aside */
  async #deliver(batch: SpooledBatch, events: readonly Sendable[]): Promise<boolean> {
    const answer = await this.#send(events)
    if (answer.kind === 'delivered') return true
    if (answer.kind === 'unavailable') {
      this.#failures++
      if (this.#failures === 1) this.#options.onError(new Error(`usage events wait: ${answer.reason}`))
      if (answer.retryAfterMs > 0) await this.#pause(answer.retryAfterMs)
      return false
    }
    const [only] = events
    if (only !== undefined && events.length === 1) {
      batch.setAside(only.spooled, answer.reason)
      this.#options.onError(new Error(`a usage event was refused and set aside: ${answer.reason}`))
      return true
    }
    // One of them is at fault: halves find it, and the others go through.
    const middle = Math.ceil(events.length / 2)
    return (
      (await this.#deliver(batch, events.slice(0, middle))) &&
      (await this.#deliver(batch, events.slice(middle)))
    )
  }

  async #send(events: readonly Sendable[]): Promise<Answer> {
    const { url, apiKey, fetch, version, onError } = this.#options
    try {
      const body = otlpRequest(
        events.map((event) => event.span),
        version,
      )
      const response = await fetch(`${url}/v1/traces`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${apiKey}`,
          'content-type': 'application/json',
          ...(this.#isLocal ? {} : { 'content-encoding': 'gzip' }),
        },
        // Off the main thread; and not at all where there is no network to spare.
        body: this.#isLocal ? body : await compressed(body, { level: 1 }),
        signal: AbortSignal.any([this.#stop.signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
      })
      const text = await response.text()
      if (response.ok) {
        const problem = partialFailure(text)
        // The service keeps what it refused as dead letters; sending it again would change nothing.
        if (problem !== undefined) onError(new Error(`the service refused usage events: ${problem}`))
        return { kind: 'delivered' }
      }
      return answerOf(response, text)
    } catch (error) {
      return { kind: 'unavailable', retryAfterMs: 0, reason: `${url} cannot be reached (${reasonOf(error)})` }
    }
  }

  #backOffMs(): number {
    const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#failures - 1, 16))
    return full * (0.1 + 0.9 * this.#options.random())
  }

  /** Ends early for a flush or a stop; never keeps the process alive. */
  async #pause(ms: number): Promise<void> {
    const ended = new AbortController()
    await Promise.race([
      delay(ms, undefined, { ref: false, signal: ended.signal }).catch(() => undefined),
      this.#isUrgent.promise,
    ])
    ended.abort()
    if (this.#failures > 0) this.#isUrgent = Promise.withResolvers()
  }
}

function answerOf(response: Response, text: string): Answer {
  const { status } = response
  const reason = `the service answered ${status}: ${text.slice(0, 300)}`
  const retryAfterS = Number(response.headers.get('retry-after') ?? 0)
  const retryAfterMs = Number.isFinite(retryAfterS) ? Math.min(retryAfterS * 1000, LONGEST_WAIT_MS) : 0
  if (status === 401 || status === 403 || status === 404) {
    return { kind: 'unavailable', retryAfterMs: REFUSED_WAIT_MS, reason }
  }
  if (status === 400 || status === 413 || status === 422) return { kind: 'refused', status, reason }
  return { kind: 'unavailable', retryAfterMs, reason }
}

function partialFailure(text: string): string | undefined {
  try {
    const answer: unknown = JSON.parse(text)
    if (typeof answer !== 'object' || answer === null || !('partialSuccess' in answer)) return undefined
    const { partialSuccess } = answer
    if (typeof partialSuccess !== 'object' || partialSuccess === null) return undefined
    const message = 'errorMessage' in partialSuccess ? partialSuccess.errorMessage : undefined
    return typeof message === 'string' && message !== '' ? message : undefined
  } catch {
    return undefined
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message : error.message
}
