import { latin1, type SseEvent, SseParser } from './framing/sse.ts'
import { OutputText } from './output-text.ts'
import {
  BoundedText,
  countAt,
  isEventStream,
  isJsonObject,
  type JsonObject,
  jsonText,
  LazyBody,
  NO_BYTES,
  objectAt,
  PlainBody,
  parseJsonObject,
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
  let isStreamed = false
  let status = 0
  let responseModel: string | undefined
  let responseId: string | undefined
  let errorType: string | undefined
  let isComplete = false
  /** Whether the output count is the provider's last word, not the placeholder at the start. */
  let hasFinalOutput = false
  let usage: Record<string, unknown> | undefined
  let answered: JsonObject | undefined
  const output = new OutputText((data, into) => addTexts(parseJsonObject(data), into))
  const sse = new SseParser()
  const plain = new PlainBody()

  const mergeUsage = (reported: JsonObject | undefined) => {
    if (reported === undefined) return
    usage ??= {}
    for (const [key, value] of Object.entries(reported)) if (value !== null) usage[key] = value
  }

  const readEvent = ({ data, raw }: SseEvent) => {
    if (data === '') return
    output.keep(latin1(raw))
    const event = parseJsonObject(data)
    switch (textAt(event, 'type')) {
      case 'message_start': {
        const message = objectAt(event, 'message')
        responseModel = textAt(message, 'model')
        responseId = textAt(message, 'id')
        mergeUsage(objectAt(message, 'usage'))
        break
      }
      case 'message_delta': {
        const reported = objectAt(event, 'usage')
        mergeUsage(reported)
        hasFinalOutput ||= countAt(reported, 'output_tokens') !== undefined
        break
      }
      case 'message_stop':
        isComplete = true
        break
      case 'error':
        errorType = textAt(objectAt(event, 'error'), 'type') ?? 'error'
        break
    }
  }

  return {
    requestedModel: body.model || request.model,
    rewrittenBody: undefined,
    promptText: () => textsOf([body.json?.['system'], body.json?.['messages'], body.json?.['tools']]),
    respond(answeredStatus, header) {
      status = answeredStatus
      isStreamed = isEventStream(header)
    },
    push(bytes) {
      if (isStreamed) {
        const passing = sse.wholeEvents(bytes)
        if (passing !== undefined && !NOTABLE.test(passing)) output.keep(passing)
        else for (const event of sse.push(bytes)) readEvent(event)
      } else {
        plain.add(bytes)
      }
      return bytes
    },
    end() {
      if (isStreamed) {
        const last = sse.end()
        if (last !== undefined) readEvent(last)
      } else {
        const { text } = plain
        if (text !== undefined) readPlain(parseJsonObject(text))
      }
      return NO_BYTES
    },
    result(): ReadUsage {
      const serviceTier = tierOf(usage)
      const isFinal = !isStreamed || hasFinalOutput
      const reported = usage === undefined ? undefined : quantitiesOf(usage, isFinal)
      const read = reported === undefined ? undefined : withoutContradictions(reported)
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(serviceTier !== undefined && { serviceTier }),
        ...(read !== undefined && { quantities: read.quantities }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        isComplete,
        isStreamed,
        ...(responseId !== undefined && { responseId }),
        ...(errorType !== undefined && { errorType }),
      }
    },
    keptOutput: () => (isStreamed ? output.kept : undefined),
    outputText() {
      if (isStreamed) return output.toString()
      const text = new BoundedText()
      addAnswerTexts(answered, text)
      return text.toString()
    },
  }

  function readPlain(answer: JsonObject | undefined): void {
    isComplete = answer !== undefined
    if (status >= 400 || answer?.['type'] === 'error') {
      errorType = textAt(objectAt(answer, 'error'), 'type') ?? `http_${status}`
      return
    }
    responseModel = textAt(answer, 'model')
    responseId = textAt(answer, 'id')
    mergeUsage(objectAt(answer, 'usage'))
    answered = answer
  }
}

/** What makes an event worth parsing: `message_start`, `message_delta`, `message_stop`, and failures. */
const NOTABLE = /"message_|"error"/

/** Adds the texts of one event of a stream. */
function addTexts(event: JsonObject | undefined, into: BoundedText): void {
  const part = objectAt(event, 'content_block') ?? objectAt(event, 'delta')
  into.add(textAt(part, 'text'))
  into.add(textAt(part, 'name'))
  into.add(textAt(part, 'partial_json'))
  into.add(textAt(part, 'thinking'))
}

/** Adds the texts of an answer that was not streamed. */
function addAnswerTexts(answer: JsonObject | undefined, into: BoundedText): void {
  const content = answer?.['content']
  if (!Array.isArray(content)) return
  for (const block of content) {
    if (!isJsonObject(block)) continue
    into.add(textAt(block, 'text'))
    into.add(textAt(block, 'thinking'))
    into.add(jsonText(block['input']))
  }
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
