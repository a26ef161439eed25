import { readAnthropicMessages } from './anthropic-messages.ts'
import { bedrockAnswer } from './bedrock-answer.ts'
import { hidesModel } from './bedrock-model.ts'
import { parseCutJson } from './cut-json.ts'
import { findingsOf } from './findings.ts'
import { textOfBytes } from './plain-body.ts'
import {
  BoundedText,
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
  withoutContradictions,
} from './reader.ts'

/**
 * Bedrock InvokeModel and InvokeModelWithResponseStream (Amazon Bedrock API reference and "Inference request
 * parameters and response fields for foundation models", read 2026-11).
 *
 * The body is the model maker's own; a stream wraps the maker's events in base64. Bedrock counts beside it: in
 * headers (`x-amzn-bedrock-input-token-count` …), not for every model, and in the last event of a stream
 * (`amazon-bedrock-invocationMetrics`), both without the cache in the input. These are two sources for one call:
 * the maker's counts are taken, because they say more, Bedrock's fill in what the maker does not count, and where
 * they disagree the call is marked.
 */
export function readBedrockInvoke(request: ReaderRequest): UsageReader {
  const body = parseJsonObject(request.bodyText)
  const isAnthropic =
    /(?:^|\.)anthropic\./.test(request.model ?? '') || textAt(body, 'anthropic_version') !== undefined
  // Their body is that of Anthropic's own API, and so are the events of a stream.
  const anthropic = isAnthropic ? readAnthropicMessages(request) : undefined
  const output = new BoundedText()
  let counted: Record<string, number> = {}
  let usage: JsonObject | undefined
  let metrics: JsonObject | undefined
  let isComplete = false
  let cutText: string | undefined

  const answer = bedrockAnswer({
    readEvent(type, payload) {
      const encoded = type === 'chunk' ? textAt(parseJsonObject(textOfBytes(payload)), 'bytes') : undefined
      if (encoded === undefined) return
      const text = Buffer.from(encoded, 'base64').toString('utf8')
      // A line end would end the event; in JSON it can only stand between values.
      anthropic?.push(Buffer.from(`data: ${text.replaceAll(/[\r\n]/g, ' ')}\n\n`))
      if (anthropic !== undefined && !text.includes(METRICS)) return
      const event = parseJsonObject(text)
      if (event === undefined) return
      const reported = objectAt(event, METRICS)
      if (reported !== undefined) {
        metrics = reported
        isComplete = true
      }
      if (anthropic !== undefined) return
      // Later events replace the counts of earlier ones: they are running totals.
      counted = { ...counted, ...countsOf(event) }
      usage = { ...usage, ...usageOf(event) }
      addTexts(event, output)
    },
    readBody(invoked, bytes) {
      anthropic?.push(bytes)
      if (anthropic !== undefined) return
      counted = countsOf(invoked)
      usage = usageOf(invoked)
      addTexts(invoked, output)
    },
    readCut(text) {
      anthropic?.push(Buffer.from(text))
      cutText = text
    },
  })

  return {
    requestedModel: request.model,
    rewrittenBody: undefined,
    promptText: () => anthropic?.promptText() ?? textsOf(body),
    respond(status, header) {
      answer.respond(status, header)
      const contentType = answer.isStreamed ? 'text/event-stream' : 'application/json'
      anthropic?.respond(status, (name) => (name === 'content-type' ? contentType : null))
    },
    push: answer.push,
    end() {
      const rest = answer.end()
      anthropic?.end()
      return rest
    },
    result(): ReadUsage {
      const { isStreamed, serviceTier, damage, problem } = answer
      const own = anthropic?.result()
      const reported = combined(own?.quantities ?? counted, bedrockCounts(metrics, answer.header))
      const read = withoutContradictions(reported.quantities)
      const hasQuantities = Object.keys(read.quantities).length > 0
      const mismatch =
        own?.mismatch ?? read.mismatch ?? reported.mismatch ?? totalMismatch(usage, counted) ?? damage
      const errorType = answer.errorType ?? (isStreamed || answer.isRead ? own?.errorType : undefined)
      return {
        // The maker's name for the model lacks the profile that the price depends on.
        ...(hidesModel(request.model) && own?.responseModel && { responseModel: own.responseModel }),
        ...(serviceTier !== undefined && { serviceTier }),
        ...(hasQuantities && (isStreamed || errorType === undefined) && { quantities: read.quantities }),
        ...(mismatch !== undefined && { mismatch }),
        ...findingsOf({ ...usage, ...own?.vendorUsage, ...bedrockUsage(metrics, answer.header) }, problem),
        ...(problem === undefined && own?.reason === 'invalid_usage' && { reason: own.reason }),
        ...(own?.apart !== undefined && { apart: own.apart }),
        isComplete: isStreamed ? isComplete || own?.isComplete === true : answer.isRead,
        isStreamed,
        ...(own?.responseId !== undefined && { responseId: own.responseId }),
        ...(errorType !== undefined && { errorType }),
      }
    },
    outputText() {
      if (anthropic !== undefined) return anthropic.outputText()
      if (cutText === undefined) return output.toString()
      const text = new BoundedText()
      addTexts(parseCutJson(cutText), text)
      return text.toString()
    },
  }
}

