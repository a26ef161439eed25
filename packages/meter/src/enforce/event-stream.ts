/** Longest event that is kept, in characters: a snapshot with some 50,000 decisions. */
const EVENT_MAX_CHARACTERS = 16 * 1024 * 1024

/**
 * Cuts server-sent events out of text as it arrives (WHATWG HTML standard, section 9.2). Comments are thrown away at
 * once: a quiet stream is nothing but heartbeats, for weeks.
 */
export class EventStream {
  #rest = ''
  #name = ''
  #data: string[] = []
  #characters = 0

  /**
   * @returns the data of the events of this name that the text completes
   * @throws RangeError for an event that is too large
   */
  push(text: string, name: string): string[] {
    const events: string[] = []
    // A CR at the end may have its LF in the next piece.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0 && this.#name === name) events.push(this.#data.join('\n'))
        this.#name = ''
        this.#data = []
        this.#characters = 0
      } else this.#take(line)
    }
    if (this.#characters + this.#rest.length > EVENT_MAX_CHARACTERS) {
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
