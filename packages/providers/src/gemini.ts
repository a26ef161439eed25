import { findingsOf } from './findings.ts'
import { JsonArrayParser } from './framing/json-array.ts'
import { latin1, type SseEvent, SseParser } from './framing/sse.ts'
import { quantitiesOf } from './gemini-usage.ts'
import { OutputText } from './output-text.ts'
import { textOfBytes } from './plain-body.ts'
import {
  type BoundedText,
  isEventStream,
  isJsonObject,
  type JsonObject,
  jsonText,
  LazyBody,
  NO_BYTES,
  objectAt,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
} from './reader.ts'

/**
 * Google's `generateContent` and `streamGenerateContent`, of the Gemini API and of Vertex AI (after
 * `GenerateContentResponse` in the types of @google/genai 2.32).
 *
 * The model is in the URL. A stream is server-sent events with `alt=sse`, without it one JSON array in pieces;
 * each piece repeats the usage with running totals: the last counts, nothing is added up. A stream has no mark
 * at its end: it is complete when a candidate has its `finishReason`, or the prompt was refused.
 */
export function readGemini(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  const output = new OutputText((data, into) => addTexts(parseJsonObject(data), into))
  const sse = new SseParser()
  const json = new JsonArrayParser()
  let isEvents = false
  let status = 0
  let responseModel: string | undefined
  let responseId: string | undefined
  let errorType: string | undefined
  let isFinished = false
  /** The piece that has the latest usage; read when it is asked for, as the next one replaces it. */
  let latest: string | undefined
  const queries = new Set<string>()

  const readPiece = (text: string) => {
    const isFirst = responseModel === undefined && responseId === undefined
    if (text.includes('"usageMetadata"')) latest = text
    // Inside a text of the answer the quotes would be escaped.
    if (!isFirst && !NOTABLE.test(text)) return
    const piece = parseJsonObject(text)
    responseModel = textAt(piece, 'modelVersion') ?? responseModel
    responseId = textAt(piece, 'responseId') ?? responseId
    isFinished ||= hasEnded(piece)
    addQueries(piece, queries)
    if (piece?.['error'] !== undefined || (piece !== undefined && status >= 400)) {
      errorType = textAt(objectAt(piece, 'error'), 'status') ?? (status >= 400 ? `http_${status}` : 'error')
    }
  }

  const searches = () => billedSearches(queries, responseModel ?? request.model)

  const readEvent = ({ data, raw }: SseEvent) => {
    if (data === '') return
    output.keep(latin1(raw))
    readPiece(data)
  }

  const readElements = (elements: readonly Uint8Array[]) => {
    for (const element of elements) {
      // Line ends are white space in JSON, and would end an event.
      output.keep(`data: ${latin1(element).replaceAll(/[\r\n]+/g, ' ')}\n\n`)
      readPiece(textOfBytes(element))
    }
  }

  return {
    requestedModel: request.model,
    rewrittenBody: undefined,
    promptText: () =>
      textsOf([
        body.json?.['systemInstruction'] ?? body.json?.['system_instruction'],
        body.json?.['contents'],
        body.json?.['tools'],
      ]),
    respond(answeredStatus, header) {
      status = answeredStatus
      isEvents = isEventStream(header('content-type'))
    },
    push(bytes) {
      if (isEvents) for (const event of sse.push(bytes)) readEvent(event)
      else readElements(json.push(bytes))
      return bytes
    },
    end() {
      const last = isEvents ? sse.end() : undefined
      if (last !== undefined) readEvent(last)
      if (status >= 400) errorType ??= `http_${status}`
      return NO_BYTES
    },
    result(): ReadUsage {
      const isStreamed = isEvents || json.isArray
      const problem = isStreamed || errorType !== undefined ? undefined : json.problem
      const isWhole = json.isWhole || problem === 'body_too_large'
      const isComplete = (isStreamed ? isFinished : isWhole) || (status >= 400 && json.isWhole)
      const usage =
        errorType === undefined || isStreamed ? objectAt(parseJsonObject(latest), 'usageMetadata') : undefined
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...usageRead(usage, isComplete, searches()),
        ...(problem !== undefined && { reason: problem }),
        isComplete,
        isStreamed,
        ...(responseId !== undefined && { responseId }),
        ...(errorType !== undefined && { errorType }),
      }
    },
    outputText: () => output.toString(),
  }
}

