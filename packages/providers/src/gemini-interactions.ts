import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import type { ReadQuantities } from './openai-usage.ts'
import {
  type BoundedText,
  countAt,
  isJsonObject,
  type JsonObject,
  LazyBody,
  objectAt,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
  withoutContradictions,
} from './reader.ts'

/**
 * Google's interactions (Gemini API, after `Interaction` and `Usage` in the types of @google/genai 3.1, read
 * 2026-11).
 *
 * Cached tokens are inside `total_input_tokens`; thoughts are beside `total_output_tokens`, tokens of tool results
 * beside the input. A stream repeats its usage in several events: that of `interaction.completed` counts. An
 * interaction in the background is answered at once, without usage, and fetched later by its id; each time with
 * the same usage, which counts once, under the event of the request (as OpenAI's responses do).
 */
export function readGeminiInteractions(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  let interaction: JsonObject | undefined
  let isEnded = false
  let errorType: string | undefined
  const answer = jsonAnswer({
    isNotable: (events) => NOTABLE.test(events),
    readEvent(event) {
      const type = textAt(event, 'event_type')
      if (type === 'error') {
        errorType = textAt(objectAt(event, 'error'), 'code') ?? 'error'
        return
      }
      interaction = { ...interaction, ...objectAt(event, 'interaction') }
      isEnded ||= type === 'interaction.completed'
    },
    readBody(read) {
      interaction = read
    },
    addTexts,
  })
  return {
    requestedModel: body.model ?? textAt(body.json, 'agent') ?? request.model,
    rewrittenBody: undefined,
    promptText: () =>
      textsOf([body.json?.['system_instruction'], body.json?.['input'], body.json?.['tools']]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    result(): ReadUsage {
      const { isStreamed, problem } = answer
      const usage = objectAt(interaction, 'usage')
      const read = usage === undefined ? undefined : quantitiesOf(usage)
      const status = textAt(interaction, 'status')
      const isPending = !isStreamed && read === undefined && (status === 'in_progress' || status === 'queued')
      const responseModel = textAt(interaction, 'model')
      const responseId = textAt(interaction, 'id')
      const serviceTier = textAt(interaction, 'service_tier')
      const error = answer.errorType ?? errorType ?? (FAILED.has(status ?? '') ? status : undefined)
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(serviceTier !== undefined && { serviceTier }),
        ...(read !== undefined && { quantities: read.quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...findingsOf(usage, problem),
        isComplete: isStreamed ? isEnded : answer.isRead && !isPending,
        isStreamed,
        ...(isPending && { isPending }),
        ...(responseId !== undefined && { responseId }),
        ...(error !== undefined && { errorType: error }),
      }
    },
  }
}

/** Events that hold the interaction, or a failure. In a text of the answer the quotes would be escaped. */
const NOTABLE = /"event_type"\s*:\s*"(?:interaction\.(?:created|completed)|error)"/

const FAILED: ReadonlySet<string> = new Set(['failed', 'cancelled'])

function quantitiesOf(usage: JsonObject): ReadQuantities | undefined {
  const prompt = countAt(usage, 'total_input_tokens')
  const answered = countAt(usage, 'total_output_tokens')
  const thoughts = countAt(usage, 'total_thought_tokens') ?? 0
  const toolUse = countAt(usage, 'total_tool_use_tokens') ?? 0
  if (prompt === undefined && answered === undefined) return undefined
  const reported: Record<string, number> = {}
  const addPart = (meter: string, count: number) => {
    if (count > 0) reported[meter] = count
  }
  if (prompt !== undefined && Number.isSafeInteger(prompt + toolUse)) {
    reported['input_tokens'] = prompt + toolUse
    addPart('cache_read_tokens', countAt(usage, 'total_cached_tokens') ?? 0)
  }
  if (answered !== undefined && Number.isSafeInteger(answered + thoughts)) {
    reported['output_tokens'] = answered + thoughts
    addPart('reasoning_tokens', thoughts)
    for (const kind of ['audio', 'image', 'video']) {
      addPart(`${kind}_output_tokens`, tokensOf(usage, 'output_tokens_by_modality', kind))
    }
  }
  addPart('web_search_requests', searches(usage))
  const { quantities, mismatch } = withoutContradictions(reported)
  const total = countAt(usage, 'total_tokens')
  const sum = (prompt ?? 0) + (answered ?? 0) + thoughts + toolUse
  if (total !== undefined && total !== sum) {
    return { quantities, mismatch: `total_tokens is ${total}, its parts add up to ${sum}` }
  }
  return { quantities, ...(mismatch !== undefined && { mismatch }) }
}

function tokensOf(usage: JsonObject, list: string, kind: string): number {
  const entries = listOf(usage[list]).filter((entry) => entry['modality'] === kind)
  const sum = entries.reduce((all, entry) => all + (countAt(entry, 'tokens') ?? 0), 0)
  return Number.isSafeInteger(sum) ? sum : 0
}

/** Searches that grounded the answer. */
function searches(usage: JsonObject): number {
  const tools = listOf(usage['grounding_tool_count']).filter((entry) => entry['type'] === 'google_search')
  const sum = tools.reduce((all, tool) => all + (countAt(tool, 'count') ?? 0), 0)
  return Number.isSafeInteger(sum) ? sum : 0
}

function listOf(value: unknown): readonly JsonObject[] {
  return Array.isArray(value) ? value.filter(isJsonObject) : []
}

/** Adds what the model wrote, in one event of a stream or in a whole interaction. */
function addTexts(answer: JsonObject, into: BoundedText): void {
  into.add(textAt(objectAt(answer, 'delta'), 'text'))
  for (const step of listOf(answer['steps'])) {
    for (const part of listOf(step['content'])) into.add(textAt(part, 'text'))
  }
}
