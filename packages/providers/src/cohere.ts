import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
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
 * Cohere's chat, embed and rerank (after the types of cohere-ai 8.1).
 *
 * What is billed stands in `billed_units`: `usage.tokens` is larger, as it has Cohere's own prompt template in
 * it. A chat stream has its usage in `message-end`, always; embed and rerank have it in `meta`. The model is in
 * the request alone.
 */
export function readCohere(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  let responseId: string | undefined
  let usage: JsonObject | undefined
  let isEnded = false
  let failure: string | undefined
  const answer = jsonAnswer({
    isNotable: (events) => NOTABLE.test(events),
    readEvent: (event) => {
      responseId = textAt(event, 'id') ?? responseId
      if (event['type'] !== 'message-end') return
      const delta = objectAt(event, 'delta')
      usage = objectAt(delta, 'usage') ?? usage
      isEnded = true
      if (FAILED.test(textAt(delta, 'finish_reason') ?? ''))
        failure = textAt(delta, 'finish_reason')?.toLowerCase()
    },
    readBody: (answered) => {
      responseId = textAt(answered, 'id')
      usage = objectAt(answered, 'usage') ?? objectAt(answered, 'meta')
    },
    addTexts,
  })
  return {
    requestedModel: body.model ?? request.model,
    rewrittenBody: undefined,
    promptText: () =>
      textsOf([
        body.json?.['messages'],
        body.json?.['documents'],
        body.json?.['tools'],
        body.json?.['query'],
        body.json?.['texts'],
        body.json?.['inputs'],
      ]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    result(): ReadUsage {
      const read = usage === undefined ? undefined : quantitiesOf(usage)
      const errorType = answer.errorType ?? failure
      return {
        ...(read !== undefined && { quantities: read.quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...findingsOf(usage, answer.problem),
        isComplete: answer.isStreamed ? isEnded : answer.isRead,
        isStreamed: answer.isStreamed,
        ...(responseId !== undefined && { responseId }),
        ...(errorType !== undefined && { errorType }),
      }
    },
    outputText: answer.outputText,
  }
}

/** What makes an event worth parsing. Inside a text of the answer the quotes would be escaped. */
const NOTABLE = /"message-(?:start|end)"/

/** Ends of a stream that are the provider's failure. */
const FAILED = /^(?:ERROR|TIMEOUT)/

/** The billed units in the words of the usage event. */
function quantitiesOf(
  usage: JsonObject,
):
  | { readonly quantities: Readonly<Record<string, number>>; readonly mismatch?: string | undefined }
  | undefined {
  // Some answers count tokens and name nothing billed.
  const billed = objectAt(usage, 'billed_units') ?? objectAt(usage, 'tokens')
  const texts = countAt(billed, 'input_tokens')
  const pictures = countAt(billed, 'image_tokens') ?? 0
  const input = texts === undefined && pictures === 0 ? undefined : (texts ?? 0) + pictures
  const reported: Record<string, number> = {}
  if (input !== undefined && Number.isSafeInteger(input)) {
    reported['input_tokens'] = input
    if (pictures > 0) reported['image_input_tokens'] = pictures
    // Counted with the template, which is not billed: no more than what is can be in the cache.
    const cached = Math.min(countAt(usage, 'cached_tokens') ?? 0, input - pictures)
    if (cached > 0) reported['cache_read_tokens'] = cached
  }
  const output = countAt(billed, 'output_tokens')
  if (output !== undefined) reported['output_tokens'] = output
  for (const unit of UNITS) {
    const count = countAt(billed, unit)
    if (count !== undefined && count > 0) reported[unit] = count
  }
  return Object.keys(reported).length === 0 ? undefined : withoutContradictions(reported)
}

/** Units that are billed beside tokens; pictures are where their tokens are not counted. */
const UNITS = ['search_units', 'images', 'classifications'] as const

/** Adds the texts of one event of a stream, or of an answer that was not streamed. */
function addTexts(answer: JsonObject, into: BoundedText): void {
  const message = objectAt(answer, 'message') ?? objectAt(objectAt(answer, 'delta'), 'message')
  into.add(textAt(message, 'tool_plan'))
  for (const part of listOf(message?.['content'])) {
    into.add(textAt(part, 'thinking'))
    into.add(textAt(part, 'text'))
  }
  for (const call of listOf(message?.['tool_calls'])) {
    const called = objectAt(call, 'function')
    into.add(textAt(called, 'name'))
    into.add(textAt(called, 'arguments'))
  }
}

/** Objects of a list; a stream has one at a time, without the list. */
function listOf(value: unknown): readonly JsonObject[] {
  return (Array.isArray(value) ? value : [value]).filter(isJsonObject)
}
