/** An event that waits for work on another thread: a count of its tokens, the end of a compressed answer. */
interface Waiting {
  /** Makes the event without waiting, now. */
  readonly settle: () => void
  readonly done: Promise<void>
}

/**
 * Events that wait for another thread. Each is finished exactly once: with what it gives; without it when it fails;
 * and at once when the process ends, because an event in memory alone would be lost.
 */
export class PendingEvents {
  readonly #waiting = new Set<Waiting>()

  /**
   * @param count resolves to what was counted, or decoded
   * @param fallback what stands for it when the process does not wait any longer; must be quick
   * @param finish makes the event
   */
  add<Count>(count: Promise<Count>, fallback: () => Count, finish: (count: Count) => void): void {
    const settleOnce = (counted: Count) => {
      if (this.#waiting.delete(waiting)) finish(counted)
    }
    const settle = () => {
      if (this.#waiting.has(waiting)) settleOnce(fallback())
    }
    const waiting: Waiting = { settle, done: count.then(settleOnce, settle) }
    this.#waiting.add(waiting)
  }

  /** Waits for the work under way, but no longer than this; then the rest is finished without it. */
  async settle(timeoutMs: number): Promise<void> {
    if (this.#waiting.size === 0) return
    let timer: NodeJS.Timeout | undefined
    // The timer keeps the process alive, which the worker does not.
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs)
    })
    let isTimeUp = false
    // What was decoded may have to be counted next.
    while (this.#waiting.size > 0 && !isTimeUp) {
      const done = Promise.all([...this.#waiting].map(({ done }) => done))
      await Promise.race([done, timeout.then(() => (isTimeUp = true))])
    }
    clearTimeout(timer)
    this.settleNow()
  }

  /** Finishes all that waits, as it is: the process ends. */
  settleNow(): void {
    // An answer that is not decoded may have to be counted: by bytes, at once.
    while (this.#waiting.size > 0) for (const { settle } of [...this.#waiting]) settle()
  }
}

/** Shared by all taps, as the process ends for all of them. */
export const pendingEvents = new PendingEvents()
