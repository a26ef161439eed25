/**
 * The meters of an LLM call and how they contain each other.
 *
 * Wire formats disagree about what a total includes; a usage event speaks one language: `input_tokens` is
 * all input, `output_tokens` all output, and every other token meter is a part of its `partOf`. For rating
 * the totals are taken apart into disjoint buckets (`disjointQuantities`), so that nothing is counted twice.
 */
export interface MeterDefinition {
  /** The meter whose quantity includes this one's. */
  readonly partOf?: string
  /** Whose price applies when the price book has none for this meter: the vendor then makes no difference. */
  readonly pricedAs?: string
}

export const METERS: Readonly<Record<string, MeterDefinition>> = {
  input_tokens: {},
  cache_read_tokens: { partOf: 'input_tokens', pricedAs: 'input_tokens' },
  cache_write_tokens: { partOf: 'input_tokens', pricedAs: 'input_tokens' },
  // Long-lived cache writes (Anthropic: one hour) cost more than short ones.
  cache_write_1h_tokens: { partOf: 'cache_write_tokens', pricedAs: 'cache_write_tokens' },
  audio_input_tokens: { partOf: 'input_tokens', pricedAs: 'input_tokens' },
  image_input_tokens: { partOf: 'input_tokens', pricedAs: 'input_tokens' },
  video_input_tokens: { partOf: 'input_tokens', pricedAs: 'input_tokens' },
  audio_cache_read_tokens: { partOf: 'cache_read_tokens', pricedAs: 'cache_read_tokens' },
  image_cache_read_tokens: { partOf: 'cache_read_tokens', pricedAs: 'cache_read_tokens' },
  output_tokens: {},
  reasoning_tokens: { partOf: 'output_tokens', pricedAs: 'output_tokens' },
  audio_output_tokens: { partOf: 'output_tokens', pricedAs: 'output_tokens' },
  image_output_tokens: { partOf: 'output_tokens', pricedAs: 'output_tokens' },
  video_output_tokens: { partOf: 'output_tokens', pricedAs: 'output_tokens' },
}

/** A quantity as it was reported: a whole count, or a decimal such as seconds. Never negative. */
export type Quantities = Readonly<Record<string, number>>

/** A part that is larger than the whole it belongs to: the reporter contradicts itself. */
export interface MeterContradiction {
  readonly meter: string
  readonly message: string
}

/** Parts that exceed their whole; empty when the quantities are consistent. */
export function findContradictions(quantities: Quantities): readonly MeterContradiction[] {
  const found: MeterContradiction[] = []
  for (const [whole, parts] of PARTS) {
    let sum = 0
    let largest: string | undefined
    for (const part of parts) {
      const quantity = quantities[part] ?? 0
      if (quantity === 0) continue
      sum += quantity
      if (largest === undefined || quantity > (quantities[largest] ?? 0)) largest = part
    }
    if (largest !== undefined && sum > (quantities[whole] ?? 0)) {
      found.push({
        meter: largest,
        message: `the parts of ${whole} add up to ${sum}, more than ${whole} itself (${quantities[whole] ?? 0})`,
      })
    }
  }
  return found
}

/**
 * Takes totals apart: every unit ends up in exactly one meter, and the token meters add up to the totals.
 * Meters of zero are left out.
 *
 * @param quantities consistent quantities (`findContradictions` found nothing)
 */
export function disjointQuantities(quantities: Quantities): Readonly<Record<string, number>> {
  const disjoint: Record<string, number> = {}
  for (const meter in quantities) {
    let own = quantities[meter] ?? 0
    // Looks at the parts there are, not at all there could be: this is done for every event.
    if (PARTS.has(meter)) {
      for (const part in quantities) if (WHOLE_OF.get(part) === meter) own -= quantities[part] ?? 0
    }
    if (own > 0) disjoint[meter] = own
  }
  return disjoint
}

const WHOLE_OF: ReadonlyMap<string, string> = new Map(
  Object.entries(METERS).flatMap(([meter, { partOf }]) => (partOf === undefined ? [] : [[meter, partOf]])),
)
const PARTS: ReadonlyMap<string, readonly string[]> = Map.groupBy(
  Object.keys(METERS).filter((meter) => METERS[meter]?.partOf !== undefined),
  (meter) => METERS[meter]?.partOf ?? '',
)
