import { SseParser } from './framing/sse.ts'
import { BoundedText, type KeptOutput } from './reader.ts'

/** Raw events that are kept unread, in characters. More than most answers have; beyond it the oldest are read. */
const UNREAD_MAX = 256 * 1024
/** Read at once, in characters, or as much as comes at once: a quarter of a megabyte would hold up the event loop. */
const STEP = 32 * 1024

/**
 * The text of a streamed answer, for the rare case that it has to be estimated: events are kept as they came
 * and only read when somebody asks for the text, or there are too many.
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
    if (this.#unreadLength > UNREAD_MAX) this.#read(Math.max(STEP, events.length))
  }

  /** What is kept, as it is: a worker reads the rest. */
  get kept(): KeptOutput {
    const { text, toolCalls } = this.#read(0)
    return { text, toolCalls, events: this.#unread.join('') }
  }

  /** How often a tool is called in the text. */
  get toolCalls(): number {
    return this.#read(this.#unreadLength).toolCalls
  }

  toString(): string {
    return this.#read(this.#unreadLength).text
  }

  /** Reads the oldest events. @param atLeast so many characters */
  #read(atLeast: number): { readonly text: string; readonly toolCalls: number } {
    let length = 0
    let count = 0
    for (; count < this.#unread.length && length < atLeast; count++)
      length += this.#unread[count]?.length ?? 0
    if (count > 0) {
      const sse = new SseParser()
      for (const event of sse.push(Buffer.from(this.#unread.splice(0, count).join(''), 'latin1'))) {
        if (event.data !== '') this.#readEvent(event.data, this.#text)
      }
      const last = sse.end()
      if (last !== undefined && last.data !== '') this.#readEvent(last.data, this.#text)
      this.#unreadLength -= length
    }
    return { text: this.#text.toString(), toolCalls: this.#text.toolCalls }
  }
}
