import { HeldBytes } from './held-bytes.ts'

/**
 * Server-sent events over bytes as they arrive (WHATWG HTML standard, section 9.2 "Server-sent events"):
 * lines end in LF, CRLF or CR; an empty line ends an event. Every byte belongs to exactly one event, so that
 * an event can be withheld and all other bytes passed on untouched.
 */

/** One event with the bytes that it arrived in. */
export interface SseEvent {
  /** Joined `data` lines; empty for comments and events without data. */
  readonly data: string
  /** The event's own bytes, its closing empty line included. */
  readonly raw: Uint8Array
}

/**
 * Largest event that is looked into, in bytes. A larger one passes unread, in pieces without data, so that it
 * is neither kept in memory nor held back.
 */
const EVENT_MAX_BYTES = 16 * 1024 * 1024

const LF = 10
const CR = 13
const NOTHING: Uint8Array = new Uint8Array(0)

/** Cuts a byte stream into events. */
export class SseParser {
  readonly #held = new HeldBytes()
  /** Whether the line being read has no byte yet. */
  #isLineEmpty = true
  #wasCr = false
  /** An empty line ended the event, and a LF that belongs to its CR may follow. */
  #isEnded = false
  /** Part of the event has passed unread already. */
  #isOversized = false

  /**
   * Looks whether bytes are whole events in the usual form (LF line ends), with nothing held before them. They
   * need not be pushed then.
   *
   * @returns the bytes as text, one character per byte; undefined when they must be pushed
   */
  wholeEvents(bytes: Uint8Array): string | undefined {
    if (this.#held.length > 0 || this.#isEnded || !this.#isLineEmpty) return undefined
    const { length } = bytes
    if (length < 2 || bytes[length - 1] !== LF || bytes[length - 2] !== LF) return undefined
    const text = latin1(bytes)
    return text.includes('\r') ? undefined : text
  }

  /** @returns the events that these bytes complete, in order */
  push(bytes: Uint8Array): SseEvent[] {
    const events: SseEvent[] = []
    let start = 0
    for (let index = 0; index < bytes.length; index++) {
      const byte = bytes[index]
      if (this.#isEnded) {
        // The empty line ended in CR: a LF right behind it is the same line end.
        const end = byte === LF ? index + 1 : index
        events.push(this.#take(bytes.subarray(start, end)))
        start = end
        this.#isEnded = false
        this.#isLineEmpty = true
        this.#wasCr = false
        if (byte === LF) continue
      }
      if (byte === LF) {
        if (this.#wasCr) {
          this.#wasCr = false
          continue
        }
        if (this.#isLineEmpty) {
          events.push(this.#take(bytes.subarray(start, index + 1)))
          start = index + 1
        }
        this.#isLineEmpty = true
      } else if (byte === CR) {
        if (this.#isLineEmpty) this.#isEnded = true
        this.#isLineEmpty = true
        this.#wasCr = true
      } else {
        this.#isLineEmpty = false
        this.#wasCr = false
      }
    }
    if (start < bytes.length) this.#held.add(bytes.subarray(start))
    if (this.#held.length > EVENT_MAX_BYTES) {
      events.push(this.#take(NOTHING))
      this.#isOversized = true
    }
    return events
  }

  /** The stream has ended. @returns what arrived after the last empty line, as an event */
  end(): SseEvent | undefined {
    return this.#held.length === 0 ? undefined : this.#take(NOTHING)
  }

  #take(rest: Uint8Array): SseEvent {
    let raw = rest
    if (this.#held.length > 0) {
      this.#held.add(rest)
      raw = this.#held.take()
    }
    const isUnread = this.#isOversized || raw.length > EVENT_MAX_BYTES
    this.#isOversized = false
    return { raw, data: isUnread ? '' : dataOf(raw) }
  }
}

/** Bytes as text, one character per byte: whatever they are, they can be had back. */
export function latin1(bytes: Uint8Array): string {
  const buffer = bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  return buffer.toString('latin1')
}

function dataOf(raw: Uint8Array): string {
  const text = Buffer.from(raw.buffer, raw.byteOffset, raw.length).toString('utf8')
  // Nearly all events are one line of data, ended by LF.
  const isPlain = text.startsWith('data: ') && text.endsWith('\n\n') && text.indexOf('\n') === text.length - 2
  if (isPlain && !text.includes('\r')) return text.slice(6, -2)
  let data: string | undefined
  for (const line of text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/)) {
    if (!line.startsWith('data')) continue
    if (line.length > 4 && line[4] !== ':') continue
    const value = line.slice(5)
    const own = value.startsWith(' ') ? value.slice(1) : value
    data = data === undefined ? own : `${data}\n${own}`
  }
  return data ?? ''
}
