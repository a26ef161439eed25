const MINUTE_MS = 60_000

/**
 * Counts the calls of the last 60 seconds, so that there are never more than allowed in any of them: a bucket that
 * fills up again would let twice as many through in its first minute. It keeps one instant for each call allowed.
 */
export class CallRate {
  #atElapsed: number[] = []
  #oldest = 0

  /** @returns milliseconds until another call is allowed; 0 now */
  waitMs(elapsed: number, callsMax: number): number {
    for (let at = this.#atElapsed[this.#oldest]; at !== undefined && at + MINUTE_MS <= elapsed; ) {
      at = this.#atElapsed[++this.#oldest]
    }
    if (this.#oldest > 1_000 && this.#oldest * 2 > this.#atElapsed.length) {
      this.#atElapsed = this.#atElapsed.slice(this.#oldest)
      this.#oldest = 0
    }
    const max = Math.floor(callsMax)
    // Of a fraction of a call there is none.
    if (max < 1) return MINUTE_MS
    if (this.#atElapsed.length - this.#oldest < max) return 0
    const blocking = this.#atElapsed[this.#atElapsed.length - max] ?? elapsed
    return blocking + MINUTE_MS - elapsed
  }

  count(elapsed: number): void {
    this.#atElapsed.push(elapsed)
  }
}
