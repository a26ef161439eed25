import type { CallGroup } from './call-group.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { repriceGroup } from './reprice.ts'
import { calledAs, subjectOf } from './subject.ts'

/**
 * How long a prompt must be and how soon it must come again to be read from a cache, and in which steps it is
 * cached. Sources: https://platform.openai.com/docs/guides/prompt-caching (1,024 tokens, steps of 128, 5 to 10
 * minutes); https://docs.claude.com/en/docs/build-with-claude/prompt-caching (1,024 for most models, 5 minutes).
 */
export const CACHE_MIN_TOKENS = 1_024
export const CACHE_STEP_TOKENS = 128
export const CACHE_LIFE_MS = 5 * 60_000

/** Calls of a group whose prompt was seen within `CACHE_LIFE_MS`. */
export interface RepeatedPrompts {
  /** Of the calls with such prompts alone. Its `input_tokens` are those that could be cached and are not. */
  readonly group: CallGroup
  /** Of the input, what came again and would be read from the cache; the rest came first and would be written to it. */
  readonly repeatedTokens: number
}

/**
 * The input of repeated prompts at cache prices: the first of a run written, the others read. Where the price book has
 * no cache prices, nothing is saved.
 */
export function promptCaching(
  { group, repeatedTokens }: RepeatedPrompts,
  context: AdviceContext,
): readonly Finding[] {
  const { book, organizationId, atMs } = context
  const input = group.quantities['input_tokens'] ?? 0
  const current = repriceGroup(book, organizationId, atMs, group)
  const cached = repriceGroup(book, organizationId, atMs, {
    ...group,
    quantities: {
      input_tokens: input,
      cache_read_tokens: repeatedTokens,
      cache_write_tokens: input - repeatedTokens,
    },
  })
  if (current === undefined || cached === undefined) return []
  return [
    {
      kind: 'prompt_caching',
      scope: group.scope,
      subject: subjectOf(group, current.version),
      alternative: { note: 'Mark the repeated prompt for the cache, or keep its beginning the same.' },
      calledAs: calledAs(group),
      events: group.calls,
      currentUsd: current.costUsd,
      alternativeUsd: cached.costUsd,
      priceVersionIds: [current.version.id],
      isGuess: false,
    },
  ]
}
