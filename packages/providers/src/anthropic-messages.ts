import { findingsOf } from './findings.ts'
import { jsonAnswer } from './json-answer.ts'
import {
  type ApartUsage,
  type BoundedText,
  countAt,
  isJsonObject,
  type JsonObject,
  jsonText,
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
 * Anthropic messages (Anthropic API reference "Messages" and "Streaming", SDK 1.12 types, read 2026-11).
 *
 * `input_tokens` is without the cache: all input is input + cache_creation + cache_read. Thinking is inside
 * `output_tokens`. A stream reports the input in `message_start`, with a placeholder for the output, and in
 * each `message_delta` cumulative numbers that replace earlier ones; the split of cache writes by duration,
 * the service tier and the id are in `message_start` only.
 */
export function readAnthropicMessages(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  let message: JsonObject | undefined
  let errorType: string | undefined
  let isEnded = false
  /** Whether the output count is the provider's last word, not the placeholder at the start. */
  let hasFinalOutput = false
  let usage: Record<string, unknown> | undefined

  const mergeUsage = (reported: JsonObject | undefined) => {
    if (reported === undefined) return
    usage ??= {}
    for (const [key, value] of Object.entries(reported)) if (value !== null) usage[key] = value
  }

  const answer = jsonAnswer({
    isNotable: (events) => NOTABLE.test(events),
    readEvent(event) {
      switch (textAt(event, 'type')) {
        case 'message_start':
          message = objectAt(event, 'message')
          mergeUsage(objectAt(message, 'usage'))
          break
        case 'message_delta': {
          const reported = objectAt(event, 'usage')
          mergeUsage(reported)
          hasFinalOutput ||= countAt(reported, 'output_tokens') !== undefined
          break
        }
        case 'message_stop':
          isEnded = true
          break
        case 'error':
          errorType = textAt(objectAt(event, 'error'), 'type') ?? 'error'
          break
      }
    },
    readBody(read) {
      message = read
      mergeUsage(objectAt(read, 'usage'))
    },
    addTexts,
  })

  return {
    requestedModel: body.model || request.model,
    rewrittenBody: undefined,
    promptText: () => textsOf([body.json?.['system'], body.json?.['messages'], body.json?.['tools']]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    outputText: answer.outputText,
    result(): ReadUsage {
      const { isStreamed, problem } = answer
      const error = answer.errorType ?? errorType
      return {
        ...messageUsage(message, usage, !isStreamed || hasFinalOutput),
        ...(problem !== undefined && { reason: problem }),
        isComplete: isStreamed ? isEnded : answer.isRead,
        isStreamed,
        ...(error !== undefined && { errorType: error }),
      }
    },
    keptOutput: answer.keptOutput,
    outputToolCalls: answer.outputToolCalls,
  }
}

/** What a whole message says of its usage: a plain answer, or one of a batch. */
export function anthropicUsage(message: JsonObject): MessageUsage {
  return messageUsage(message, objectAt(message, 'usage'), true)
}

type MessageUsage = Omit<ReadUsage, 'isComplete' | 'isStreamed' | 'errorType'>

function messageUsage(
  message: JsonObject | undefined,
  usage: JsonObject | undefined,
  isFinal: boolean,
): MessageUsage {
  const responseModel = textAt(message, 'model')
  const responseId = textAt(message, 'id')
  const serviceTier = tierOf(usage)
  const { own, apart, mismatch: iterationMismatch } = iterationsOf(usage, responseModel, serviceTier)
  const reported = own ?? (usage === undefined ? undefined : quantitiesOf(usage, isFinal))
  const read = reported === undefined ? undefined : withoutContradictions(reported)
  const mismatch = read?.mismatch ?? writesMismatch(usage) ?? iterationMismatch
  return {
    ...(responseModel !== undefined && { responseModel }),
    ...(serviceTier !== undefined && { serviceTier }),
    ...(read !== undefined && { quantities: read.quantities }),
    ...(mismatch !== undefined && { mismatch }),
    ...(responseId !== undefined && { responseId }),
    ...findingsOf(usage),
    ...(apart.length > 0 && { apart }),
  }
}

/**
 * `usage.iterations` (in beta; SDK 1.12, `BetaIterationsUsage`): one entry for each time that a model was asked,
 * each billed by itself. Entries of the type `message` are the call's own; the top level may repeat their input
 * only once, so their sum counts. What a compaction used, and what an advisor did, stands in no top level, the
 * latter at the prices of its own model. Where a fallback model served the answer, the models that declined
 * before are entries too, under their names.
 */
function iterationsOf(
  usage: JsonObject | undefined,
  responseModel: string | undefined,
  serviceTier: string | undefined,
): {
  readonly own?: Record<string, number> | undefined
  readonly apart: readonly ApartUsage[]
  readonly mismatch?: string
} {
  const listed = usage?.['iterations']
  if (!Array.isArray(listed)) return { apart: [] }
  const iterations = listed.filter(isJsonObject).slice(0, ITERATIONS_MAX)
  const isServedByFallback = iterations.some((iteration) => iteration['type'] === 'fallback_message')
  const apart: ApartUsage[] = []
  const own: JsonObject[] = []
  let outputOfAll = 0
  for (const iteration of iterations) {
    const { type } = iteration
    const model = textAt(iteration, 'model') ?? responseModel
    const isBeside = type === 'compaction' || type === 'advisor_message'
    // Without a fallback, the name may be an alias of the one that answers.
    const isOwn = !isServedByFallback || type === 'fallback_message' || model === responseModel
    if (!isBeside) outputOfAll += countAt(iteration, 'output_tokens') ?? 0
    if (!isBeside && isOwn) {
      own.push(iteration)
      continue
    }
    const quantities = quantitiesOf(iteration, true)
    if (quantities === undefined) continue
    apart.push({
      ...(model !== undefined && { responseModel: model }),
      ...(serviceTier !== undefined && { serviceTier }),
      ...withoutContradictions(quantities),
      ...findingsOf(iteration),
    })
  }
  const sum = summed(own, usage)
  const output = countAt(usage, 'output_tokens')
  const isWrong = sum !== undefined && output !== outputOfAll && output !== sum['output_tokens']
  return {
    own: sum,
    apart,
    ...(isWrong && { mismatch: `output_tokens is ${output}, its iterations add up to ${outputOfAll}` }),
  }
}

/** Iterations that are read, at most. */
const ITERATIONS_MAX = 100

/** The counts of several iterations of one model. What iterations do not tell stands in the top level alone. */
function summed(
  iterations: readonly JsonObject[],
  usage: JsonObject | undefined,
): Record<string, number> | undefined {
  const sum: Record<string, number> = {}
  for (const iteration of iterations) {
    const counts = quantitiesOf(iteration, true)
    if (counts?.['input_tokens'] === undefined || counts['output_tokens'] === undefined) return undefined
    for (const [meter, quantity] of Object.entries(counts)) sum[meter] = (sum[meter] ?? 0) + quantity
  }
  if (iterations.length === 0 || !Object.values(sum).every(Number.isSafeInteger)) return undefined
  const thinking = countAt(objectAt(usage, 'output_tokens_details'), 'thinking_tokens') ?? 0
  const searches = countAt(objectAt(usage, 'server_tool_use'), 'web_search_requests') ?? 0
  if (thinking > 0) sum['reasoning_tokens'] ??= thinking
  if (searches > 0) sum['web_search_requests'] = searches
  return sum
}

/** Why the split of cache writes by duration contradicts their total. */
function writesMismatch(usage: JsonObject | undefined): string | undefined {
  const split = objectAt(usage, 'cache_creation')
  const short = countAt(split, 'ephemeral_5m_input_tokens')
  const long = countAt(split, 'ephemeral_1h_input_tokens')
  const total = countAt(usage, 'cache_creation_input_tokens')
  if (short === undefined || long === undefined || total === undefined || short + long === total) {
    return undefined
  }
  return `cache_creation_input_tokens is ${total}, its parts add up to ${short + long}`
}

/** What makes an event worth parsing: `message_start`, `message_delta`, `message_stop`, and failures. */
const NOTABLE = /"message_|"error"/

/** Adds the texts of one event of a stream, or of a whole message. */
function addTexts(answer: JsonObject, into: BoundedText): void {
  const { content } = answer
  if (Array.isArray(content)) {
    for (const block of content) {
      if (!isJsonObject(block)) continue
      into.add(textAt(block, 'text'))
      into.add(textAt(block, 'thinking'))
      into.add(jsonText(block['input']))
    }
    return
  }
  const part = objectAt(answer, 'content_block') ?? objectAt(answer, 'delta')
  into.add(textAt(part, 'text'))
  into.add(textAt(part, 'name'))
  into.add(textAt(part, 'partial_json'))
  into.add(textAt(part, 'thinking'))
}

/**
 * The tier that decides the price: fast mode has prices of its own, whatever the tier; inference in the United
 * States alone is another price of the same tier (`service-tiers.ts`).
 */
function tierOf(usage: JsonObject | undefined): string | undefined {
  if (textAt(usage, 'speed') === 'fast') return 'fast'
  const tier = textAt(usage, 'service_tier')
  return textAt(usage, 'inference_geo') === 'us' ? `${tier ?? 'standard'}_us` : tier
}

/** The usage in the words of the usage event; without the output while only its placeholder is known. */
function quantitiesOf(usage: JsonObject, isFinal: boolean): Record<string, number> | undefined {
  const cacheRead = countAt(usage, 'cache_read_input_tokens') ?? 0
  const cacheWrite = countAt(usage, 'cache_creation_input_tokens') ?? 0
  const uncached = countAt(usage, 'input_tokens')
  const input = uncached === undefined ? undefined : uncached + cacheRead + cacheWrite
  const output = isFinal ? countAt(usage, 'output_tokens') : undefined
  const quantities: Record<string, number> = {}
  // A side that was not reported, or not in numbers that are exact, is absent, not zero: it can be estimated.
  if (input !== undefined && Number.isSafeInteger(input)) {
    quantities['input_tokens'] = input
    const longWrites = countAt(objectAt(usage, 'cache_creation'), 'ephemeral_1h_input_tokens') ?? 0
    if (cacheRead > 0) quantities['cache_read_tokens'] = cacheRead
    if (cacheWrite > 0) quantities['cache_write_tokens'] = cacheWrite
    if (longWrites > 0) quantities['cache_write_1h_tokens'] = longWrites
  }
  if (output !== undefined) {
    quantities['output_tokens'] = output
    const thinking = countAt(objectAt(usage, 'output_tokens_details'), 'thinking_tokens') ?? 0
    if (thinking > 0) quantities['reasoning_tokens'] = thinking
  }
  if (Object.keys(quantities).length === 0) return undefined
  const searches = countAt(objectAt(usage, 'server_tool_use'), 'web_search_requests') ?? 0
  if (searches > 0) quantities['web_search_requests'] = searches
  return quantities
}
