import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import { tokenQuantities } from './openai-usage.ts'
import {
  type BoundedText,
  countAt,
  isJsonObject,
  type JsonObject,
  objectAt,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
} from './reader.ts'

/**
 * OpenAI responses (OpenAI API reference "Responses", openai-node 6.49 and 7.57 types, read 2026-11).
 *
 * Usage: details are parts of the totals; cached and cache-written tokens are inside `input_tokens`, reasoning
 * inside `output_tokens`. A stream always has it, in the event that ends it: `response.completed`,
 * `response.incomplete` or `response.failed`. Built-in tools are billed beside the tokens: web searches as
 * `tool_usage` says, else as there are `web_search_call` items that searched (opening a page is free), file
 * searches and code interpreter calls by their items, and the image tool's tokens, which are another model's,
 * under meters of their own.
 *
 * Background: `background: true` answers `queued` at once, without usage; the numbers come with a later
 * `GET /responses/{id}`, as often as somebody fetches it. One exchange cannot tell the first fetch from the
 * second, so a reader only says what it saw: `isPending` when the answer is still to come, the usage and the
 * response's id when it is there. Who sees all exchanges joins the two and counts once, under the event of the
 * POST; a fetch alone is never an event. What is fetched by another process than the one that asked is not
 * counted.
 */
export function readOpenaiResponses(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  let responseModel: string | undefined
  let responseId: string | undefined
  let serviceTier: string | undefined
  let usage: JsonObject | undefined
  let tools: Readonly<Record<string, number>> = {}
  let toolUsage: JsonObject | undefined
  let isComplete = false
  let isPending = false
  let errorType: string | undefined

  const readResponse = (response: JsonObject) => {
    responseModel = textAt(response, 'model') || responseModel
    responseId = textAt(response, 'id') || responseId
    serviceTier = textAt(response, 'service_tier') ?? serviceTier
    usage = objectAt(response, 'usage') ?? usage
    const status = textAt(response, 'status')
    isPending = usage === undefined && (status === 'queued' || status === 'in_progress')
    // Nothing says what a failure without usage has cost: it is as if the answer had been cut.
    isComplete = !isPending && (usage !== undefined || (status !== 'failed' && status !== 'cancelled'))
    if (status === 'failed') errorType = textAt(objectAt(response, 'error'), 'code') ?? 'failed'
    if (status === 'cancelled') errorType = 'cancelled'
    tools = toolMeters(response)
    toolUsage = objectAt(response, 'tool_usage')
  }

  const answer = jsonAnswer({
    isNotable: (events) => NOTABLE.test(events),
    readEvent(event) {
      const response = objectAt(event, 'response')
      if (response !== undefined) readResponse(response)
      if (textAt(event, 'type') !== 'error') return
      const error = objectAt(event, 'error') ?? event
      errorType = textAt(error, 'code') ?? (error === event ? undefined : textAt(error, 'type')) ?? 'error'
    },
    readBody: readResponse,
    addTexts,
  })

  return {
    requestedModel: textAt(body, 'model') || request.model,
    rewrittenBody: undefined,
    promptText: () => textsOf([body?.['instructions'], body?.['input'], body?.['tools']]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    outputToolCalls: answer.outputToolCalls,
    keptOutput: answer.keptOutput,
    result(): ReadUsage {
      const error = answer.errorType ?? errorType
      const { problem } = answer
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(serviceTier !== undefined && { serviceTier }),
        ...usageRead(usage, tools, toolUsage),
        ...(problem !== undefined && { reason: problem }),
        isComplete: isComplete || (answer.isRead && (answer.errorType ?? problem) !== undefined),
        // A stream that ends before its response does was cut; only a plain answer may be queued.
        ...(isPending && !answer.isStreamed && { isPending }),
        isStreamed: answer.isStreamed,
        ...(responseId !== undefined && { responseId }),
        ...(error !== undefined && { errorType: error }),
      }
    },
  }
}

