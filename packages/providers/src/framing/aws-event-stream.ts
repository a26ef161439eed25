/**
 * Binary event streams, `application/vnd.amazon.eventstream` (AWS, "Event stream encoding" of Amazon Transcribe's
 * and S3's references, and the Smithy specification "Amazon Event Stream", read 2026-11). A message is, in
 * big-endian numbers:
 *
 *     total length (4) · headers' length (4) · CRC32 of these eight (4) · headers · payload · CRC32 of all before (4)
 *
 * and a header: name's length (1) · name · type (1) · value, whose length the type tells or the two bytes before it.
 *
 * A message whose own checksum is wrong is left out and the next one follows; behind a wrong length nothing can
 * be found any more, and the rest of the stream passes unread.
 */

/** One intact message. Its payload is memory of the chunk, or of the parser, until the next push. */
export interface EventStreamMessage {
  /** The headers of type string by name: `:message-type`, `:event-type`, `:exception-type`, `:content-type`. */
  readonly headers: ReadonlyMap<string, string>
  readonly payload: Uint8Array
}

/** Largest message that is looked into, in bytes, as AWS itself limits them; a larger one passes unread. */
const MESSAGE_MAX_BYTES = 24 * 1024 * 1024

const PRELUDE_BYTES = 12
const CHECKSUM_BYTES = 4
const MESSAGE_MIN_BYTES = PRELUDE_BYTES + CHECKSUM_BYTES
const NOTHING: Uint8Array = new Uint8Array(0)

/** Cuts a byte stream into messages. */
export class EventStreamParser {
  /** Begins with what has arrived of a message that is not whole. */
  #held: Uint8Array = NOTHING
  #heldBytes = 0
  /** Bytes to come of a message that is too large. */
  #passingBytes = 0
  #isBroken = false
  #isDamaged = false

  /** Whether something could not be read: a checksum or a length was wrong, or a message too large. */
  get isDamaged(): boolean {
    return this.#isDamaged
  }

  /** @returns the intact messages that these bytes complete, in order */
  push(bytes: Uint8Array): EventStreamMessage[] {
    const messages: EventStreamMessage[] = []
    for (let at = 0; at < bytes.length && !this.#isBroken; ) {
      const rest = bytes.subarray(at)
      if (this.#passingBytes > 0) {
        const passing = Math.min(this.#passingBytes, rest.length)
        this.#passingBytes -= passing
        at += passing
      } else if (this.#heldBytes === 0 && rest.length >= PRELUDE_BYTES) {
        const length = this.#lengthOf(rest)
        if (length === undefined) break
        if (length > MESSAGE_MAX_BYTES) this.#passingBytes = length
        else {
          if (length <= rest.length) this.#read(rest.subarray(0, length), messages)
          else this.#hold(rest)
          at += Math.min(length, rest.length)
        }
      } else {
        at += this.#complete(rest, messages)
      }
    }
    return messages
  }

  /** Adds to what is held, up to the end of its prelude or of the message. @returns how many bytes were taken */
  #complete(rest: Uint8Array, messages: EventStreamMessage[]): number {
    const wanted = this.#heldBytes < PRELUDE_BYTES ? PRELUDE_BYTES : uint32At(this.#held, 0)
    const taken = Math.min(wanted - this.#heldBytes, rest.length)
    this.#hold(rest.subarray(0, taken))
    if (this.#heldBytes < wanted) return taken
    if (wanted > PRELUDE_BYTES) {
      this.#read(this.#held.subarray(0, wanted), messages)
      this.#heldBytes = 0
      this.#held = NOTHING
      return taken
    }
    const length = this.#lengthOf(this.#held)
    if (length === undefined || length > MESSAGE_MAX_BYTES) {
      this.#passingBytes = (length ?? PRELUDE_BYTES) - PRELUDE_BYTES
      this.#heldBytes = 0
      this.#held = NOTHING
    }
    return taken
  }

  /** Copies bytes behind what is held; the memory doubles, so that a message in small pieces costs no more. */
  #hold(bytes: Uint8Array): void {
    const length = this.#heldBytes + bytes.length
    if (length > this.#held.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#held.length, 256))
      larger.set(this.#held.subarray(0, this.#heldBytes))
      this.#held = larger
    }
    this.#held.set(bytes, this.#heldBytes)
    this.#heldBytes = length
  }

  /** @returns the length of the message that begins here; undefined when this is no beginning of one */
  #lengthOf(bytes: Uint8Array): number | undefined {
    const length = uint32At(bytes, 0)
    const isIntact =
      length >= MESSAGE_MIN_BYTES &&
      uint32At(bytes, 4) <= length - MESSAGE_MIN_BYTES &&
      crc32(bytes, 8) === uint32At(bytes, 8)
    if (!isIntact || length > MESSAGE_MAX_BYTES) this.#isDamaged = true
    if (isIntact) return length
    this.#isBroken = true
    return undefined
  }

  #read(message: Uint8Array, messages: EventStreamMessage[]): void {
    const end = message.length - CHECKSUM_BYTES
    const headersEnd = PRELUDE_BYTES + uint32At(message, 4)
    const isIntact = crc32(message, end) === uint32At(message, end)
    const headers = isIntact ? headersOf(message.subarray(PRELUDE_BYTES, headersEnd)) : undefined
    if (headers === undefined) this.#isDamaged = true
    else messages.push({ headers, payload: message.subarray(headersEnd, end) })
  }
}

/** Lengths of header values by type: true, false, byte, short, int, long, bytes, string, timestamp, UUID. */
const VALUE_BYTES: readonly (number | undefined)[] = [0, 0, 1, 2, 4, 8, undefined, undefined, 8, 16]
const STRING = 7

/** @returns undefined when these are no headers */
function headersOf(bytes: Uint8Array): ReadonlyMap<string, string> | undefined {
  const headers = new Map<string, string>()
  for (let at = 0; at < bytes.length; ) {
    const nameEnd = at + 1 + (bytes[at] ?? 0)
    const type = bytes[nameEnd] ?? -1
    const hasLength = type === STRING || type === STRING - 1
    const start = nameEnd + (hasLength ? 3 : 1)
    const length = hasLength ? uint16At(bytes, nameEnd + 1) : VALUE_BYTES[type]
    if (length === undefined || start + length > bytes.length) return undefined
    if (type === STRING) headers.set(utf8(bytes, at + 1, nameEnd), utf8(bytes, start, start + length))
    at = start + length
  }
  return headers
}

function utf8(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}

function uint16At(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}

function uint32At(bytes: Uint8Array, at: number): number {
  return ((uint16At(bytes, at) << 16) | uint16At(bytes, at + 2)) >>> 0
}

/** The checksum of gzip and zlib (RFC 1952, section 8), whose remainders for one byte are these. */
const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0xedb88320 : 0)
  return remainder
})

/** CRC32 of the first bytes. Written here because rules about bytes stay free of Node's modules. */
export function crc32(bytes: Uint8Array, end: number): number {
  let sum = 0xffffffff
  for (let at = 0; at < end; at++) {
    sum = (sum >>> 8) ^ (REMAINDERS[(sum ^ (bytes[at] ?? 0)) & 0xff] ?? 0)
  }
  return (sum ^ 0xffffffff) >>> 0
}
