import { bedrockAnswer } from './bedrock-answer.ts'
import { bedrockModel, hidesModel } from './bedrock-model.ts'
import { parseCutJson } from './cut-json.ts'
import { findingsOf } from './findings.ts'
import { latin1 } from './framing/sse.ts'
import { OutputText } from './output-text.ts'
import { textOfBytes } from './plain-body.ts'
import {
  BoundedText,
  countAt,
  isJsonObject,
  type JsonObject,
  jsonText,
  objectAt,
  parseJsonObject,
  type ReaderRequest,
  type ReadUsage,
  textAt,
  textsOf,
  type UsageReader,
  withoutContradictions,
} from './reader.ts'

/**
 * Bedrock Converse and ConverseStream (Amazon Bedrock API reference, "TokenUsage", read 2026-11).
 *
 * `inputTokens` is without the cache: all input is inputTokens + cacheReadInputTokens + cacheWriteInputTokens.
 * Reasoning is inside `outputTokens`, and not told apart. A stream always has the usage, in its last event,
 * `metadata`. `totalTokens` has been seen with the cache and without it, so it only has to fit one of both.
 *
 * An exception: streams of `openai.*` models have been seen with the cache inside `inputTokens`
 * (maximhq/bifrost#6942). There, and only there, the cache is not added where the input is large enough to hold it.
 */
export function readBedrockConverse(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  let usage: JsonObject | undefined
  let invokedModel: string | undefined
  let isComplete = false
  let answered: JsonObject | undefined
  let cutText: string | undefined
  const output = new OutputText((data, into) => addEventTexts(parseJsonObject(data), into))

  const readMetadata = (metadata: JsonObject) => {
    isComplete = true
    usage = objectAt(metadata, 'usage') ?? usage
    const router = objectAt(objectAt(metadata, 'trace'), 'promptRouter')
    invokedModel = textAt(router, 'invokedModelId') ?? invokedModel
    answer.readTier(
      textAt(objectAt(metadata, 'serviceTier'), 'type'),
      textAt(objectAt(metadata, 'performanceConfig'), 'latency'),
    )
  }

  const answer = bedrockAnswer({
    readEvent(type, payload) {
      if (type === 'metadata') {
        const metadata = parseJsonObject(textOfBytes(payload))
        if (metadata !== undefined) readMetadata(metadata)
      } else if (type === 'contentBlockDelta' || type === 'contentBlockStart') {
        output.keep(`data: ${latin1(payload)}\n\n`)
      }
    },
    readBody(converse) {
      answered = converse
      readMetadata(converse)
    },
    readCut(text) {
      cutText = text
    },
  })

  return {
    requestedModel: request.model,
    rewrittenBody: undefined,
    promptText: () => textsOf([body?.['system'], body?.['messages'], body?.['toolConfig']]),
    respond: answer.respond,
    push: answer.push,
    end: answer.end,
    result(): ReadUsage {
      const { isStreamed, errorType, serviceTier, damage, problem } = answer
      const mayHoldCache = isStreamed && /(?:^|\.)openai\./.test(request.model ?? '')
      const reported = usage === undefined ? undefined : quantitiesOf(usage, mayHoldCache)
      const read = reported === undefined ? undefined : withoutContradictions(reported)
      const mismatch = read?.mismatch ?? totalMismatch(usage) ?? damage
      const responseModel = hidesModel(request.model) && invokedModel ? bedrockModel(invokedModel) : undefined
      return {
        ...(responseModel !== undefined && { responseModel }),
        ...(serviceTier !== undefined && { serviceTier }),
        ...(read !== undefined && { quantities: read.quantities }),
        ...(mismatch !== undefined && { mismatch }),
        ...findingsOf(usage, problem),
        isComplete: isComplete || (!isStreamed && answer.isRead),
        isStreamed,
        ...(errorType !== undefined && { errorType }),
      }
    },
    outputText() {
      if (answer.isStreamed) return output.toString()
      const text = new BoundedText()
      const read = answered ?? parseCutJson(cutText)
      addContentTexts(objectAt(objectAt(read, 'output'), 'message')?.['content'], text)
      return text.toString()
    },
  }
}

/** The usage in the words of the usage event. */
function quantitiesOf(usage: JsonObject, mayHoldCache: boolean): Record<string, number> | undefined {
  const cacheRead = countAt(usage, 'cacheReadInputTokens') ?? 0
  const cacheWrite = countAt(usage, 'cacheWriteInputTokens') ?? 0
  const own = countAt(usage, 'inputTokens')
  const output = countAt(usage, 'outputTokens')
  const quantities: Record<string, number> = {}
  // A side that was not reported, or not in numbers that are exact, is absent, not zero: it can be estimated.
  if (own !== undefined) {
    const isCacheInside = mayHoldCache && own >= cacheRead + cacheWrite
    const input = isCacheInside ? own : own + cacheRead + cacheWrite
    if (Number.isSafeInteger(input)) {
      quantities['input_tokens'] = input
      const longWrites = longWritesOf(usage)
      if (cacheRead > 0) quantities['cache_read_tokens'] = cacheRead
      if (cacheWrite > 0) quantities['cache_write_tokens'] = cacheWrite
      if (longWrites > 0) quantities['cache_write_1h_tokens'] = longWrites
    }
  }
  if (output !== undefined) quantities['output_tokens'] = output
  return Object.keys(quantities).length === 0 ? undefined : quantities
}

/** Tokens written to the cache for an hour. */
function longWritesOf(usage: JsonObject): number {
  const details = usage['cacheDetails']
  let sum = 0
  if (!Array.isArray(details)) return sum
  for (const detail of details) {
    if (isJsonObject(detail) && detail['ttl'] === '1h') sum += countAt(detail, 'inputTokens') ?? 0
  }
  return Number.isSafeInteger(sum) ? sum : 0
}

function totalMismatch(usage: JsonObject | undefined): string | undefined {
  const total = countAt(usage, 'totalTokens')
  const input = countAt(usage, 'inputTokens')
  const output = countAt(usage, 'outputTokens')
  if (total === undefined || input === undefined || output === undefined) return undefined
  const cache = (countAt(usage, 'cacheReadInputTokens') ?? 0) + (countAt(usage, 'cacheWriteInputTokens') ?? 0)
  const sum = input + output
  return total === sum || total === sum + cache
    ? undefined
    : `totalTokens is ${total}, but the parts add up to ${sum}, with the cache to ${sum + cache}`
}

/** Adds the texts of one event of a stream. */
function addEventTexts(event: JsonObject | undefined, into: BoundedText): void {
  const delta = objectAt(event, 'delta')
  into.add(textAt(objectAt(objectAt(event, 'start'), 'toolUse'), 'name'))
  into.add(textAt(delta, 'text'))
  into.add(textAt(objectAt(delta, 'toolUse'), 'input'))
  into.add(textAt(objectAt(delta, 'reasoningContent'), 'text'))
}

/** Adds the texts of a message's content. */
function addContentTexts(content: unknown, into: BoundedText): void {
  if (!Array.isArray(content)) return
  for (const block of content) {
    if (!isJsonObject(block)) continue
    const tool = objectAt(block, 'toolUse')
    into.add(textAt(block, 'text'))
    into.add(textAt(tool, 'name'))
    into.add(jsonText(tool?.['input']))
    into.add(textAt(objectAt(objectAt(block, 'reasoningContent'), 'reasoningText'), 'text'))
  }
}
