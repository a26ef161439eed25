import {
  failure,
  json,
  type Piece,
  present,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'

/**
 * Ollama's chat, generate and embed (types of ollama 0.6, API documentation, read 2026-11): a stream is one JSON
 * object a line, and the last one has the counts. Thinking is inside `eval_count`; durations are nanoseconds.
 */
export const ollama: Vendor = {
  answer(request) {
    const { truth } = request.plan
    const { path } = request
    if (path.endsWith('/embed')) {
      const model = String(request.json['model'])
      const durations = { total_duration: 14_143_917, load_duration: 1_019_500 }
      return json({ model, embeddings: [[0.01, -0.001]], ...durations, prompt_eval_count: truth.input })
    }
    return request.json['stream'] === false ? json(last(request, true)) : stream(request)
  },
  fail: (status, { plan }) => failure(status, { error: `the request failed (${status}). ${plan.quoted}` }),
}

/** What Ollama's machine did for half a second. */
export const OLLAMA_SECONDS = { prompt_eval_duration: 100_000_000, eval_duration: 400_000_000 } as const

function base(request: VendorRequest) {
  return { model: String(request.json['model']), created_at: '2026-11-20T10:00:00.123456789Z' }
}

type Said = { readonly content?: string; readonly thinking?: string; readonly tool_calls?: unknown }

/** Chat has a message, generate has its text and its thoughts beside each other. */
function saidIn({ path }: VendorRequest, said: Said) {
  return path.endsWith('/chat')
    ? { message: { role: 'assistant', content: '', ...said } }
    : present({ response: said.content ?? '', thinking: said.thinking })
}

function toolCalls({ plan: { say } }: VendorRequest) {
  return say.tool === undefined
    ? undefined
    : [{ function: { name: say.tool.name, arguments: JSON.parse(say.tool.arguments.join('')) } }]
}

/** The object with the counts: the end of a stream, or all of an answer. */
function last(request: VendorRequest, isWhole: boolean) {
  const { say, truth } = request.plan
  const calls = toolCalls(request)
  const said = isWhole
    ? {
        content: say.text.join(''),
        ...(say.reasoning.length > 0 && { thinking: say.reasoning.join('') }),
        ...(calls !== undefined && { tool_calls: calls }),
      }
    : { content: '' }
  return present({
    ...base(request),
    ...saidIn(request, said),
    done: true,
    done_reason: 'stop',
    total_duration: 4_883_583_458,
    load_duration: 1_334_875,
    prompt_eval_count: truth.input,
    prompt_eval_cached_count: truth.cacheRead,
    eval_count: truth.output,
    ...OLLAMA_SECONDS,
  })
}

function stream(request: VendorRequest): VendorAnswer {
  const { say } = request.plan
  const line = (value: object, text?: string): Piece => ({
    bytes: Buffer.from(`${JSON.stringify(value)}\n`),
    ...(text !== undefined && { text }),
  })
  const said = (piece: Said, text: string) =>
    line({ ...base(request), ...saidIn(request, piece), done: false }, text)
  const calls = toolCalls(request)
  return {
    headers: { 'content-type': 'application/x-ndjson' },
    body: [
      ...say.reasoning.map((thinking) => said({ content: '', thinking }, thinking)),
      ...say.text.map((content) => said({ content }, content)),
      ...(calls === undefined
        ? []
        : [said({ content: '', tool_calls: calls }, `${say.tool?.name}${say.tool?.arguments.join('')}`)]),
      line(last(request, false)),
    ],
  }
}
