import { HeldBytes } from './held-bytes.ts'

/** One JSON text a line, over bytes as they arrive. */

/** Longest line that is looked into, in bytes. A longer one passes unread. */
const LINE_MAX_BYTES = 16 * 1024 * 1024

const LF = 10
const TOO_LONG: Uint8Array = new Uint8Array(0)

/** Cuts a byte stream into lines. */
export class NdjsonParser {
  readonly #held = new HeldBytes()
  #heldBytes = 0

  /** Whether bytes of a line have come whose end has not. */
  get isHolding(): boolean {
    return this.#heldBytes > 0
  }

  /**
   * @returns the lines that these bytes complete, in order, without their ends; empty ones are left out, and one
   *   that is too long stands as an empty one
   */
  push(bytes: Uint8Array): Uint8Array[] {
    const lines: Uint8Array[] = []
    let start = 0
    for (let end = bytes.indexOf(LF); end !== -1; end = bytes.indexOf(LF, start)) {
      if (end > start || this.#heldBytes > 0) lines.push(this.#take(bytes.subarray(start, end)))
      start = end + 1
    }
    if (start < bytes.length) this.#hold(bytes.subarray(start))
    return lines
  }

  /** The stream has ended. @returns what arrived after the last line end */
  end(): Uint8Array | undefined {
    return this.#heldBytes === 0 ? undefined : this.#take(new Uint8Array(0))
  }

  #hold(bytes: Uint8Array): void {
    this.#heldBytes += bytes.length
    if (this.#heldBytes <= LINE_MAX_BYTES) this.#held.add(bytes)
    else this.#held.take()
  }

  #take(rest: Uint8Array): Uint8Array {
    const length = this.#heldBytes + rest.length
    const isWhole = this.#heldBytes === 0
    this.#heldBytes = 0
    if (length > LINE_MAX_BYTES) {
      this.#held.take()
      return TOO_LONG
    }
    if (isWhole) return rest
    this.#held.add(rest)
    return this.#held.take()
  }
}
