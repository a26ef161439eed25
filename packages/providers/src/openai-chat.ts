import { parseCutJson } from './cut-json.ts'
import { findingsOf } from './findings.ts'
import { latin1, type SseEvent, SseParser } from './framing/sse.ts'
import {
  breakdownIn,
  cachedTokens,
  hardwareUsage,
  outputTokens,
  promptAudioSeconds,
  promptMismatch,
  reportedCostUsd,
  usageIn,
} from './openai-dialects.ts'
import { OutputText } from './output-text.ts'
import { type BodyProblem, PlainBody } from './plain-body.ts'
import {
  type ApartUsage,
  BoundedText,
  countAt,
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
  type Writable,
  withoutContradictions,
} from './reader.ts'

/**
 * OpenAI chat completions, the older completions, which have the same usage and the same streams, and every host
 * that speaks the same (OpenAI API reference "Chat completions" and "Completions", openai-node 6.49 types, read
 * 2026-11). Where others differ stands in `openai-dialects.ts`.
 *
 * Usage: details are parts of the totals; cached tokens are inside `prompt_tokens`, reasoning inside
 * `completion_tokens`. A stream has usage only with `stream_options.include_usage`, in one more chunk with
 * `choices: []` before `[DONE]`; all other chunks then carry `"usage":null`. Hosts that send running totals
 * repeat usage: the last one counts.
 */
