import { type JsonObject, parseJsonObject } from './reader.ts'

/** Largest plain (not streamed) body that is kept for reading, in bytes; larger ones go unread and are marked so. */
export const PLAIN_BODY_MAX_BYTES = 64 * 1024 * 1024

/** Why a body that has ended cannot be read. */
export type BodyProblem = 'unreadable_body' | 'body_too_large'

/** A plain body that has ended. Neither, where it is text that says so. */
export interface PlainReading {
  readonly json?: JsonObject
  readonly problem?: BodyProblem
}

/** The body of an answer that is not streamed, as far as it is kept for reading. */
export class PlainBody {
  #pieces: Uint8Array[] = []
  #bytes = 0

  add(bytes: Uint8Array): void {
    this.#bytes += bytes.length
    // Copied: the bytes go on to the application, and a byte stream takes their memory along. Not by `slice`,
    // which is a view where the chunk is a `Buffer`.
    if (this.#bytes <= PLAIN_BODY_MAX_BYTES) this.#pieces.push(Buffer.from(bytes))
    else this.#pieces = []
  }

  /** Undefined for a body that was too large to be kept. */
  get text(): string | undefined {
    return this.#bytes > PLAIN_BODY_MAX_BYTES ? undefined : textOfBytes(this.#pieces)
  }

  /**
   * Reads the body once it has ended.
   *
   * @param contentType what it says that it is
   */
  read(contentType: string | null): PlainReading {
    const { text } = this
    if (text === undefined) return { problem: 'body_too_large' }
    const json = parseJsonObject(text)
    if (json !== undefined) return { json }
    // What says that it is plain text is what it says.
    return NOT_JSON.test(contentType ?? '') ? {} : { problem: 'unreadable_body' }
  }
}

const NOT_JSON = /^\s*(?:text\/(?:plain|vtt)|application\/x-subrip)/i

/** UTF-8 text that arrived in pieces, mostly in one. */
export function textOfBytes(pieces: readonly Uint8Array[]): string {
  const [only] = pieces
  const bytes = pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}