/** What makes a piece after the first worth parsing: its end, a refusal, searches, a failure. */
const NOTABLE = /"finishReason"|"promptFeedback"|"webSearchQueries"|"error"/

/**
 * Models whose searches are billed by the prompt, as reported by users of Google's price list; the response has no
 * count of what is billed.
 */
const EARLIER_MODEL = /^(?:models\/)?gemini-[12][.-]/

/** Gemini 3 and later bill each query once, earlier models a prompt that was searched for. */
function billedSearches(queries: ReadonlySet<string>, model: string | undefined): number {
  return EARLIER_MODEL.test(model ?? '') ? Math.min(1, queries.size) : queries.size
}

function usageRead(usage: JsonObject | undefined, isComplete: boolean, searches: number): GeminiUsage {
  const read = usage === undefined ? undefined : quantitiesOf(usage, isComplete)
  const serviceTier = tierOf(usage)
  return {
    ...(serviceTier !== undefined && { serviceTier }),
    ...(read !== undefined && { quantities: withSearches(read.quantities, searches) }),
    ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
    ...findingsOf(usage),
  }
}

type GeminiUsage = Omit<ReadUsage, 'isComplete' | 'isStreamed' | 'errorType'>

/** What a whole response says of its usage: one of a batch. */
export function geminiUsage(response: JsonObject): GeminiUsage {
  const responseModel = textAt(response, 'modelVersion')
  const responseId = textAt(response, 'responseId')
  const queries = new Set<string>()
  addQueries(response, queries)
  return {
    ...(responseModel !== undefined && { responseModel }),
    ...usageRead(objectAt(response, 'usageMetadata'), true, billedSearches(queries, responseModel)),
    ...(responseId !== undefined && { responseId }),
  }
}

/** At most so many queries of an answer are told apart; a model makes a few. */
const QUERIES_MAX = 1_000

/** Adds what was searched for in the web. Empty queries are not billed. */
function addQueries(piece: JsonObject | undefined, into: Set<string>): void {
  for (const candidate of candidatesOf(piece)) {
    const queries = objectAt(candidate, 'groundingMetadata')?.['webSearchQueries']
    if (!Array.isArray(queries)) continue
    for (const query of queries) {
      if (typeof query === 'string' && query !== '' && into.size < QUERIES_MAX) into.add(query)
    }
  }
}

function withSearches(
  quantities: Readonly<Record<string, number>>,
  searches: number,
): Readonly<Record<string, number>> {
  return searches === 0 ? quantities : { ...quantities, web_search_requests: searches }
}

/** Whether the piece is the last of the answer. */
function hasEnded(piece: JsonObject | undefined): boolean {
  if (textAt(objectAt(piece, 'promptFeedback'), 'blockReason') !== undefined) return true
  return candidatesOf(piece).some((candidate) => textAt(candidate, 'finishReason') !== undefined)
}

function candidatesOf(answer: JsonObject | undefined): readonly JsonObject[] {
  const candidates = answer?.['candidates']
  return Array.isArray(candidates) ? candidates.filter(isJsonObject) : []
}

/**
 * The tier that served the call: the Gemini API names it, Vertex AI says how the traffic is paid
 * (`ON_DEMAND`, `ON_DEMAND_FLEX`, `PROVISIONED_THROUGHPUT`, …).
 */
function tierOf(usage: JsonObject | undefined): string | undefined {
  const tier = textAt(usage, 'serviceTier') ?? textAt(usage, 'trafficType')
  if (tier === undefined || tier.toLowerCase().endsWith('unspecified')) return undefined
  return tier.toLowerCase().replace(/^service_tier_/, '')
}

/** Adds the texts of an answer or of one piece, thoughts included. */
function addTexts(answer: JsonObject | undefined, into: BoundedText): void {
  for (const candidate of candidatesOf(answer)) {
    const parts = objectAt(candidate, 'content')?.['parts']
    if (!Array.isArray(parts)) continue
    for (const part of parts) {
      if (!isJsonObject(part)) continue
      into.add(textAt(part, 'text'))
      const called = objectAt(part, 'functionCall')
      into.add(textAt(called, 'name'))
      into.add(jsonText(called?.['args']))
      into.add(textAt(objectAt(part, 'executableCode'), 'code'))
    }
  }
}
