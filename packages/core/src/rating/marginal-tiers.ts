import { METERS } from '../usage/meters.ts'
import type { UnitPrice } from './rate-card.ts'

/** The price of the tokens beyond a position in the request's input. */
export interface Bracket {
  readonly aboveInputTokens: number
  readonly price: UnitPrice
}

/**
 * In which order the parts of the input stand in the request: what is read from the cache is its beginning, what
 * is written to the cache follows, the rest comes last.
 */
const INPUT_ORDER: readonly string[] = [
  'cache_read_tokens',
  'audio_cache_read_tokens',
  'image_cache_read_tokens',
  'cache_write_1h_tokens',
  'cache_write_tokens',
  'audio_input_tokens',
  'image_input_tokens',
  'video_input_tokens',
  'input_tokens',
]

/** Whether a meter is the input or a part of it: only these can have marginal tiers. */
export function isPartOfInput(meter: string): boolean {
  let whole: string | undefined = meter
  while (whole !== undefined && whole !== 'input_tokens') whole = METERS[whole]?.partOf
  return whole !== undefined
}

/**
 * Splits the tokens of a meter at the thresholds of its brackets, by where they stand in the input.
 *
 * @param quantities disjoint quantities of the whole request
 * @param brackets ascending; each applies to tokens after its threshold
 * @returns parts that add up to the meter's quantity, none empty
 */
export function marginalParts(
  meter: string,
  quantities: Readonly<Record<string, number>>,
  base: UnitPrice,
  brackets: readonly Bracket[],
): readonly { readonly quantity: number; readonly price: UnitPrice }[] {
  let start = 0
  for (const earlier of INPUT_ORDER) {
    if (earlier === meter) break
    start += quantities[earlier] ?? 0
  }
  const end = start + (quantities[meter] ?? 0)
  const parts = []
  let from = start
  let price = base
  for (const bracket of brackets) {
    const to = Math.min(end, Math.max(from, bracket.aboveInputTokens))
    if (to > from) parts.push({ quantity: to - from, price })
    from = to
    price = bracket.price
  }
  if (end > from) parts.push({ quantity: end - from, price })
  return parts
}
