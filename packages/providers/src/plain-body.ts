import { HeldBytes } from './framing/held-bytes.ts'
import { type JsonObject, parseJsonObject } from './reader.ts'

/** Largest plain (not streamed) body that is kept for reading, in bytes; larger ones go unread and are marked so. */
export const PLAIN_BODY_MAX_BYTES = 64 * 1024 * 1024

/** Why a body that has ended cannot be read. */
export type BodyProblem = 'unreadable_body' | 'body_too_large'

/** A plain body that has ended. Neither, where it is text that says so. */
export interface PlainReading {
  readonly json?: JsonObject
  /** The JSON as it came, whole or not. */
  readonly text?: string
  readonly problem?: BodyProblem
}

/** The body of an answer that is not streamed, as far as it is kept for reading. */
export class PlainBody {
  readonly #held = new HeldBytes()
  #bytes = 0

  add(bytes: Uint8Array): void {
    this.#bytes += bytes.length
    if (this.#bytes <= PLAIN_BODY_MAX_BYTES) this.#held.add(bytes)
    else this.#held.take()
  }

  /** What was kept of the body, from then on the caller's. Undefined for one that was too large to be kept. */
  #take(): string | undefined {
    return this.#bytes > PLAIN_BODY_MAX_BYTES ? undefined : textOfBytes(this.#held.take())
  }

  /**
   * Reads the body once it has ended.
   *
   * @param contentType what it says that it is
   */
  read(contentType: string | null): PlainReading {
    const text = this.#take()
    if (text === undefined) return { problem: 'body_too_large' }
    const json = parseJsonObject(text)
    if (json !== undefined) return { json, text }
    // What says that it is plain text is what it says.
    return NOT_JSON.test(contentType ?? '') ? {} : { problem: 'unreadable_body', text }
  }
}

const NOT_JSON = /^\s*(?:text\/(?:plain|vtt)|application\/x-subrip)/i

export function textOfBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}