export function readOpenaiChat(request: ReaderRequest): UsageReader {
  const body = new LazyBody(request.bodyText)
  const isStreamRequest = body.mayContain(STREAM_TRUE) && body.json?.['stream'] === true
  const rewrittenBody =
    request.injectStreamUsage && isStreamRequest
      ? withStreamUsage(request.bodyText ?? '', body.json)
      : undefined
  const isInjected = rewrittenBody !== undefined

  let isStreamed = false
  let status = 0
  let usage: JsonObject | undefined
  let responseModel: string | undefined
  let responseId: string | undefined
  let serviceTier: string | undefined
  let errorType: string | undefined
  let isComplete = false
  let answered: JsonObject | undefined
  /** A body that was cut, as text. */
  let cutText: string | undefined
  let breakdown: JsonObject | undefined
  let hardware: JsonObject | undefined
  let problem: BodyProblem | undefined
  let contentType: string | null = null
  const plain = new PlainBody()
  let stream: ChatStream | undefined
  const streamOf = (): ChatStream => {
    stream ??= {
      output: new OutputText((data, into) => addTexts(parseJsonObject(data), into)),
      sse: new SseParser(),
    }
    return stream
  }

  const readAnswer = (answer: JsonObject) => {
    responseModel = textAt(answer, 'model') || responseModel
    responseId = textAt(answer, 'id') || responseId
    // Mistral has it inside the usage.
    serviceTier =
      textAt(answer, 'service_tier') ?? textAt(objectAt(answer, 'usage'), 'service_tier') ?? serviceTier
    usage = usageIn(answer) ?? usage
    breakdown = breakdownIn(answer) ?? breakdown
    hardware = hardwareUsage(answer) ?? hardware
  }

  /** @returns the bytes of the event that the application may see */
  const readEvent = (event: SseEvent): Uint8Array => {
    if (event.data === '') return event.raw
    streamOf().output.keep(latin1(event.raw))
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
    // A cost was not asked for: the chunk comes from a host that always sends it.
    if (isLast) return reportedCostUsd(objectAt(chunk, 'usage')) === undefined ? NO_BYTES : event.raw
    return chunk['usage'] === null ? withoutNullUsage(event.raw) : event.raw
  }

  return {
    requestedModel: body.model || request.model,
    rewrittenBody,
    promptText: () =>
      textsOf(['messages', 'tools', 'functions', 'prompt', 'suffix'].map((key) => body.json?.[key])),
    respond(answeredStatus, header) {
      status = answeredStatus
      contentType = header('content-type')
      isStreamed = isEventStream(contentType)
    },
    push(bytes) {
      if (!isStreamed) {
        plain.add(bytes)
        return bytes
      }
      const { output, sse } = streamOf()
      const passing = responseModel === undefined ? undefined : sse.wholeEvents(bytes)
      if (passing !== undefined && !isNotable(passing)) {
        const visible = isInjected ? withoutNullUsages(passing, bytes) : bytes
        if (visible !== undefined) {
          output.keep(passing)
          return visible
        }
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
      const last = stream?.sse.end()
      if (last === undefined) return NO_BYTES
      const visible = readEvent(last)
      return isInjected ? visible : NO_BYTES
    },
    result(): ReadUsage {
      const read: Writable<ReadUsage> = { isComplete, isStreamed }
      if (responseModel !== undefined) read.responseModel = responseModel
      addUsage(read, usage, breakdown, hardware)
      if (serviceTier !== undefined) read.serviceTier = serviceTier
      if (problem !== undefined) read.reason = problem
      if (responseId !== undefined) read.responseId = responseId
      if (errorType !== undefined) read.errorType = errorType
      return read
    },
    outputText: () => written().toString(),
    outputToolCalls: () => written().toolCalls,
    keptOutput: () => (isStreamed ? streamOf().output.kept : undefined),
  }

  function written(): OutputText | BoundedText {
    if (isStreamed) return streamOf().output
    const text = new BoundedText()
    addTexts(answered ?? parseCutJson(cutText), text)
    return text
  }

  function readPlain(): void {
    const body = plain.read(contentType)
    const answer = body.json
    isComplete = answer !== undefined || body.problem === 'body_too_large'
    const error = objectAt(answer, 'error')
    if (status >= 400 || error !== undefined) {
      errorType = textAt(error, 'type') ?? textAt(error, 'code') ?? `http_${status}`
      return
    }
    problem = body.problem
    answered = answer
    cutText = answer === undefined ? body.text : undefined
    if (answer !== undefined) readAnswer(answer)
  }
}

/** What only streams need. */
interface ChatStream {
  readonly output: OutputText
  readonly sse: SseParser
}

type ChatUsage = Omit<ReadUsage, 'isComplete' | 'isStreamed' | 'errorType'>

/** What a whole completion says of its usage: one of a batch. */
export function chatUsage(answer: JsonObject): ChatUsage {
  const responseModel = textAt(answer, 'model') || undefined
  const responseId = textAt(answer, 'id') || undefined
  const serviceTier = textAt(answer, 'service_tier') ?? textAt(objectAt(answer, 'usage'), 'service_tier')
  const read: Writable<ChatUsage> = {}
  if (responseModel !== undefined) read.responseModel = responseModel
  addUsage(read, usageIn(answer), breakdownIn(answer), hardwareUsage(answer))
  if (serviceTier !== undefined) read.serviceTier = serviceTier
  if (responseId !== undefined) read.responseId = responseId
  return read
}

/** Adds what the usage says, its own model and counts before those of the answer. */
function addUsage(
  read: Writable<ChatUsage>,
  usage: JsonObject | undefined,
  breakdown: JsonObject | undefined,
  hardware: JsonObject | undefined,
): void {
  const whole = usage === undefined ? undefined : quantitiesOf(usage)
  const cost = reportedCostUsd(usage)
  const [own, ...apart] = breakdown === undefined ? NO_MODELS : modelUsages(breakdown)
  const mismatch = own?.mismatch ?? whole?.mismatch ?? breakdownMismatch(whole?.quantities, own, apart)
  const quantities = own?.quantities ?? whole?.quantities
  const { vendorUsage, reason } = findingsOf(hardware === undefined ? usage : { ...usage, x_groq: hardware })
  if (own?.responseModel !== undefined) read.responseModel = own.responseModel
  if (quantities !== undefined) read.quantities = quantities
  if (mismatch !== undefined) read.mismatch = mismatch
  if (vendorUsage !== undefined) read.vendorUsage = vendorUsage
  if (reason !== undefined) read.reason = reason
  if (cost !== undefined) read.reportedCostUsd = cost
  if (apart.length > 0) read.apart = apart
}

const NO_MODELS: readonly ApartUsage[] = []

/** Models of a breakdown that become events of their own, at most. */
const MODELS_MAX = 100

/** Groq's compound systems ask several models, each at its own price: the first is the call's own. */
function modelUsages({ models }: JsonObject): readonly ApartUsage[] {
  if (!Array.isArray(models)) return []
  return models
    .filter(isJsonObject)
    .slice(0, MODELS_MAX)
    .flatMap((entry) => {
      const usage = objectAt(entry, 'usage')
      const read = usage && quantitiesOf(usage)
      const responseModel = textAt(entry, 'model')
      if (read === undefined) return []
      return [{ ...(responseModel !== undefined && { responseModel }), ...read, ...findingsOf(usage) }]
    })
}

function breakdownMismatch(
  whole: Readonly<Record<string, number>> | undefined,
  own: ApartUsage | undefined,
  apart: readonly ApartUsage[],
): string | undefined {
  if (whole === undefined || own === undefined) return undefined
  for (const meter of ['input_tokens', 'output_tokens'] as const) {
    const sum = [own, ...apart].reduce((all, { quantities }) => all + (quantities[meter] ?? 0), 0)
    if (whole[meter] !== undefined && whole[meter] !== sum) {
      return `usage has ${whole[meter]} ${meter}, its breakdown by model ${sum}`
    }
  }
  return undefined
}

/** The usage in the words of the usage event. */
export function quantitiesOf(
  usage: JsonObject,
): { readonly quantities: Readonly<Record<string, number>>; readonly mismatch?: string } | undefined {
  const input = countAt(usage, 'prompt_tokens')
  const output = outputTokens(usage)
  if (input === undefined && output === undefined) return undefined
  const reported: Record<string, number> = {}
  // A side that was not reported is absent, not zero: it can then be estimated.
  if (input !== undefined) {
    reported['input_tokens'] = input
    addInputParts(reported, input, usage)
    addPart(reported, 'audio_seconds', promptAudioSeconds(usage))
  }
  if (output !== undefined) {
    const completion = objectAt(usage, 'completion_tokens_details')
    reported['output_tokens'] = output
    addPart(reported, 'reasoning_tokens', countAt(completion, 'reasoning_tokens'))
    addPart(reported, 'audio_output_tokens', countAt(completion, 'audio_tokens'))
  }
  const { quantities, mismatch } = withoutContradictions(reported)
  const total = countAt(usage, 'total_tokens')
  const sum = (input ?? 0) + (output ?? 0)
  if (total !== undefined && total !== sum) {
    return { quantities, mismatch: `total_tokens is ${total}, prompt and completion add up to ${sum}` }
  }
  const contradiction = mismatch ?? promptMismatch(usage)
  return { quantities, ...(contradiction !== undefined && { mismatch: contradiction }) }
}

/**
 * Cached tokens may be image or audio tokens as well, and are counted in both details: what does not fit
 * beside the cached part is inside it.
 */
function addInputParts(quantities: Record<string, number>, input: number, usage: JsonObject): void {
  const details = objectAt(usage, 'prompt_tokens_details')
  const read = cachedTokens(usage)
  const written = countAt(details, 'cache_write_tokens') ?? 0
  addPart(quantities, 'cache_read_tokens', read)
  addPart(quantities, 'cache_write_tokens', written)
  let uncached = Math.max(0, input - read - written)
  let cached = read
  for (const { member, besideCache, insideCache } of INPUT_KINDS) {
    const count = countAt(details, member) ?? 0
    if (count === 0) continue
    const beside = Math.min(count, uncached)
    const inside = Math.min(count - beside, cached)
    addPart(quantities, besideCache, beside)
    addPart(quantities, insideCache, inside)
    uncached -= beside
    cached -= inside
  }
}

const INPUT_KINDS = [
  { member: 'audio_tokens', besideCache: 'audio_input_tokens', insideCache: 'audio_cache_read_tokens' },
  { member: 'image_tokens', besideCache: 'image_input_tokens', insideCache: 'image_cache_read_tokens' },
] as const

function addPart(quantities: Record<string, number>, meter: string, count: number | undefined): void {
  if (count !== undefined && count > 0) quantities[meter] = count
}

/**
 * Whether an event after the first one is worth parsing: usage, the end, a failure. Inside a text of the answer
 * the quotes would be escaped. `"usage":null` says nothing.
 */
function isNotable(events: string): boolean {
  for (let at = usageAt(events, 0); at !== -1; at = usageAt(events, at + USAGE.length)) {
    if (!events.startsWith(':null', at + USAGE.length)) return true
  }
  return events.includes('rror"') || events.includes('[DONE]')
}

const USAGE = '"usage"'

/** Where `"usage"` next stands. Its quote is looked for last: JSON is full of them, and a search stops at each. */
function usageAt(events: string, from: number): number {
  for (let at = events.indexOf('usage"', from); at !== -1; at = events.indexOf('usage"', at + 1)) {
    if (at > 0 && events[at - 1] === '"') return at - 1
  }
  return -1
}

/** Adds the texts of an answer or of one chunk. */
function addTexts(answer: JsonObject | undefined, into: BoundedText): void {
  const choices = answer?.['choices']
  if (!Array.isArray(choices)) return
  for (const choice of choices) {
    if (!isJsonObject(choice)) continue
    into.add(textAt(choice, 'text'))
    const message = objectAt(choice, 'delta') ?? objectAt(choice, 'message')
    into.add(textAt(message, 'reasoning_content') ?? textAt(message, 'reasoning'))
    into.add(textAt(message, 'content'))
    into.add(textAt(message, 'refusal'))
    if (message?.['tool_calls'] !== undefined) addToolCalls(message['tool_calls'], into)
  }
}

function addToolCalls(calls: unknown, output: BoundedText): void {
  if (!Array.isArray(calls)) return
  for (const call of calls) {
    const called = isJsonObject(call) ? objectAt(call, 'function') : undefined
    output.addToolCall(textAt(called, 'name'))
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

const STREAM_TRUE = /"stream"\s*:\s*true/

const NULL_USAGE = ',"usage":null'

/**
 * The same for whole events as they mostly come, with one such member each, behind another.
 *
 * @param events the bytes as text, one character per byte
 * @returns undefined when they come otherwise and must be looked at one by one
 */
function withoutNullUsages(events: string, bytes: Uint8Array): Uint8Array | undefined {
  let cuts: number[] | undefined
  let eventEnd = 0
  for (let at = usageAt(events, 0); at !== -1; at = usageAt(events, at + USAGE.length)) {
    const from = at - 1
    // A second one in the same event is somebody else's.
    if (from < eventEnd || !events.startsWith(NULL_USAGE, from)) return undefined
    cuts ??= []
    cuts.push(from)
    eventEnd = events.indexOf('\n\n', from)
  }
  if (cuts === undefined) return bytes
  const visible = Buffer.allocUnsafe(bytes.length - cuts.length * NULL_USAGE.length)
  let start = 0
  let written = 0
  for (const cut of [...cuts, bytes.length]) {
    visible.set(bytes.subarray(start, cut), written)
    written += cut - start
    start = cut + NULL_USAGE.length
  }
  return visible
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const first = parts[0]
  if (first === undefined) return NO_BYTES
  return parts.length === 1 ? first : Buffer.concat(parts)
}
