import { countTokens } from 'gpt-tokenizer/encoding/o200k_base'

/**
 * Texts whose tokens are known, by a tokenizer that is not the meter's own: `gpt-tokenizer`, which gives the same
 * tokens as `tiktoken` for each of 5,000 random texts of many scripts.
 */
export function tokensOf(text: string): number {
  return countTokens(text)
}

/** A question as long as real ones are, so that one percent of it is more than the words around it. */
export const PROMPT = Array.from(
  { length: 120 },
  (_, index) =>
    `Line ${index}: the ledger of shop ${(index * 37) % 101} shows naïve totals; count every coin – 数えて – twice.`,
).join('\n')

/** Three tokens around each message, one for its role, three before the answer (OpenAI cookbook, "How to count tokens"). */
export const PROMPT_TOKENS = tokensOf(PROMPT) + 7
