/**
 * What the next call to a fake vendor is to be: what it really costs, what is said, and what goes wrong on the way.
 * The vendors' answers are made of it in their own arithmetic.
 */

/** What a provider counted for a call, as the usage event says it: totals, and parts of the totals. */
export interface Truth {
  readonly input: number
  readonly output: number
  readonly cacheRead?: number
  /** All writes, those for an hour included. */
  readonly cacheWrite?: number
  readonly cacheWrite1h?: number
  readonly reasoning?: number
  readonly audioInput?: number
  readonly imageInput?: number
  readonly audioOutput?: number
  readonly imageOutput?: number
  /** Google: input that stands beside the prompt, for results of its own tools. */
  readonly toolInput?: number
  readonly webSearches?: number
}

/** What the model says, piece by piece as a stream brings it. */
export interface Say {
  readonly reasoning: readonly string[]
  readonly text: readonly string[]
  readonly tool?: { readonly name: string; readonly arguments: readonly string[] }
}

export interface Plan {
  readonly truth: Truth
  readonly say: Say
  /** Statuses of the attempts that fail before one is answered. */
  readonly failures: readonly number[]
  /** A text that a failure quotes, as vendors do with what they refuse. */
  readonly quoted: string
  readonly isGzip: boolean
  /** The body is written in pieces of so many bytes; undefined: as the vendor writes it. */
  readonly pieceBytes: number | undefined
  /** The vendor writes no further than the piece that has the marker, until it is told to go on. */
  readonly isPausing: boolean
  /** The connection breaks at the pause, or in the middle of an answer that is not streamed. */
  readonly isDropped: boolean
}

/** A word in the middle of every text: where a stream is left or breaks. */
export const MARKER = ' halfway'

/** Common words, and characters of two, three and four bytes, which a cut may go through. */
const WORDS = [' counted', ' naïve', ' 数えた', ' and', ' paid', ' 🙂', ' to the', ' last token.']

/** A text in pieces, with the marker in its middle. */
export function pieces(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) =>
    index === Math.floor(count / 2) ? MARKER : (WORDS[index % WORDS.length] ?? ''),
  )
}

export const TOOL = {
  name: 'get_weather',
  description: 'The weather of a city at a time of the day',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', description: 'Its name' } },
    required: ['city'],
  },
} as const

/** A call of the tool, its arguments cut where no value ends. */
export const TOOL_CALL = { name: TOOL.name, arguments: ['{"city":', '"Orléans 東', '京"}'] } as const

/** The next call when nothing is said otherwise. */
export const PLAN: Plan = {
  truth: { input: 1, output: 1 },
  say: { reasoning: [], text: pieces(10) },
  failures: [],
  quoted: '',
  isGzip: false,
  pieceBytes: undefined,
  isPausing: false,
  isDropped: false,
}
