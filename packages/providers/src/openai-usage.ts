import { countAt, type JsonObject, objectAt, withoutContradictions } from './reader.ts'

/** Counts in the words of the usage event, and what is wrong with them. */
export interface ReadQuantities {
  readonly quantities: Readonly<Record<string, number>>
  readonly mismatch?: string
}

/**
 * A usage with `input_tokens` and `output_tokens`, as OpenAI's younger APIs report it: responses, images,
 * transcriptions, speech. Details are parts of the totals.
 *
 * @param beside what is billed beside the tokens, by meter, and parts of the totals that only the caller knows
 * @returns undefined when it has neither of the totals
 */
export function tokenQuantities(
  usage: JsonObject,
  beside: Readonly<Record<string, number>> = {},
): ReadQuantities | undefined {
  const input = countAt(usage, 'input_tokens')
  const output = countAt(usage, 'output_tokens')
  if (input === undefined && output === undefined) return undefined
  const reported: Record<string, number> = {}
  const addPart = (meter: string, count: number | undefined) => {
    if (count !== undefined && count > 0) reported[meter] = count
  }
  // A side that was not reported is absent, not zero: it can then be estimated.
  if (input !== undefined) {
    // The APIs for audio say "token" where the others say "tokens".
    const details = objectAt(usage, 'input_tokens_details') ?? objectAt(usage, 'input_token_details')
    reported['input_tokens'] = input
    addPart('cache_read_tokens', countAt(details, 'cached_tokens'))
    addPart('cache_write_tokens', countAt(details, 'cache_write_tokens'))
    addPart('audio_input_tokens', countAt(details, 'audio_tokens'))
    addPart('image_input_tokens', countAt(details, 'image_tokens'))
  }
  if (output !== undefined) {
    const details = objectAt(usage, 'output_tokens_details')
    reported['output_tokens'] = output
    addPart('reasoning_tokens', countAt(details, 'reasoning_tokens'))
    addPart('image_output_tokens', countAt(details, 'image_tokens'))
  }
  const { quantities, mismatch } = withoutContradictions({ ...reported, ...beside })
  const total = countAt(usage, 'total_tokens')
  const sum = (input ?? 0) + (output ?? 0)
  if (total !== undefined && total !== sum) {
    return { quantities, mismatch: `total_tokens is ${total}, input and output add up to ${sum}` }
  }
  return { quantities, ...(mismatch !== undefined && { mismatch }) }
}