const METRICS = 'amazon-bedrock-invocationMetrics'

/** Bedrock's own counts of a call: the input without the cache, and the parts of it. */
function bedrockCounts(
  metrics: JsonObject | undefined,
  header: (name: string) => string | null,
): Record<string, number> {
  const side = (metric: string, name: string): number | undefined => {
    const text = header(`x-amzn-bedrock-${name}-token-count`) ?? ''
    return countAt(metrics, metric) ?? (/^\d{1,15}$/.test(text) ? Number(text) : undefined)
  }
  const uncached = side('inputTokenCount', 'input')
  const cacheRead = side('cacheReadInputTokenCount', 'cache-read-input') ?? 0
  const cacheWrite = side('cacheWriteInputTokenCount', 'cache-write-input') ?? 0
  return inAndOut(uncached, side('outputTokenCount', 'output'), cacheRead, cacheWrite)
}

/** Bedrock's own counts under their names. */
function bedrockUsage(metrics: JsonObject | undefined, header: (name: string) => string | null): object {
  const headers = HEADERS.flatMap((name) => {
    const text = header(name) ?? ''
    return /^\d{1,15}$/.test(text) ? [[name, Number(text)] as const] : []
  })
  return { ...(metrics !== undefined && { [METRICS]: metrics }), ...Object.fromEntries(headers) }
}

const HEADERS = [
  'x-amzn-bedrock-input-token-count',
  'x-amzn-bedrock-output-token-count',
  'x-amzn-bedrock-cache-read-input-token-count',
  'x-amzn-bedrock-cache-write-input-token-count',
  'x-amzn-bedrock-invocation-latency',
]

/** Counts of a call whose cache stands beside the input. */
function inAndOut(
  uncached: number | undefined,
  output: number | undefined,
  cacheRead = 0,
  cacheWrite = 0,
): Record<string, number> {
  const input = (uncached ?? NaN) + cacheRead + cacheWrite
  return {
    ...(Number.isSafeInteger(input) && {
      input_tokens: input,
      ...(cacheRead > 0 && { cache_read_tokens: cacheRead }),
      ...(cacheWrite > 0 && { cache_write_tokens: cacheWrite }),
    }),
    ...(output !== undefined && { output_tokens: output }),
  }
}

/** The maker's counts, filled in by Bedrock's. */
function combined(
  maker: Readonly<Record<string, number>>,
  bedrock: Readonly<Record<string, number>>,
): { readonly quantities: Readonly<Record<string, number>>; readonly mismatch?: string } {
  const quantities = { ...maker }
  if (quantities['output_tokens'] === undefined && bedrock['output_tokens'] !== undefined) {
    quantities['output_tokens'] = bedrock['output_tokens']
  }
  if (quantities['input_tokens'] === undefined) {
    for (const meter of INPUT_METERS) {
      const quantity = bedrock[meter]
      if (quantity !== undefined) quantities[meter] = quantity
    }
  }
  const cache = (quantities['cache_read_tokens'] ?? 0) + (quantities['cache_write_tokens'] ?? 0)
  const mismatch =
    disagreement('input_tokens', quantities, bedrock, cache) ??
    disagreement('output_tokens', quantities, bedrock, 0)
  return { quantities, ...(mismatch !== undefined && { mismatch }) }
}

const INPUT_METERS = ['input_tokens', 'cache_read_tokens', 'cache_write_tokens']

/** @param apart what one source may have left out of its count */
function disagreement(
  meter: string,
  { [meter]: ours }: Readonly<Record<string, number>>,
  { [meter]: theirs }: Readonly<Record<string, number>>,
  apart: number,
): string | undefined {
  if (ours === undefined || theirs === undefined || ours === theirs || ours - apart === theirs)
    return undefined
  return `the model's maker counts ${ours} ${meter}, Bedrock ${theirs}`
}

