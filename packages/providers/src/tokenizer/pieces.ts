/** BPE is quadratic on long unbroken runs: pieces of this many characters keep every text harmless. */
export const PIECE_CHARS = 1_000

/**
 * Cuts a text into pieces that can be counted one by one. The cut is where every tokenizer at hand begins a new
 * word anyway, behind a letter and before something that cannot belong to it: the pieces have as many tokens as
 * the whole. Only a run of more than 1,000 characters without such a place is cut inside.
 */
export function piecesOf(text: string): string[] {
  const pieces: string[] = []
  for (let start = 0; start < text.length; ) {
    const end = cutBefore(text, start, Math.min(start + PIECE_CHARS, text.length))
    pieces.push(text.slice(start, end))
    start = end
  }
  return pieces
}

function cutBefore(text: string, start: number, end: number): number {
  if (end === text.length) return end
  for (let at = end; at > start; at--) {
    if (LETTER.test(text.charAt(at - 1)) && !JOINED.test(text.charAt(at))) return at
  }
  // Not between the two halves of a character.
  return HIGH_SURROGATE.test(text.charAt(end - 1)) && end - start > 1 ? end - 1 : end
}

const LETTER = /\p{L}/u
/** What may go on a word: letters and their marks, digits, an apostrophe ("it's"), halves of characters. */
const JOINED = /[\p{L}\p{M}\p{N}\p{Cs}'’]/u
const HIGH_SURROGATE = /[\ud800-\udbff]/

/** Characters that are counted one by one; of a longer text, pieces at even distances stand for the rest. */
export const COUNTED_CHARS_MAX = 4 * 1024 * 1024

/** Counts texts of one call, all of it or, beyond the limit, a sample. */
export class TextCounter {
  readonly #encodedLength: (piece: string) => number
  readonly #stride: number

  /**
   * @param encodedLength tokens of one piece
   * @param charsTotal how long the call's texts are together, at most
   */
  constructor(encodedLength: (piece: string) => number, charsTotal: number) {
    this.#encodedLength = encodedLength
    this.#stride = Math.max(1, Math.ceil(charsTotal / COUNTED_CHARS_MAX))
  }

  /** Whether counts are extrapolated from a sample. */
  get isSampled(): boolean {
    return this.#stride > 1
  }

  count(text: string): number {
    let tokens = 0
    let counted = 0
    const pieces = piecesOf(text)
    for (let index = 0; index < pieces.length; index += this.#stride) {
      const piece = pieces[index] ?? ''
      tokens += this.#encodedLength(piece)
      counted += piece.length
    }
    return counted === text.length ? tokens : Math.round((tokens * text.length) / counted)
  }
}
