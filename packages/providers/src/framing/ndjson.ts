/** One JSON text a line, over bytes as they arrive. */

/** Longest line that is looked into, in bytes. A longer one passes unread. */
const LINE_MAX_BYTES = 16 * 1024 * 1024

const LF = 10
const TOO_LONG: Uint8Array = new Uint8Array(0)

/** Cuts a byte stream into lines. */
export class NdjsonParser {
  #held: Uint8Array[] = []
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
    // Copied: the chunk may be a view on memory that the sender uses again.
    if (this.#heldBytes <= LINE_MAX_BYTES) this.#held.push(new Uint8Array(bytes))
    else this.#held = []
  }

  #take(rest: Uint8Array): Uint8Array {
    const length = this.#heldBytes + rest.length
    const line = this.#held.length === 0 ? rest : Buffer.concat([...this.#held, rest])
    this.#held = []
    this.#heldBytes = 0
    return length > LINE_MAX_BYTES ? TOO_LONG : line
  }
}
