/** Longest event that is kept, in characters: a snapshot with some 50,000 decisions. */
const EVENT_MAX_CHARACTERS = 16 * 1024 * 1024

/**
 * Cuts server-sent events out of text as it arrives (WHATWG HTML standard, section 9.2). Comments are thrown away at
 * once: a quiet stream is nothing but heartbeats, for weeks.
 */
export class EventStream {
  /** The line that is being read, as it came: a long one is looked through once. */
  #pieces: string[] = []
  /** A LF right behind it is the same line end. */
  #wasCr = false
  #name = ''
  #data: string[] = []
  #characters = 0

  /**
   * @returns the data of the events of this name that the text completes
   * @throws RangeError for an event that is too large
   */
  push(text: string, name: string): string[] {
    if (text === '') return []
    const events: string[] = []
    let start = this.#wasCr && text.startsWith('\n') ? 1 : 0
    for (const { index, 0: end } of text.matchAll(/\r\n|\n|\r/g)) {
      if (index < start) continue
      this.#pieces.push(text.slice(start, index))
      const line = this.#pieces.join('')
      this.#pieces = []
      start = index + end.length
      if (line !== '') this.#take(line)
      else {
        if (this.#data.length > 0 && this.#name === name) events.push(this.#data.join('\n'))
        this.#name = ''
        this.#data = []
        this.#characters = 0
      }
    }
    this.#wasCr = text.endsWith('\r')
    if (start < text.length) this.#pieces.push(text.slice(start))
    const lineLength = this.#pieces.reduce((sum, piece) => sum + piece.length, 0)
    if (this.#characters + lineLength > EVENT_MAX_CHARACTERS) {
      throw new RangeError(`an event of more than ${EVENT_MAX_CHARACTERS} characters`)
    }
    return events
  }

  #take(line: string): void {
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') this.#name = value
    if (field !== 'data') return
    this.#data.push(value)
    this.#characters += value.length
  }
}
