import { CREATED, eventStream, json, named, type Piece, type Vendor, type VendorRequest } from './answer.ts'
import { openaiFailure } from './openai-chat.ts'
import type { Truth } from './plan.ts'

/**
 * OpenAI responses (OpenAI API reference "Responses", openai-node 7.57 types, read 2026-11): details are parts of
 * the totals, a stream has its usage in the event that ends it, asked or not.
 */
export const openaiResponses: Vendor = {
  answer(request) {
    const headers = { 'x-request-id': `req_${request.number}`, 'openai-version': '2020-10-01' }
    if (request.json['stream'] !== true) return json(responseOf(request, 'completed'), headers)
    return eventStream(numbered(eventsOf(request)), headers)
  },
  fail: openaiFailure,
}

function usageOf(truth: Truth) {
  return {
    input_tokens: truth.input,
    input_tokens_details: { cached_tokens: truth.cacheRead ?? 0, cache_write_tokens: truth.cacheWrite ?? 0 },
    output_tokens: truth.output,
    output_tokens_details: { reasoning_tokens: truth.reasoning ?? 0 },
    total_tokens: truth.input + truth.output,
  }
}

type Item = Readonly<Record<string, unknown>>

function itemsOf({ plan: { say, truth }, number }: VendorRequest): Item[] {
  const items: Item[] = []
  if (truth.reasoning !== undefined) {
    items.push({ id: `rs_${number}`, type: 'reasoning', summary: [], status: 'completed' })
  }
  for (let search = 0; search < (truth.webSearches ?? 0); search++) {
    items.push({
      id: `ws_${search}`,
      type: 'web_search_call',
      status: 'completed',
      action: { type: 'search', query: 'tokens' },
    })
  }
  items.push({
    id: `msg_${number}`,
    type: 'message',
    status: 'completed',
    content: [{ type: 'output_text', annotations: [], logprobs: [], text: say.text.join('') }],
    role: 'assistant',
  })
  if (say.tool !== undefined) {
    items.push({
      id: `fc_${number}`,
      type: 'function_call',
      status: 'completed',
      arguments: say.tool.arguments.join(''),
      call_id: 'call_1',
      name: say.tool.name,
    })
  }
  return items
}

function responseOf(request: VendorRequest, status: 'in_progress' | 'completed') {
  const isDone = status === 'completed'
  return {
    id: `resp_${request.number}`,
    object: 'response',
    created_at: CREATED,
    status,
    background: false,
    error: null,
    incomplete_details: null,
    instructions: null,
    max_output_tokens: null,
    model: `${String(request.json['model'])}-2025-08-07`,
    output: isDone ? itemsOf(request) : [],
    parallel_tool_calls: true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: isDone ? 'default' : 'auto',
    store: true,
    temperature: 1,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    truncation: 'disabled',
    usage: isDone ? usageOf(request.plan.truth) : null,
    user: null,
    metadata: {},
  }
}

interface ResponseEvent {
  readonly type: string
  readonly text?: string
  readonly [field: string]: unknown
}

/** The events in order, with what of the model's words is in each. */
function eventsOf(request: VendorRequest): { event: ResponseEvent; text?: string }[] {
  const { say } = request.plan
  const events: { event: ResponseEvent; text?: string }[] = [
    { event: { type: 'response.created', response: responseOf(request, 'in_progress') } },
    { event: { type: 'response.in_progress', response: responseOf(request, 'in_progress') } },
  ]
  for (const [index, item] of itemsOf(request).entries()) {
    const at = { item_id: item['id'], output_index: index }
    const isCall = item['type'] === 'function_call'
    const added = { ...item, status: 'in_progress', ...(isCall ? { arguments: '' } : { content: [] }) }
    events.push({
      event: { type: 'response.output_item.added', output_index: index, item: added },
      ...(isCall && { text: String(item['name']) }),
    })
    if (item['type'] === 'message') {
      const part = { type: 'output_text', annotations: [], logprobs: [], text: '' }
      events.push({ event: { type: 'response.content_part.added', ...at, content_index: 0, part } })
      for (const text of say.text) {
        const delta = { ...at, content_index: 0, delta: text, logprobs: [], obfuscation: 'Qh3vT' }
        events.push({ event: { type: 'response.output_text.delta', ...delta }, text })
      }
      const text = say.text.join('')
      events.push({
        event: { type: 'response.output_text.done', ...at, content_index: 0, text, logprobs: [] },
      })
    }
    for (const text of isCall ? (say.tool?.arguments ?? []) : []) {
      events.push({ event: { type: 'response.function_call_arguments.delta', ...at, delta: text }, text })
    }
    if (isCall) {
      const whole = say.tool?.arguments.join('')
      events.push({ event: { type: 'response.function_call_arguments.done', ...at, arguments: whole } })
    }
    events.push({ event: { type: 'response.output_item.done', output_index: index, item } })
  }
  events.push({ event: { type: 'response.completed', response: responseOf(request, 'completed') } })
  return events
}

function numbered(events: readonly { event: ResponseEvent; text?: string }[]): Piece[] {
  return events.map(({ event, text }, index) =>
    named({ ...event, sequence_number: index }, text === undefined ? {} : { text }),
  )
}
