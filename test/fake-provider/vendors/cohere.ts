import {
  eventStream,
  failure,
  json,
  named,
  type Piece,
  present,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'
import type { Truth } from './plan.ts'

/**
 * Cohere's chat, embed and rerank (types of cohere-ai 8.1, read 2026-11). `tokens` has the template of the prompt
 * in it and is larger than what is billed.
 */
export const cohere: Vendor = {
  answer(request) {
    const { truth } = request.plan
    const meta = { api_version: { version: '2' } }
    if (request.path.endsWith('/embed')) {
      return json({
        id: `e${request.number}`,
        embeddings: { float: [[0.1, 0.2]] },
        texts: ['hello'],
        response_type: 'embeddings_by_type',
        meta: { ...meta, billed_units: { input_tokens: truth.input } },
      })
    }
    if (request.path.endsWith('/rerank')) {
      return json({
        results: [{ index: 0, relevance_score: 0.9 }],
        id: `r${request.number}`,
        meta: { ...meta, billed_units: { search_units: 1 } },
      })
    }
    return request.json['stream'] === true ? stream(request) : json(chat(request))
  },
  fail: (status, { plan, number }) =>
    failure(
      status,
      { id: `x${number}`, message: `The request failed (${status}). ${plan.quoted}` },
      { 'retry-after': '1' },
    ),
}

/** Tokens of the template that surrounds every prompt. */
const TEMPLATE_TOKENS = 66

function usageOf(truth: Truth) {
  return present({
    billed_units: { input_tokens: truth.input, output_tokens: truth.output },
    tokens: { input_tokens: truth.input + TEMPLATE_TOKENS, output_tokens: truth.output + 2 },
    cached_tokens: truth.cacheRead,
  })
}

function chat(request: VendorRequest) {
  const { say, truth } = request.plan
  return {
    id: `c14c80c3-${request.number}`,
    finish_reason: say.tool === undefined ? 'COMPLETE' : 'TOOL_CALL',
    message: present({
      role: 'assistant',
      content: [
        ...(say.reasoning.length > 0 ? [{ type: 'thinking', thinking: say.reasoning.join('') }] : []),
        { type: 'text', text: say.text.join('') },
      ],
      tool_calls:
        say.tool === undefined
          ? undefined
          : [
              {
                id: 't1',
                type: 'function',
                function: { name: say.tool.name, arguments: say.tool.arguments.join('') },
              },
            ],
    }),
    usage: usageOf(truth),
  }
}

function stream(request: VendorRequest): VendorAnswer {
  const { say, truth } = request.plan
  const started = { role: 'assistant', content: [], tool_plan: '', tool_calls: [], citations: [] }
  const events: Piece[] = [
    named({ id: `29f14a5a-${request.number}`, type: 'message-start', delta: { message: started } }),
  ]
  let index = 0
  const content = (type: string, field: string, texts: readonly string[]) => {
    const start = { message: { content: { type, [field]: '' } } }
    events.push(named({ type: 'content-start', index, delta: start }))
    for (const text of texts) {
      const delta = { message: { content: { [field]: text } } }
      events.push(named({ type: 'content-delta', index, delta }, { text }))
    }
    events.push(named({ type: 'content-end', index: index++ }))
  }
  if (say.reasoning.length > 0) content('thinking', 'thinking', say.reasoning)
  content('text', 'text', say.text)
  if (say.tool !== undefined) {
    const opened = { id: 't1', type: 'function', function: { name: say.tool.name, arguments: '' } }
    const start = { message: { tool_calls: opened } }
    events.push(named({ type: 'tool-call-start', index: 0, delta: start }, { text: say.tool.name }))
    for (const text of say.tool.arguments) {
      const delta = { message: { tool_calls: { function: { arguments: text } } } }
      events.push(named({ type: 'tool-call-delta', index: 0, delta }, { text }))
    }
    events.push(named({ type: 'tool-call-end', index: 0 }))
  }
  const finish = say.tool === undefined ? 'COMPLETE' : 'TOOL_CALL'
  events.push(named({ type: 'message-end', delta: { finish_reason: finish, usage: usageOf(truth) } }), {
    bytes: Buffer.from('data: [DONE]\n\n'),
  })
  return eventStream(events)
}
