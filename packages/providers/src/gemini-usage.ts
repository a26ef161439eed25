import { countAt, isJsonObject, type JsonObject, withoutContradictions } from './reader.ts'

/**
 * Google's `usageMetadata` in the words of the usage event (after `UsageMetadata` in
 * the types of @google/genai 2.32).
 *
 * Cached tokens are inside `promptTokenCount`; thoughts are beside `candidatesTokenCount` and tokens of tool
 * results beside the prompt: both are added, and all four make the total. Counts of zero are left out on the
 * wire, so that in a whole answer what is absent is zero.
 *
 * @param isComplete whether the answer came to its end: before it, the output may not be counted yet
 */
export function quantitiesOf(
  usage: JsonObject,
  isComplete: boolean,
): { readonly quantities: Readonly<Record<string, number>>; readonly mismatch?: string } | undefined {
  const prompt = countAt(usage, 'promptTokenCount')
  const candidates = countAt(usage, 'candidatesTokenCount')
  const toolUse = countAt(usage, 'toolUsePromptTokenCount')
  const thoughts = countAt(usage, 'thoughtsTokenCount')
  const reported: Record<string, number> = {}
  const input = prompt === undefined ? undefined : prompt + (toolUse ?? 0)
  const output = outputOf(usage, prompt, candidates, thoughts, isComplete)
  // A side that was not reported, or not in numbers that are exact, is absent, not zero: it can be estimated.
  if (input !== undefined && Number.isSafeInteger(input)) {
    reported['input_tokens'] = input
    addInputParts(reported, input, usage)
  }
  if (output !== undefined && Number.isSafeInteger(output)) {
    reported['output_tokens'] = output
    addPart(reported, 'reasoning_tokens', thoughts ?? 0)
    for (const kind of KINDS)
      addPart(reported, `${kind}_output_tokens`, tokensOf(usage, ['candidatesTokensDetails'], kind))
  }
  if (Object.keys(reported).length === 0) return undefined
  const { quantities, mismatch } = withoutContradictions(reported)
  const total = countAt(usage, 'totalTokenCount')
  const sum = (prompt ?? 0) + (candidates ?? 0) + (toolUse ?? 0) + (thoughts ?? 0)
  if (total !== undefined && total !== sum) {
    return {
      quantities,
      mismatch: `totalTokenCount is ${total}, prompt, tool use, candidates and thoughts add up to ${sum}`,
    }
  }
  return { quantities, ...(mismatch !== undefined && { mismatch }) }
}

const KINDS = ['audio', 'image', 'video'] as const

function outputOf(
  usage: JsonObject,
  prompt: number | undefined,
  candidates: number | undefined,
  thoughts: number | undefined,
  isComplete: boolean,
): number | undefined {
  if (candidates !== undefined) return candidates + (thoughts ?? 0)
  // Counts that are there but no numbers are unknown, not zero.
  if (!isComplete || prompt === undefined || 'candidatesTokenCount' in usage) return undefined
  return thoughts ?? 0
}

/** Modalities of the input, without what the cache gave of them: that is counted as cached. */
function addInputParts(quantities: Record<string, number>, input: number, usage: JsonObject): void {
  const read = countAt(usage, 'cachedContentTokenCount') ?? 0
  addPart(quantities, 'cache_read_tokens', read)
  let uncached = Math.max(0, input - read)
  for (const kind of KINDS) {
    const all = tokensOf(usage, ['promptTokensDetails', 'toolUsePromptTokensDetails'], kind)
    const cached = Math.min(tokensOf(usage, ['cacheTokensDetails'], kind), all, read)
    // Which modality was cached is not always said: what does not fit beside the cached part is inside it.
    const beside = Math.min(all - cached, uncached)
    addPart(quantities, `${kind}_input_tokens`, beside)
    if (kind !== 'video') addPart(quantities, `${kind}_cache_read_tokens`, cached)
    uncached -= beside
  }
}

/** Tokens of a modality, over several lists of details. */
function tokensOf(usage: JsonObject, lists: readonly string[], kind: (typeof KINDS)[number]): number {
  let sum = 0
  for (const list of lists) {
    const details = usage[list]
    if (!Array.isArray(details)) continue
    for (const detail of details) {
      if (isJsonObject(detail) && detail['modality'] === kind.toUpperCase())
        sum += countAt(detail, 'tokenCount') ?? 0
    }
  }
  return Number.isSafeInteger(sum) ? sum : 0
}

function addPart(quantities: Record<string, number>, meter: string, count: number): void {
  if (count > 0) quantities[meter] = count
}
