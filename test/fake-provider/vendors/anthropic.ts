import {
  eventStream,
  failure,
  json,
  named,
  type Piece,
  RETRY_SOON,
  share,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'
import type { Truth } from './plan.ts'

/**
 * Anthropic messages (Anthropic API reference "Messages" and "Streaming", SDK 1.12 types, read 2026-11). The cache
 * stands beside `input_tokens`; thinking is inside the output. A stream names the input at its start with a
 * placeholder for the output, and its end in numbers that replace what came before.
 */
export const anthropic: Vendor = {
  answer: (request) => {
    const headers = { 'request-id': `req_${request.number}`, 'anthropic-organization-id': '8f1c2f0e' }
    return request.json['stream'] === true
      ? eventStream(
          anthropicEvents(request).map(({ event, ...said }) => named(event, said)),
          headers,
        )
      : json(anthropicMessage(request), headers)
  },
  fail: anthropicFailure,
}

const ERROR_TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  429: 'rate_limit_error',
  529: 'overloaded_error',
}

export function anthropicFailure(status: number, { plan, number }: VendorRequest): VendorAnswer {
  const error = {
    type: ERROR_TYPES[status] ?? 'api_error',
    message: `The request failed (${status}). ${plan.quoted}`,
  }
  const headers = { ...RETRY_SOON, 'request-id': `req_${number}` }
  return failure(status, { type: 'error', error, request_id: `req_${number}` }, headers)
}

/** The input without the cache. */
export function uncached(truth: Truth): number {
  return truth.input - (truth.cacheRead ?? 0) - (truth.cacheWrite ?? 0)
}

function startUsage(truth: Truth) {
  const long = truth.cacheWrite1h ?? 0
  return {
    input_tokens: uncached(truth),
    cache_creation_input_tokens: truth.cacheWrite ?? 0,
    cache_read_input_tokens: truth.cacheRead ?? 0,
    cache_creation: {
      ephemeral_5m_input_tokens: (truth.cacheWrite ?? 0) - long,
      ephemeral_1h_input_tokens: long,
    },
    service_tier: 'standard',
    inference_geo: 'global',
  }
}

function endUsage(truth: Truth, output = truth.output) {
  return {
    output_tokens: output,
    output_tokens_details: truth.reasoning === undefined ? null : { thinking_tokens: truth.reasoning },
    server_tool_use:
      truth.webSearches === undefined
        ? null
        : { web_search_requests: truth.webSearches, web_fetch_requests: 0 },
  }
}

function modelOf({ json: body, path }: VendorRequest): string {
  const model = body['model'] ?? /models\/([^:/]+)/.exec(path)?.[1] ?? 'claude-sonnet-4-5'
  return String(model).replace(/@.*$/, '')
}

export function anthropicMessage(request: VendorRequest) {
  const { say, truth } = request.plan
  return {
    model: `${modelOf(request)}-20250929`,
    id: `msg_${request.number}`,
    type: 'message',
    role: 'assistant',
    content: [
      ...(say.reasoning.length > 0
        ? [{ type: 'thinking', thinking: say.reasoning.join(''), signature: 'EqQBCgIYAhIM1gbc' }]
        : []),
      { type: 'text', text: say.text.join(''), citations: null },
      ...(say.tool === undefined
        ? []
        : [
            {
              type: 'tool_use',
              id: 'toolu_1',
              name: say.tool.name,
              input: JSON.parse(say.tool.arguments.join('')),
            },
          ]),
    ],
    stop_reason: say.tool === undefined ? 'end_turn' : 'tool_use',
    stop_sequence: null,
    usage: { ...startUsage(truth), ...endUsage(truth) },
  }
}

export interface AnthropicEvent extends Omit<Piece, 'bytes'> {
  readonly event: { readonly type: string; readonly [field: string]: unknown }
}

/** The events of a stream; how they are framed is the way's that they come by. */
export function anthropicEvents(request: VendorRequest): AnthropicEvent[] {
  const { say, truth } = request.plan
  const whole = anthropicMessage(request)
  const message = {
    ...whole,
    content: [],
    stop_reason: null,
    usage: { ...startUsage(truth), ...endUsage({ input: 0, output: 1 }) },
  }
  const events: AnthropicEvent[] = [{ event: { type: 'message_start', message } }]
  const block = (start: Record<string, unknown>, name: string, field: string, texts: readonly string[]) => {
    const index = events.filter(({ event }) => event.type === 'content_block_start').length
    events.push({ event: { type: 'content_block_start', index, content_block: start } })
    if (index === 0) events.push({ event: { type: 'ping' } })
    for (const text of texts) {
      events.push({
        event: { type: 'content_block_delta', index, delta: { type: name, [field]: text } },
        text,
      })
    }
    events.push({ event: { type: 'content_block_stop', index } })
  }
  if (say.reasoning.length > 0) {
    block({ type: 'thinking', thinking: '', signature: '' }, 'thinking_delta', 'thinking', say.reasoning)
  }
  block({ type: 'text', text: '', citations: null }, 'text_delta', 'text', say.text)
  if (say.tool !== undefined) {
    const start = { type: 'tool_use', id: 'toolu_1', name: say.tool.name, input: {} }
    block(start, 'input_json_delta', 'partial_json', say.tool.arguments)
  }
  const delta = { stop_reason: whole.stop_reason, stop_sequence: null }
  // Twice, as with tools of the server: the numbers are cumulative, never to be added up.
  events.push(
    {
      event: {
        type: 'message_delta',
        delta: { stop_reason: null, stop_sequence: null },
        usage: { output_tokens: share(truth.output, 1, 2) },
      },
    },
    { event: { type: 'message_delta', delta, usage: endUsage(truth) } },
    { event: { type: 'message_stop' } },
  )
  return events
}
