import { chunkEvent, eventHeaders, message } from '../../../packages/providers/test/aws-event-stream.ts'
import {
  failure,
  json,
  type Piece,
  present,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'
import { anthropicEvents, anthropicMessage, uncached } from './anthropic.ts'
import type { Truth } from './plan.ts'

/**
 * Amazon Bedrock's runtime (Amazon Bedrock API reference, read 2026-11): Converse, whose cache stands beside the
 * input, and InvokeModel, whose body is the maker's own, with Bedrock's counts in headers. Streams are binary, and
 * InvokeModel's end in Bedrock's own counts beside the maker's.
 */
export const bedrock: Vendor = {
  answer(request) {
    const { path } = request
    if (path.endsWith('/converse')) return json(converse(request), idOf(request))
    if (path.endsWith('/converse-stream')) return binary(converseEvents(request), request)
    const maker = makerOf(request)
    if (path.endsWith('/invoke')) return json(maker.body(request), { ...idOf(request), ...counts(request) })
    return binary(invoked(maker.events(request), request), request)
  },
  fail(status, request) {
    const type =
      status === 429
        ? 'ThrottlingException'
        : status === 400
          ? 'ValidationException'
          : 'InternalServerException'
    return failure(
      status,
      { message: `The request failed (${status}). ${request.plan.quoted}` },
      { ...idOf(request), 'x-amzn-errortype': `${type}:http://internal.amazon.com/coral/` },
    )
  },
}

function idOf({ number }: VendorRequest): Record<string, string> {
  return { 'x-amzn-requestid': `4b1f7f3c-${number}` }
}

function binary(body: readonly Piece[], request: VendorRequest): VendorAnswer {
  return { headers: { 'content-type': 'application/vnd.amazon.eventstream', ...idOf(request) }, body }
}

function converseUsage(truth: Truth) {
  const long = truth.cacheWrite1h ?? 0
  const short = (truth.cacheWrite ?? 0) - long
  return present({
    inputTokens: uncached(truth),
    outputTokens: truth.output,
    totalTokens: truth.input + truth.output,
    cacheReadInputTokens: truth.cacheRead,
    cacheWriteInputTokens: truth.cacheWrite,
    cacheDetails:
      truth.cacheWrite === undefined
        ? undefined
        : [
            { ttl: '5m', inputTokens: short },
            { ttl: '1h', inputTokens: long },
          ].filter(({ inputTokens }) => inputTokens > 0),
  })
}

function converse({ plan: { say, truth } }: VendorRequest) {
  const content = [
    ...(say.reasoning.length > 0
      ? [{ reasoningContent: { reasoningText: { text: say.reasoning.join(''), signature: 'EqoB' } } }]
      : []),
    { text: say.text.join('') },
    ...(say.tool === undefined
      ? []
      : [
          {
            toolUse: {
              toolUseId: 'tooluse_1',
              name: say.tool.name,
              input: JSON.parse(say.tool.arguments.join('')),
            },
          },
        ]),
  ]
  return {
    metrics: { latencyMs: 900 },
    output: { message: { content, role: 'assistant' } },
    serviceTier: { type: 'default' },
    stopReason: say.tool === undefined ? 'end_turn' : 'tool_use',
    usage: converseUsage(truth),
  }
}

function converseEvents({ plan: { say, truth } }: VendorRequest): Piece[] {
  const events: Piece[] = []
  const event = (type: string, value: object, text?: string) =>
    events.push({
      bytes: message(eventHeaders(type), JSON.stringify({ ...value, p: 'abcd' })),
      ...(text !== undefined && { text }),
    })
  let index = 0
  const block = (texts: readonly string[], deltaOf: (text: string) => object) => {
    for (const text of texts)
      event('contentBlockDelta', { contentBlockIndex: index, delta: deltaOf(text) }, text)
    event('contentBlockStop', { contentBlockIndex: index++ })
  }
  event('messageStart', { role: 'assistant' })
  if (say.reasoning.length > 0) block(say.reasoning, (text) => ({ reasoningContent: { text } }))
  block(say.text, (text) => ({ text }))
  if (say.tool !== undefined) {
    const start = { toolUse: { name: say.tool.name, toolUseId: 'tooluse_1' } }
    event('contentBlockStart', { contentBlockIndex: index, start }, say.tool.name)
    block(say.tool.arguments, (input) => ({ toolUse: { input } }))
  }
  event('messageStop', { stopReason: say.tool === undefined ? 'end_turn' : 'tool_use' })
  event('metadata', {
    metrics: { latencyMs: 1200 },
    serviceTier: { type: 'default' },
    usage: converseUsage(truth),
  })
  return events
}

/** How a maker's model answers InvokeModel. */
interface Maker {
  body(request: VendorRequest): object
  events(request: VendorRequest): { readonly event: object; readonly text?: string }[]
}

function makerOf({ path }: VendorRequest): Maker {
  if (path.includes('anthropic.')) return { body: anthropicMessage, events: anthropicEvents }
  return path.includes('llama') ? LLAMA : NOVA
}

const NOVA: Maker = {
  body: (request) => ({
    output: { message: { content: [{ text: request.plan.say.text.join('') }], role: 'assistant' } },
    stopReason: 'end_turn',
    usage: novaUsage(request.plan.truth),
  }),
  events: (request) => [
    { event: { messageStart: { role: 'assistant' } } },
    ...request.plan.say.text.map((text) => ({
      event: { contentBlockDelta: { delta: { text }, contentBlockIndex: 0 } },
      text,
    })),
    { event: { contentBlockStop: { contentBlockIndex: 0 } } },
    { event: { messageStop: { stopReason: 'end_turn' } } },
    { event: { metadata: { usage: novaUsage(request.plan.truth), metrics: {}, trace: {} } } },
  ],
}

function novaUsage(truth: Truth) {
  return {
    inputTokens: uncached(truth),
    outputTokens: truth.output,
    cacheReadInputTokenCount: truth.cacheRead ?? 0,
    cacheWriteInputTokenCount: truth.cacheWrite ?? 0,
  }
}

/** Each event repeats how many tokens there are so far. */
const LLAMA: Maker = {
  body: ({ plan: { say, truth } }) => ({
    generation: say.text.join(''),
    prompt_token_count: truth.input,
    generation_token_count: truth.output,
    stop_reason: 'stop',
  }),
  events: ({ plan: { say, truth } }) =>
    say.text.map((text, index) => ({
      event: {
        generation: text,
        prompt_token_count: index === 0 ? truth.input : null,
        generation_token_count: index === say.text.length - 1 ? truth.output : index + 1,
        stop_reason: index === say.text.length - 1 ? 'stop' : null,
      },
      text,
    })),
}

/** Bedrock's own counts, without the cache in the input. */
function counts({ plan: { truth } }: VendorRequest): Record<string, string> {
  return {
    'x-amzn-bedrock-input-token-count': String(uncached(truth)),
    'x-amzn-bedrock-output-token-count': String(truth.output),
    'x-amzn-bedrock-cache-read-input-token-count': String(truth.cacheRead ?? 0),
    'x-amzn-bedrock-cache-write-input-token-count': String(truth.cacheWrite ?? 0),
    'x-amzn-bedrock-invocation-latency': '900',
  }
}

/** The maker's events, the last one with Bedrock's counts beside its own members. */
function invoked(
  events: readonly { readonly event: object; readonly text?: string }[],
  { plan: { truth } }: VendorRequest,
): Piece[] {
  const metrics = {
    inputTokenCount: uncached(truth),
    outputTokenCount: truth.output,
    invocationLatency: 1200,
    firstByteLatency: 300,
    cacheReadInputTokenCount: truth.cacheRead ?? 0,
    cacheWriteInputTokenCount: truth.cacheWrite ?? 0,
  }
  return events.map(({ event, text }, index) => ({
    bytes: chunkEvent(
      index === events.length - 1 ? { ...event, 'amazon-bedrock-invocationMetrics': metrics } : event,
    ),
    ...(text !== undefined && { text }),
  }))
}
