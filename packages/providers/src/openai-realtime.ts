import { findingsOf } from './findings.ts'
import { countAt, isJsonObject, objectAt, type ReadUsage, textAt, withoutContradictions } from './reader.ts'

/**
 * OpenAI realtime (OpenAI API reference "Realtime", openai-node 7.57 types, read 2026-11): the usage of one
 * `response.done` event, which comes over a WebSocket that no tap sees. Audio and cached tokens are inside the
 * totals; what was cached of the audio is told apart.
 *
 * @param event parsed JSON, as the application received it
 * @returns undefined for other events, and for a response without usage
 */
export function realtimeUsage(event: unknown): ReadUsage | undefined {
  if (!isJsonObject(event) || event['type'] !== 'response.done') return undefined
  const response = objectAt(event, 'response')
  const usage = objectAt(response, 'usage')
  const input = countAt(usage, 'input_tokens')
  const output = countAt(usage, 'output_tokens')
  if (usage === undefined || input === undefined || output === undefined) return undefined
  const given = objectAt(usage, 'input_token_details')
  const cached = objectAt(given, 'cached_tokens_details')
  const reported: Record<string, number> = { input_tokens: input, output_tokens: output }
  const addPart = (meter: string, count: number | undefined) => {
    if (count !== undefined && count > 0) reported[meter] = count
  }
  addPart('cache_read_tokens', countAt(given, 'cached_tokens'))
  for (const kind of ['audio', 'image'] as const) {
    const inside = countAt(cached, `${kind}_tokens`) ?? 0
    addPart(`${kind}_cache_read_tokens`, inside)
    addPart(`${kind}_input_tokens`, Math.max(0, (countAt(given, `${kind}_tokens`) ?? 0) - inside))
  }
  addPart('audio_output_tokens', countAt(objectAt(usage, 'output_token_details'), 'audio_tokens'))
  const { quantities, mismatch } = withoutContradictions(reported)
  const total = countAt(usage, 'total_tokens')
  const contradiction =
    total === undefined || total === input + output
      ? mismatch
      : `total_tokens is ${total}, input and output add up to ${input + output}`
  const responseId = textAt(response, 'id')
  return {
    quantities,
    ...(contradiction !== undefined && { mismatch: contradiction }),
    ...findingsOf(usage),
    isComplete: textAt(response, 'status') === 'completed',
    isStreamed: true,
    ...(responseId !== undefined && { responseId }),
  }
}
