import { SseParser } from './framing/sse.ts'
import { BoundedText } from './reader.ts'

/** Raw events that are kept unread, in characters. More than most answers have; beyond it they are read. */
const UNREAD_MAX = 256 * 1024

/**
 * The text of a streamed answer, for the rare case that it has to be estimated: events are kept as they came
 * and only read when somebody asks for the text.
 */
export class OutputText {
  readonly #readEvent: (data: string, into: BoundedText) => void
  readonly #text = new BoundedText()
  #unread: string[] = []
  #unreadLength = 0

  /** @param readEvent adds what an event's data holds of the answer */
  constructor(readEvent: (data: string, into: BoundedText) => void) {
    this.#readEvent = readEvent
  }

  /** @param events whole events, one character per byte */
  keep(events: string): void {
    if (this.#text.isFull) return
    this.#unread.push(events)
    this.#unreadLength += events.length
    if (this.#unreadLength > UNREAD_MAX) this.#read()
  }

  toString(): string {
    this.#read()
    return this.#text.toString()
  }

  #read(): void {
    const sse = new SseParser()
    for (const event of sse.push(Buffer.from(this.#unread.join(''), 'latin1'))) {
      if (event.data !== '') this.#readEvent(event.data, this.#text)
    }
    const last = sse.end()
    if (last !== undefined && last.data !== '') this.#readEvent(last.data, this.#text)
    this.#unread = []
    this.#unreadLength = 0
  }
}
