import { anthropicUsage } from './anthropic-messages.ts'
import { geminiUsage } from './gemini.ts'
import { chatUsage } from './openai-chat.ts'
import { embeddingsUsage } from './openai-embeddings.ts'
import { responseUsage } from './openai-responses.ts'
import {
  countAt,
  isJsonObject,
  type JsonObject,
  objectAt,
  type ReadUsage,
  type SettledUsage,
  textAt,
} from './reader.ts'

/**
 * One result of a batch: a line of a file, or an entry of a list. Three shapes:
 *
 * - OpenAI ("Batch API", read 2026-11), and Azure, Groq, Mistral and Together after it: `id`, `custom_id`,
 *   `response` with `status_code`, `request_id` and the `body` that the call would have had, or `error`;
 * - Anthropic ("Message Batches", read 2026-11): `custom_id`, `result` of a type, with the `message`;
 * - Gemini ("Batch API", read 2026-11): `key`, and `response` or `error`.
 *
 * What is read depends on the line alone, and so does the id: whoever reads the file again reads the same.
 */

/** Where a result stands. */
export interface ResultPlace {
  /** The provider's id of the file or the batch. */
  readonly resultsId: string
  /** From 0. */
  readonly index: number
}

/** Whether a line is one of a batch's results. The lines that a batch is made of have a `custom_id` too. */
export function isBatchLine(line: JsonObject): boolean {
  if (typeof line['custom_id'] === 'string') return 'response' in line || 'error' in line || 'result' in line
  return typeof line['key'] === 'string' && (isJsonObject(line['response']) || isJsonObject(line['error']))
}

/** @returns undefined for a result that is free */
export function settledOf(line: JsonObject, place: ResultPlace): SettledUsage | undefined {
  if (objectAt(line, 'result') !== undefined) return anthropicResult(line, place)
  if (!('custom_id' in line)) return geminiResult(line, place)
  return openaiResult(line, objectAt(objectAt(line, 'response'), 'body'), place)
}

/** A line that is too long to be read: it was a call, and that is all that is known. */
export function unreadResult(place: ResultPlace): SettledUsage {
  return {
    id: placeId(place),
    operation: 'chat',
    usage: { ...WHOLE, quantities: ONE_REQUEST, reason: 'body_too_large' },
  }
}

const WHOLE = { isComplete: true, isStreamed: false } as const

/** What is counted of a call whose usage is not known: it has no price, and is reported as unpriced. */
const ONE_REQUEST: Readonly<Record<string, number>> = { requests: 1 }

function openaiResult(
  line: JsonObject,
  body: JsonObject | undefined,
  place: ResultPlace,
): SettledUsage | undefined {
  const response = objectAt(line, 'response')
  const lineId = textAt(line, 'id')
  const requestId = textAt(response, 'request_id') || textAt(body, 'id')
  const status = countAt(response, 'status_code') ?? 200
  const known = {
    id: (lineId?.startsWith('batch_req_') ? lineId : textAt(body, 'id')) || placeId(place),
    ...customIdOf(line),
    ...(requestId && { requestId }),
  }
  const error = objectAt(body, 'error') ?? objectAt(line, 'error')
  if (body === undefined || status >= 400) {
    const errorType = textAt(error, 'type') ?? textAt(error, 'code') ?? (body && `http_${status}`) ?? 'error'
    return { ...known, operation: 'chat', usage: { ...WHOLE, errorType } }
  }
  const read = openaiUsage(body)
  if (read === undefined) return undefined
  const seconds = countAt(body, 'created') ?? countAt(body, 'created_at')
  return {
    ...known,
    operation: read.operation,
    ...(seconds !== undefined && { tsMs: seconds * 1000 }),
    usage: batchUsage(read.usage),
  }
}

/** The usage of a body by its kind. @returns undefined for one that is free, as a moderation's */
function openaiUsage(
  body: JsonObject,
): { readonly operation: SettledUsage['operation']; readonly usage: LineUsage } | undefined {
  const usage = objectAt(body, 'usage')
  if (body['object'] === 'response' || Array.isArray(body['output'])) {
    return { operation: 'chat', usage: responseUsage(body) }
  }
  if (Array.isArray(body['choices'])) {
    const operation = body['object'] === 'text_completion' ? 'text_completion' : 'chat'
    return { operation, usage: chatUsage(body) }
  }
  if (usage === undefined) return undefined
  if (usage['prompt_tokens'] !== undefined) return { operation: 'embeddings', usage: embeddingsUsage(body) }
  return { operation: 'image_generation', usage: responseUsage(body) }
}

function anthropicResult(line: JsonObject, place: ResultPlace): SettledUsage {
  const result = objectAt(line, 'result')
  const message = objectAt(result, 'message')
  const messageId = textAt(message, 'id')
  const known = {
    id: messageId === undefined ? placeId(place) : `${place.resultsId}-${messageId}`,
    ...customIdOf(line),
    ...(messageId !== undefined && { requestId: messageId }),
    operation: 'chat' as const,
  }
  if (message !== undefined) return { ...known, usage: batchUsage(anthropicUsage(message)) }
  // `errored` has a failure in a failure; `canceled` and `expired` have none.
  const error = objectAt(objectAt(result, 'error'), 'error') ?? objectAt(result, 'error')
  const errorType = textAt(error, 'type') ?? textAt(result, 'type') ?? 'error'
  return { ...known, usage: { ...WHOLE, errorType } }
}

/** A response of Gemini's, as a line or as an entry of the batch's answer. */
export function geminiResult(line: JsonObject, place: ResultPlace): SettledUsage {
  const response = objectAt(line, 'response')
  const responseId = textAt(response, 'responseId')
  const known = {
    id: responseId === undefined ? placeId(place) : `${place.resultsId}-${responseId}`,
    ...customIdOf(line),
    ...(responseId !== undefined && { requestId: responseId }),
    operation: 'generate_content' as const,
  }
  if (response !== undefined) return { ...known, usage: batchUsage(geminiUsage(response)) }
  const errorType = textAt(objectAt(line, 'error'), 'status') ?? 'error'
  return { ...known, usage: { ...WHOLE, errorType } }
}

function customIdOf(line: JsonObject): { readonly customId?: string } {
  const customId =
    textAt(line, 'custom_id') ?? textAt(line, 'key') ?? textAt(objectAt(line, 'metadata'), 'key')
  return customId === undefined ? {} : { customId }
}

function placeId({ resultsId, index }: ResultPlace): string {
  return `${resultsId}-${index}`
}

type LineUsage = Omit<ReadUsage, 'isComplete' | 'isStreamed' | 'errorType'>

/** At the price of a batch, whatever tier a line names: OpenAI's say `default`. */
function batchUsage(usage: LineUsage): ReadUsage {
  const tier = usage.serviceTier ?? ''
  const serviceTier = /^batch/.test(tier) ? tier : tier.endsWith('_us') ? 'batch_us' : 'batch'
  const isCounted = Object.keys(usage.quantities ?? {}).length > 0
  return {
    ...usage,
    ...WHOLE,
    serviceTier,
    ...(!isCounted && { quantities: ONE_REQUEST, reason: usage.reason ?? 'no_usage' }),
    ...(usage.apart && { apart: usage.apart.map((part) => ({ ...part, serviceTier })) }),
  }
}
