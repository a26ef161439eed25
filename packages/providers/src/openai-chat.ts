import { type SseEvent, SseParser } from './framing/sse.ts'
import {
  BoundedText,
  countAt,
  isEventStream,
  isJsonObject,
  type JsonObject,
  jsonText,
  NO_BYTES,
  objectAt,
  PLAIN_BODY_MAX_BYTES,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
} from './reader.ts'

/**
 * OpenAI chat completions, and every host that speaks the same (OpenAI API reference "Chat completions",
 * openai-node 6.49 types, read 2026-11).
 *
 * Usage: details are parts of the totals; cached tokens are inside `prompt_tokens`, reasoning inside
 * `completion_tokens`. A stream has usage only with `stream_options.include_usage`, in one more chunk with
 * `choices: []` before `[DONE]`; all other chunks then carry `"usage":null`. Hosts that send running totals
 * repeat usage: the last one counts.
 */
export function readOpenaiChat(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  const isStreamRequest = body?.['stream'] === true
  const rewrittenBody =
    request.injectStreamUsage && isStreamRequest ? withStreamUsage(request.bodyText ?? '', body) : undefined
  const isInjected = rewrittenBody !== undefined

  let isStreamed = false
  let status = 0
  let usage: JsonObject | undefined
  let responseModel: string | undefined
  let responseId: string | undefined
  let serviceTier: string | undefined
  let errorType: string | undefined
  let isComplete = false
  const output = new BoundedText()
  const sse = new SseParser()
  const plain: Uint8Array[] = []
  let plainBytes = 0

  const readAnswer = (answer: JsonObject) => {
    responseModel = textAt(answer, 'model') || responseModel
    responseId = textAt(answer, 'id') || responseId
    serviceTier = textAt(answer, 'service_tier') ?? serviceTier
    usage = objectAt(answer, 'usage') ?? usage
    const choices = answer['choices']
    if (!Array.isArray(choices)) return
    for (const choice of choices) {
      if (!isJsonObject(choice)) continue
      const message = objectAt(choice, 'delta') ?? objectAt(choice, 'message')
      output.add(textAt(message, 'content'))
      output.add(textAt(message, 'refusal'))
      if (message?.['tool_calls'] !== undefined) addToolCalls(message['tool_calls'], output)
    }
  }

  /** @returns the bytes of the event that the application may see */
  const readEvent = (event: SseEvent): Uint8Array => {
    if (event.data === '') return event.raw
    if (event.data.trim() === '[DONE]') {
      isComplete = true
      return event.raw
    }
    const chunk = parseJsonObject(event.data)
    if (chunk === undefined) return event.raw
    const error = objectAt(chunk, 'error')
    if (error !== undefined) errorType = textAt(error, 'type') ?? textAt(error, 'code') ?? 'error'
    readAnswer(chunk)
    const isLast = isUsageChunk(chunk)
    // A usage chunk is the last word about a stream even if `[DONE]` never comes.
    if (isLast) isComplete = true
    if (!isInjected) return event.raw
    if (isLast) return NO_BYTES
    return chunk['usage'] === null ? withoutNullUsage(event.raw) : event.raw
  }

  return {
    requestedModel: textAt(body, 'model'),
    rewrittenBody,
    promptText: () => textsOf([body?.['messages'], body?.['tools'], body?.['functions']]),
    respond(answeredStatus, header) {
      status = answeredStatus
      isStreamed = isEventStream(header)
    },
    push(bytes) {
      if (!isStreamed) {
        plainBytes += bytes.length
        // Copied: the bytes go on to the application, and a byte stream takes their memory along. Not by
        // `slice`, which is a view where the chunk is a `Buffer`.
        if (plainBytes <= PLAIN_BODY_MAX_BYTES) plain.push(new Uint8Array(bytes))
        return bytes
      }
      const visible: Uint8Array[] = []
      for (const event of sse.push(bytes)) visible.push(readEvent(event))
      return isInjected ? joined(visible) : bytes
    },
    end() {
      if (!isStreamed) {
        readPlain()
        return NO_BYTES
      }
      const last = sse.end()
      if (last === undefined) return NO_BYTES
      const visible = readEvent(last)
      return isInjected ? visible : NO_BYTES
    },
    result(): ReadUsage {
      const read = usage === undefined ? undefined : quantitiesOf(usage)
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(serviceTier !== undefined && { serviceTier }),
        ...(read !== undefined && { quantities: read.quantities }),
        isComplete,
        isStreamed,
        ...(responseId !== undefined && { responseId }),
        ...(read?.mismatch !== undefined && { mismatch: read.mismatch }),
        ...(errorType !== undefined && { errorType }),
        outputText: output.toString(),
      }
    },
  }

  function readPlain(): void {
    if (plainBytes > PLAIN_BODY_MAX_BYTES) return
    const answer = parseJsonObject(Buffer.concat(plain).toString('utf8'))
    isComplete = answer !== undefined
    const error = objectAt(answer, 'error')
    if (status >= 400 || error !== undefined) {
      errorType = textAt(error, 'type') ?? textAt(error, 'code') ?? `http_${status}`
      return
    }
    if (answer !== undefined) readAnswer(answer)
  }
}