/** The numbers of usage in an answer, or in one event of a stream, under the maker's names. */
function usageOf(answer: JsonObject): JsonObject {
  const usage = objectAt(answer, 'usage') ?? objectAt(objectAt(answer, 'metadata'), 'usage')
  if (usage !== undefined) return usage
  const { results } = answer
  const kept = Object.fromEntries(Object.entries(answer).filter(([name]) => /_?token_?count$/i.test(name)))
  return Array.isArray(results)
    ? {
        ...kept,
        results: results.map((result) => (isJsonObject(result) ? { tokenCount: result['tokenCount'] } : {})),
      }
    : kept
}

/** Why the maker's total contradicts its parts; Amazon Nova's may have the cache in it or not. */
function totalMismatch(
  usage: JsonObject | undefined,
  { input_tokens: input, output_tokens: output, ...parts }: Readonly<Record<string, number>>,
): string | undefined {
  const total = countAt(usage, 'totalTokens') ?? countAt(usage, 'total_tokens')
  if (total === undefined || input === undefined || output === undefined) return undefined
  const cache = (parts['cache_read_tokens'] ?? 0) + (parts['cache_write_tokens'] ?? 0)
  const sum = input + output
  return total === sum || total === sum - cache
    ? undefined
    : `the total is ${total}, but the parts add up to ${sum}, without the cache to ${sum - cache}`
}

/** The counts in an answer, or in one event of a stream, of makers other than Anthropic. */
function countsOf(answer: JsonObject): Record<string, number> {
  const usage = objectAt(answer, 'usage') ?? objectAt(objectAt(answer, 'metadata'), 'usage')
  const images = answer['images']
  return {
    ...(Array.isArray(images) && images.length > 0 && { images: images.length }),
    ...(usage === undefined ? topLevelCounts(answer) : usageCounts(usage)),
  }
}

/** Amazon Nova counts the cache beside the input; OpenAI's format, which most others use, inside. */
function usageCounts(usage: JsonObject): Record<string, number> {
  if (usage['inputTokens'] !== undefined || usage['outputTokens'] !== undefined) {
    return inAndOut(
      countAt(usage, 'inputTokens'),
      countAt(usage, 'outputTokens'),
      countAt(usage, 'cacheReadInputTokenCount') ?? countAt(usage, 'cacheReadInputTokens'),
      countAt(usage, 'cacheWriteInputTokenCount') ?? countAt(usage, 'cacheWriteInputTokens'),
    )
  }
  const cached = countAt(objectAt(usage, 'prompt_tokens_details'), 'cached_tokens') ?? 0
  const reasoning = countAt(objectAt(usage, 'completion_tokens_details'), 'reasoning_tokens') ?? 0
  return {
    ...inAndOut(countAt(usage, 'prompt_tokens'), countAt(usage, 'completion_tokens')),
    ...(cached > 0 && { cache_read_tokens: cached }),
    ...(reasoning > 0 && { reasoning_tokens: reasoning }),
  }
}

/** Meta Llama and Amazon Titan have no object for it. */
function topLevelCounts(answer: JsonObject): Record<string, number> {
  const results = answer['results']
  const perResult = Array.isArray(results)
    ? results.reduce(
        (sum: number, result) =>
          sum + ((isJsonObject(result) ? countAt(result, 'tokenCount') : undefined) ?? NaN),
        0,
      )
    : undefined
  const titan = countAt(answer, 'totalOutputTextTokenCount') ?? perResult
  return inAndOut(
    countAt(answer, 'prompt_token_count') ?? countAt(answer, 'inputTextTokenCount'),
    countAt(answer, 'generation_token_count') ?? (Number.isSafeInteger(titan) ? titan : undefined),
  )
}

/** Where makers put what a model wrote. */
const WRITTEN = new Set(['text', 'generation', 'outputText', 'content', 'reasoning_content', 'arguments'])
const LEVELS_MAX = 20

/** Adds what the model wrote, wherever the maker puts it. */
function addTexts(value: unknown, into: BoundedText, levels: number = LEVELS_MAX): void {
  if (levels === 0) return
  if (Array.isArray(value)) for (const entry of value) addTexts(entry, into, levels - 1)
  else if (isJsonObject(value)) {
    for (const [key, entry] of Object.entries(value)) {
      if (typeof entry !== 'string') addTexts(entry, into, levels - 1)
      else if (WRITTEN.has(key)) into.add(entry)
    }
  }
}
