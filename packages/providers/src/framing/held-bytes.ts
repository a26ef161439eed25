const NOTHING: Uint8Array = new Uint8Array(0)

/**
 * Bytes that arrived in pieces and belong together. They are copied, as their senders use the memory again, into
 * memory that doubles: pieces of a single byte cost no more than large ones.
 */
export class HeldBytes {
  #memory: Uint8Array = NOTHING
  #length = 0

  get length(): number {
    return this.#length
  }

  add(bytes: Uint8Array): void {
    const length = this.#length + bytes.length
    if (length > this.#memory.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#memory.length))
      larger.set(this.#memory.subarray(0, this.#length))
      this.#memory = larger
    }
    this.#memory.set(bytes, this.#length)
    this.#length = length
  }

  /** @returns all of them, in memory that is the caller's from now on */
  take(): Uint8Array {
    const taken = this.#memory.subarray(0, this.#length)
    this.#memory = NOTHING
    this.#length = 0
    return taken
  }
}