/** The usage in the words of the usage event. */
export function quantitiesOf(
  usage: JsonObject,
): { quantities: Record<string, number>; mismatch?: string } | undefined {
  const input = countAt(usage, 'prompt_tokens')
  const output = countAt(usage, 'completion_tokens')
  if (input === undefined && output === undefined) return undefined
  const prompt = objectAt(usage, 'prompt_tokens_details')
  const completion = objectAt(usage, 'completion_tokens_details')
  const quantities: Record<string, number> = {}
  // A side that was not reported is absent, not zero: it can then be estimated.
  if (input !== undefined) {
    quantities['input_tokens'] = input
    addPart(quantities, 'cache_read_tokens', countAt(prompt, 'cached_tokens'))
    addPart(quantities, 'cache_write_tokens', countAt(prompt, 'cache_write_tokens'))
    addPart(quantities, 'audio_input_tokens', countAt(prompt, 'audio_tokens'))
    addPart(quantities, 'image_input_tokens', countAt(prompt, 'image_tokens'))
  }
  if (output !== undefined) {
    quantities['output_tokens'] = output
    addPart(quantities, 'reasoning_tokens', countAt(completion, 'reasoning_tokens'))
    addPart(quantities, 'audio_output_tokens', countAt(completion, 'audio_tokens'))
  }
  const total = countAt(usage, 'total_tokens')
  const sum = (input ?? 0) + (output ?? 0)
  if (total === undefined || total === sum) return { quantities }
  return { quantities, mismatch: `total_tokens is ${total}, prompt and completion add up to ${sum}` }
}

function addPart(quantities: Record<string, number>, meter: string, count: number | undefined): void {
  if (count !== undefined && count > 0) quantities[meter] = count
}

function addToolCalls(calls: unknown, output: BoundedText): void {
  if (!Array.isArray(calls)) return
  for (const call of calls) {
    const called = isJsonObject(call) ? objectAt(call, 'function') : undefined
    output.add(textAt(called, 'name'))
    output.add(textAt(called, 'arguments'))
  }
}

function isUsageChunk(chunk: JsonObject): boolean {
  const choices = chunk['choices']
  return Array.isArray(choices) && choices.length === 0 && isJsonObject(chunk['usage'])
}

/**
 * Asks for the stream's usage. Inserted behind the opening brace where the body has no `stream_options`, so
 * that every other byte stays; a body that has some is written anew.
 *
 * @returns undefined when the body asks already, or has options that the provider refuses: so it shall
 */
function withStreamUsage(bodyText: string, body: JsonObject | undefined): string | undefined {
  const given = body?.['stream_options']
  if (given === undefined) {
    const brace = bodyText.indexOf('{')
    return `${bodyText.slice(0, brace + 1)}"stream_options":{"include_usage":true},${bodyText.slice(brace + 1)}`
  }
  if (given !== null && !isJsonObject(given)) return undefined
  const asked = given?.['include_usage'] ?? false
  if (asked !== false) return undefined
  return jsonText({ ...body, stream_options: { ...given, include_usage: true } })
}

/** Takes the `"usage":null` out that a chunk carries only because we asked. */
function withoutNullUsage(raw: Uint8Array): Uint8Array {
  // One character per byte: bytes that are no valid UTF-8 stay what they are.
  const text = Buffer.from(raw.buffer, raw.byteOffset, raw.length).toString('latin1')
  const positions = [
    ...text.matchAll(/,[ \t]*"usage"[ \t]*:[ \t]*null|"usage"[ \t]*:[ \t]*null[ \t]*,[ \t]*/g),
  ]
  // The member is the chunk's own where it stands only once; inside a text the quotes would be escaped.
  const only = positions.length === 1 ? positions[0] : undefined
  if (only === undefined) return raw
  return Buffer.from(text.slice(0, only.index) + text.slice(only.index + only[0].length), 'latin1')
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const first = parts[0]
  if (first === undefined) return NO_BYTES
  return parts.length === 1 ? first : Buffer.concat(parts)
}
