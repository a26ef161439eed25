import type { Readable } from 'node:stream'

/**
 * Answers that nobody reads, though they have data. Some clients neither read on nor close what the application
 * has left: the AWS SDK after `break`. Then no transport ever tells that it is over.
 *
 * A body of an answer is
 *   flowing   as long as what arrives finds room: at its end it is counted, read or not;
 *   waiting   from the moment its buffer is full, and again from each time that somebody has read of it since:
 *             `wait` is called with each piece that finds the buffer full;
 *   left      when it has waited for the whole of `idleMs` and nobody has read of it. Whoever watches it is told
 *             once, and reads ahead into the answer's own buffer, up to the limits for left streams: nothing is
 *             taken from the application, which may come back after hours and read on;
 *   counted   when it came to its end (`forget`), or, at `settle`, with what came until then.
 *
 * Whether somebody has read is seen from the buffer alone: it is shorter than it was, or as long although a piece
 * was added. So a reader is never touched, and nothing has to be done for bodies that are read.
 */
export interface Waiting {
  /** Monotonic milliseconds when it was last seen that somebody read. */
  sinceMs: number
  /** What waited then. */
  length: number
  /** Told once, when nobody reads any more. */
  readonly leave: () => void
  /** Counts what came until now. */
  readonly abandon: () => void
}

/** Longer than an application thinks between two pieces of a stream, shorter than a provider waits for a reader. */
export const IDLE_MS = 30_000
/** A flush may be the last chance for a while: what nobody has read of for this long is read ahead then. */
export const IDLE_AT_FLUSH_MS = 5_000

export class IdleBodies {
  readonly #waiting = new Map<Readable, Waiting>()
  readonly #elapsed: () => number
  readonly #idleMs: number
  #timer: NodeJS.Timeout | undefined

  /** @param elapsed monotonic milliseconds */
  constructor(elapsed: () => number, idleMs: number = IDLE_MS) {
    this.#elapsed = elapsed
    this.#idleMs = idleMs
  }

  /**
   * A piece found the buffer full.
   *
   * @param lengthBefore length of the buffer before the piece was added
   */
  wait(body: Readable, lengthBefore: number, { leave, abandon }: Pick<Waiting, 'leave' | 'abandon'>): void {
    const waiting = this.#waiting.get(body)
    const length = body.readableLength
    if (waiting === undefined) {
      this.#waiting.set(body, { sinceMs: this.#elapsed(), length, leave, abandon })
      this.#timer ??= setTimeout(() => this.#tick(), this.#idleMs / 2).unref()
      return
    }
    if (lengthBefore < waiting.length) waiting.sinceMs = this.#elapsed()
    waiting.length = length
  }

  /** The body has ended, or is gone. */
  forget(body: Readable): void {
    this.#waiting.delete(body)
  }

  /** Tells those who watch bodies that nobody has read of for `idleMs`. */
  check(idleMs: number = this.#idleMs, nowMs: number = this.#elapsed()): void {
    for (const [body, waiting] of this.#unread(nowMs, idleMs)) {
      this.#waiting.delete(body)
      waiting.leave()
    }
  }

  /** Counts every body that waits with what came until now: there is no more time. */
  settle(nowMs: number = this.#elapsed()): void {
    for (const [body, waiting] of this.#unread(nowMs, 0)) {
      this.#waiting.delete(body)
      waiting.abandon()
    }
  }

  *#unread(nowMs: number, idleMs: number): Generator<readonly [Readable, Waiting]> {
    for (const [body, waiting] of this.#waiting) {
      // It was read and has room again: `wait` will tell when that is over.
      if (body.readableLength < waiting.length) this.#waiting.delete(body)
      else if (nowMs - waiting.sinceMs >= idleMs) yield [body, waiting]
    }
  }

  #tick(): void {
    this.check()
    this.#timer =
      this.#waiting.size === 0 ? undefined : setTimeout(() => this.#tick(), this.#idleMs / 2).unref()
  }
}

/** Shared by all taps. */
export const idleBodies = new IdleBodies(() => performance.now())
