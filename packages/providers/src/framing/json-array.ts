import { HeldBytes } from './held-bytes.ts'

/**
 * A JSON array over bytes as they arrive, cut into its elements (RFC 8259): how Google streams where no
 * server-sent events are asked for. A body that is one object, as an answer that is not streamed, is its own
 * only element.
 */

/** Largest element that is looked into, in bytes: pictures come inside. A larger one passes unread. */
const ELEMENT_MAX_BYTES = 64 * 1024 * 1024

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** Cuts a byte stream into the objects of one array. */
export class JsonArrayParser {
  /** `closed`: the body's own end has come, or it is no JSON of objects. */
  #state: 'before' | 'between' | 'inside' | 'closed' = 'before'
  #isArray = false
  #isWhole = false
  #isOversized = false
  #depth = 0
  #isString = false
  #isEscaped = false
  readonly #held = new HeldBytes()
  #heldBytes = 0

  /** Whether the body is an array: the answer is streamed. */
  get isArray(): boolean {
    return this.#isArray
  }

  /** Whether the array, or the only object, has come to its end. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  /** Why there was nothing to read, once the body has ended and is no array. */
  get problem(): 'unreadable_body' | 'body_too_large' | undefined {
    if (this.#isOversized || this.#heldBytes > ELEMENT_MAX_BYTES) return 'body_too_large'
    return this.#isWhole ? undefined : 'unreadable_body'
  }

  /** @returns the objects that these bytes complete, in order */
  push(bytes: Uint8Array): Uint8Array[] {
    const elements: Uint8Array[] = []
    let start = 0
    for (let index = 0; index < bytes.length && this.#state !== 'closed'; index++) {
      const byte = bytes[index] ?? 0
      if (this.#state !== 'inside') {
        this.#step(byte)
        start = index
      } else if (this.#isEscaped) {
        this.#isEscaped = false
      } else if (this.#isString) {
        if (byte === QUOTE) this.#isString = false
        else if (byte === BACKSLASH) this.#isEscaped = true
      } else if (byte === QUOTE) {
        this.#isString = true
      } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        this.#depth++
      } else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --this.#depth === 0) {
        const element = this.#take(bytes.subarray(start, index + 1))
        if (element !== undefined) elements.push(element)
        this.#state = this.#isArray ? 'between' : 'closed'
        this.#isWhole = !this.#isArray
      }
    }
    if (this.#state === 'inside') this.#hold(bytes.subarray(start))
    return elements
  }

  /** A byte outside every element. */
  #step(byte: number): void {
    if (byte === OPEN_BRACE) {
      this.#state = 'inside'
      this.#depth = 1
    } else if (this.#state === 'between') {
      if (byte === CLOSE_BRACKET) {
        this.#state = 'closed'
        this.#isWhole = true
      }
    } else if (byte === OPEN_BRACKET) {
      this.#state = 'between'
      this.#isArray = true
    } else if (byte > 0x20 && byte < 0x80) {
      // What begins otherwise is a page or a text. White space and a byte order mark may stand before.
      this.#state = 'closed'
    }
  }

  #hold(bytes: Uint8Array): void {
    this.#heldBytes += bytes.length
    if (this.#heldBytes <= ELEMENT_MAX_BYTES) this.#held.add(bytes)
    else this.#held.take()
  }

  #take(rest: Uint8Array): Uint8Array | undefined {
    const length = this.#heldBytes + rest.length
    const isWhole = this.#heldBytes === 0
    this.#heldBytes = 0
    if (length > ELEMENT_MAX_BYTES) {
      this.#held.take()
      this.#isOversized = true
      return undefined
    }
    if (isWhole) return rest
    this.#held.add(rest)
    return this.#held.take()
  }
}