type ResponseUsage = Omit<ReadUsage, 'isComplete' | 'isStreamed' | 'errorType'>

/** What a whole response says of its usage: one of a batch. */
export function responseUsage(response: JsonObject): ResponseUsage {
  const responseModel = textAt(response, 'model') || undefined
  const responseId = textAt(response, 'id') || undefined
  const serviceTier = textAt(response, 'service_tier')
  return {
    ...(responseModel !== undefined && { responseModel }),
    ...(serviceTier !== undefined && { serviceTier }),
    ...usageRead(objectAt(response, 'usage'), toolMeters(response), objectAt(response, 'tool_usage')),
    ...(responseId !== undefined && { responseId }),
  }
}

function usageRead(
  usage: JsonObject | undefined,
  tools: Readonly<Record<string, number>>,
  toolUsage: JsonObject | undefined,
): ResponseUsage {
  const read = usage === undefined ? undefined : tokenQuantities(usage, tools)
  return {
    ...(read !== undefined && { quantities: read.quantities }),
    ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
    ...findingsOf(toolUsage === undefined ? usage : { ...usage, tool_usage: toolUsage }),
  }
}

/** Events that hold the response, or a failure. In a text of the answer the quotes would be escaped. */
const NOTABLE =
  /"type"\s*:\s*"(?:error|response\.(?:created|queued|in_progress|completed|incomplete|failed|cancelled))"/

/** What the built-in tools of a response did that is billed beside its tokens. */
function toolMeters(response: JsonObject): Readonly<Record<string, number>> {
  const meters: Record<string, number> = {}
  const add = (meter: string, count: number | undefined) => {
    if (count !== undefined && count > 0) meters[meter] = count
  }
  const output = response['output']
  const items = Array.isArray(output) ? output.filter(isJsonObject) : []
  const itemsOf = (type: string) => items.filter((item) => item['type'] === type)
  const reported = objectAt(response, 'tool_usage')
  const searches = itemsOf('web_search_call').filter(isSearch).length
  add('web_search_requests', countAt(objectAt(reported, 'web_search'), 'num_requests') ?? searches)
  add('file_search_requests', itemsOf('file_search_call').length)
  add('code_interpreter_calls', itemsOf('code_interpreter_call').length)
  const images = objectAt(reported, 'image_gen')
  add('image_generation_input_tokens', countAt(images, 'input_tokens'))
  add('image_generation_output_tokens', countAt(images, 'output_tokens'))
  if (images === undefined) add('image_generation_calls', itemsOf('image_generation_call').length)
  return meters
}

/** Whether a web search call searched, and did not open a page or look for something in one. */
function isSearch(call: JsonObject): boolean {
  const action = textAt(objectAt(call, 'action'), 'type')
  return call['status'] !== 'failed' && (action === undefined || action === 'search')
}

/** Pieces that are not text, in events that are named as those of text are. */
const NO_TEXT = /^response\.(?:audio|image_generation_call)\./

function addTexts(answer: JsonObject, into: BoundedText): void {
  const type = textAt(answer, 'type')
  if (type !== undefined) {
    if (type === 'response.output_item.added') into.addToolCall(textAt(objectAt(answer, 'item'), 'name'))
    else if (type.endsWith('.delta') && !NO_TEXT.test(type)) into.add(textAt(answer, 'delta'))
    return
  }
  const output = answer['output']
  if (!Array.isArray(output)) return
  for (const item of output) {
    if (!isJsonObject(item)) continue
    into.addToolCall(textAt(item, 'name'))
    into.add(textAt(item, 'arguments'))
    into.add(textAt(item, 'input'))
    into.add(textAt(item, 'code'))
    for (const parts of [item['content'], item['summary']]) {
      if (!Array.isArray(parts)) continue
      for (const part of parts) {
        if (!isJsonObject(part)) continue
        into.add(textAt(part, 'text'))
        into.add(textAt(part, 'refusal'))
      }
    }
  }
}
