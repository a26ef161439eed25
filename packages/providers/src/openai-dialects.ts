import { countAt, type JsonObject, objectAt } from './reader.ts'

/**
 * Where hosts that speak OpenAI chat completions differ from OpenAI, as far as it matters for counting. Read
 * from the answer, not from the host, wherever the answer tells: it may have come through a gateway. Sources:
 * the vendors' API references, read 2026-11; issues named where a fact is theirs.
 */

/**
 * Providers whose streams always have usage. They need not be asked, and what they send is the application's to
 * see. Mistral refuses to be asked: `stream_options` is an "extra_forbidden" field there (BerriAI/litellm#8978).
 * OpenRouter: "usage accounting"; Groq: `x_groq.usage`; Together: usage on the last chunk.
 */
const SENDS_STREAM_USAGE: ReadonlySet<string> = new Set(['openrouter', 'mistral_ai', 'groq', 'together_ai'])

/** Whether a provider's streams have usage without being asked for it. */
export function sendsStreamUsage(provider: string): boolean {
  return SENDS_STREAM_USAGE.has(provider)
}

/**
 * The usage of an answer or a chunk. Groq puts that of a stream under `x_groq`, and says it again in a chunk of
 * its own where it was asked to: either counts, never both.
 */
export function usageIn(answer: JsonObject): JsonObject | undefined {
  return objectAt(answer, 'usage') ?? objectAt(objectAt(answer, 'x_groq'), 'usage')
}

/** What Groq's compound systems used of each model that they asked. */
export function breakdownIn(answer: JsonObject): JsonObject | undefined {
  return objectAt(answer, 'usage_breakdown') ?? objectAt(objectAt(answer, 'x_groq'), 'usage_breakdown')
}

/** What Groq counts of its hardware's caches, in an answer that is not streamed. Not billed. */
export function hardwareUsage(answer: JsonObject): JsonObject | undefined {
  return objectAt(answer, 'usage') && objectAt(objectAt(answer, 'x_groq'), 'usage')
}

/**
 * Input tokens that were read from the cache: OpenAI, Groq, xAI, OpenRouter `prompt_tokens_details`; DeepSeek
 * `prompt_cache_hit_tokens`, which with `prompt_cache_miss_tokens` adds up to the prompt; Mistral
 * `num_cached_tokens` or `prompt_token_details`.
 */
export function cachedTokens(usage: JsonObject): number {
  return (
    countAt(objectAt(usage, 'prompt_tokens_details'), 'cached_tokens') ??
    countAt(usage, 'prompt_cache_hit_tokens') ??
    countAt(objectAt(usage, 'prompt_token_details'), 'cached_tokens') ??
    countAt(usage, 'num_cached_tokens') ??
    0
  )
}

/**
 * All output. xAI counts reasoning beside `completion_tokens`: then the total is that of all three, which it
 * never is where reasoning is inside (vercel/ai#9774: 2640 + 182 + 672 = 3494).
 */
export function outputTokens(usage: JsonObject): number | undefined {
  const completion = countAt(usage, 'completion_tokens')
  if (completion === undefined) return undefined
  const reasoning = countAt(objectAt(usage, 'completion_tokens_details'), 'reasoning_tokens') ?? 0
  const prompt = countAt(usage, 'prompt_tokens')
  const isBeside = prompt !== undefined && countAt(usage, 'total_tokens') === prompt + completion + reasoning
  return isBeside ? completion + reasoning : completion
}

/** Why DeepSeek's two halves of the prompt contradict it. */
export function promptMismatch(usage: JsonObject): string | undefined {
  const prompt = countAt(usage, 'prompt_tokens')
  const hit = countAt(usage, 'prompt_cache_hit_tokens')
  const miss = countAt(usage, 'prompt_cache_miss_tokens')
  if (prompt === undefined || hit === undefined || miss === undefined || hit + miss === prompt) {
    return undefined
  }
  return `prompt_tokens is ${prompt}, cache hits and misses add up to ${hit + miss}`
}

/** Seconds of audio in the prompt, billed beside its tokens (Mistral's Voxtral). */
export function promptAudioSeconds(usage: JsonObject): number {
  return countAt(usage, 'prompt_audio_seconds') ?? 0
}

/** What the provider says that it charged, in US dollars, as plain decimal text (OpenRouter: credits). */
export function reportedCostUsd(usage: JsonObject | undefined): string | undefined {
  const cost = usage?.['cost']
  if (typeof cost !== 'number' || !Number.isFinite(cost) || cost < 0) return undefined
  return plainDecimal(String(cost))
}

/** The digits that the shortest form of a number has, without its exponent. */
function plainDecimal(text: string): string {
  const [mantissa = '', exponent] = text.split('e')
  if (exponent === undefined) return text
  const [whole = '', fraction = ''] = mantissa.split('.')
  const places = Number(exponent)
  const digits = whole + fraction
  if (places >= 0) return digits.padEnd(whole.length + places, '0')
  return `0.${digits.padStart(digits.length - whole.length - places, '0')}`
}
