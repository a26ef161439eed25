import {
  CREATED,
  data,
  eventStream,
  failure,
  json,
  type Piece,
  present,
  RETRY_SOON,
  share,
  type Vendor,
  type VendorAnswer,
  type VendorRequest,
} from './answer.ts'
import type { Truth } from './plan.ts'

/**
 * Chat completions and the older completions, as OpenAI and those who speak like it send them (OpenAI API
 * reference, openai-node 7.57 types; the vendors' own references, read 2026-11).
 */
interface Dialect {
  /** The usage object, of an answer that is not streamed or of a stream's end. */
  usage(truth: Truth): Record<string, unknown>
  /** Names of models are echoed, dated where the vendor dates them. */
  responseModel?(model: string): string
  /** Usage stands on the last chunk that has a choice, always. */
  readonly isUsageOnLast?: boolean
  /** A chunk of its own has the usage, always: nobody needs to ask. */
  readonly isUsageAlways?: boolean
  /** Every chunk has running totals. */
  readonly isRunning?: boolean
  /** A stream brings the call of a tool in one piece. */
  readonly isToolWhole?: boolean
  /** What stands first in a stream. */
  readonly opening?: readonly Piece[]
  readonly isKeepingAlive?: boolean
  /** Members beside OpenAI's own. */
  extra?(request: VendorRequest, isStreamed: boolean): Record<string, unknown>
  lastExtra?(request: VendorRequest): Record<string, unknown>
  readonly headers?: Readonly<Record<string, string>>
  /** Where thoughts are shown; undefined: they are hidden. */
  readonly reasoningField?: string
  failure?(status: number, request: VendorRequest): VendorAnswer
}

/** OpenAI's own: details are parts of the totals. */
export function openaiUsage(truth: Truth): Record<string, unknown> {
  return {
    prompt_tokens: truth.input,
    completion_tokens: truth.output,
    total_tokens: truth.input + truth.output,
    prompt_tokens_details: present({
      cached_tokens: truth.cacheRead ?? 0,
      audio_tokens: truth.audioInput ?? 0,
      image_tokens: truth.imageInput,
      cache_write_tokens: truth.cacheWrite,
    }),
    completion_tokens_details: {
      reasoning_tokens: truth.reasoning ?? 0,
      audio_tokens: truth.audioOutput ?? 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  }
}

function plainUsage(truth: Truth): Record<string, unknown> {
  return {
    prompt_tokens: truth.input,
    completion_tokens: truth.output,
    total_tokens: truth.input + truth.output,
  }
}

const dated = (model: string) => `${model}-2025-08-07`

const OPENAI: Dialect = {
  usage: openaiUsage,
  responseModel: dated,
  extra: () => ({ service_tier: 'default', system_fingerprint: 'fp_560af6e559' }),
  headers: { 'openai-version': '2020-10-01', 'openai-processing-ms': '412' },
}

/** The deployment is an arbitrary name; a stream opens with what the filters say of the prompt. */
const AZURE: Dialect = {
  ...OPENAI,
  responseModel: () => 'gpt-4o-2024-11-20',
  opening: [
    data({
      choices: [],
      created: 0,
      id: '',
      model: '',
      object: '',
      prompt_filter_results: [
        { prompt_index: 0, content_filter_results: { hate: { filtered: false, severity: 'safe' } } },
      ],
    }),
  ],
  extra: () => ({ system_fingerprint: 'fp_b54fe76834' }),
  headers: { 'apim-request-id': 'b1a3f3c2', 'x-ms-region': 'Sweden Central' },
}

/** Hits and misses of the cache add up to the prompt; comments keep the connection. */
const DEEPSEEK: Dialect = {
  usage: (truth) => ({
    ...plainUsage(truth),
    prompt_tokens_details: { cached_tokens: truth.cacheRead ?? 0 },
    completion_tokens_details: { reasoning_tokens: truth.reasoning ?? 0 },
    prompt_cache_hit_tokens: truth.cacheRead ?? 0,
    prompt_cache_miss_tokens: truth.input - (truth.cacheRead ?? 0),
  }),
  isKeepingAlive: true,
  reasoningField: 'reasoning_content',
}

/** Reasoning stands beside `completion_tokens`; the total has all three. */
const XAI: Dialect = {
  usage: (truth) => ({
    ...openaiUsage(truth),
    completion_tokens: truth.output - (truth.reasoning ?? 0),
    num_sources_used: 0,
  }),
  reasoningField: 'reasoning_content',
}

const OPENROUTER: Dialect = {
  usage: (truth) => ({
    ...openaiUsage(truth),
    cost: 0.00014,
    is_byok: false,
    cost_details: { upstream_inference_cost: null },
  }),
  isUsageAlways: true,
  opening: [{ bytes: Buffer.from(': OPENROUTER PROCESSING\n\n') }],
  extra: () => ({ provider: 'OpenAI' }),
  reasoningField: 'reasoning',
}

const GROQ: Dialect = {
  usage: (truth) => ({
    queue_time: 0.01,
    prompt_time: 0.02,
    completion_time: 0.1,
    total_time: 0.12,
    ...plainUsage(truth),
    prompt_tokens_details: { cached_tokens: truth.cacheRead ?? 0 },
    completion_tokens_details: { reasoning_tokens: truth.reasoning ?? 0 },
  }),
  // In an answer that is not streamed this usage is of the caches of its machines, and none of tokens.
  extra: (_, isStreamed) =>
    isStreamed ? {} : { x_groq: { id: 'req_g', usage: { dram_cached_tokens: 0, sram_cached_tokens: 128 } } },
  lastExtra: ({ plan }) => ({ x_groq: { id: 'req_g', usage: GROQ.usage(plan.truth) } }),
  reasoningField: 'reasoning',
}

const TOGETHER: Dialect = {
  usage: (truth) => ({ ...plainUsage(truth), cached_tokens: 0 }),
  isUsageOnLast: true,
}

const MISTRAL: Dialect = {
  usage: (truth) =>
    present({
      ...plainUsage(truth),
      num_cached_tokens: truth.cacheRead,
    }),
  isUsageOnLast: true,
  isToolWhole: true,
  headers: { 'mistral-correlation-id': '0193b6d5' },
  failure: (status, { plan }) =>
    failure(status, {
      object: 'error',
      message: `Status ${status}. ${plan.quoted}`,
      type: 'rate_limited',
      param: null,
      code: '1300',
    }),
}

/** With `continuous_usage_stats`, which servers can force, each chunk has the totals so far. */
const VLLM: Dialect = { usage: plainUsage, isRunning: true, reasoningField: 'reasoning_content' }

export const DIALECTS = {
  openai: OPENAI,
  azure: AZURE,
  deepseek: DEEPSEEK,
  xai: XAI,
  openrouter: OPENROUTER,
  groq: GROQ,
  together: TOGETHER,
  mistral: MISTRAL,
  vllm: VLLM,
} as const satisfies Record<string, Dialect>

/** Chat completions in one of the dialects. */
export function openaiChat(dialect: Dialect): Vendor {
  return {
    answer: (request) =>
      request.path.endsWith('/chat/completions') || request.path.endsWith('/fim/completions')
        ? chat(dialect, request)
        : completion(dialect, request),
    fail: (status, request) => dialect.failure?.(status, request) ?? openaiFailure(status, request),
  }
}

/** A failure as OpenAI words it, which quotes what it is about. */
export function openaiFailure(status: number, { plan, number }: VendorRequest): VendorAnswer {
  const type = status === 429 ? 'tokens' : status === 400 ? 'invalid_request_error' : 'server_error'
  const error = {
    message: `The request failed (${status}). ${plan.quoted}`,
    type,
    param: null,
    code: status === 429 ? 'rate_limit_exceeded' : null,
  }
  return failure(status, { error }, { ...RETRY_SOON, 'x-request-id': `req_${number}` })
}

function headersOf(dialect: Dialect, { number }: VendorRequest): Record<string, string> {
  return { 'x-request-id': `req_${number}`, ...dialect.headers }
}

function modelOf(dialect: Dialect, { json: body }: VendorRequest): string {
  const model = String(body['model'] ?? '')
  return dialect.responseModel?.(model) ?? model
}

function chat(dialect: Dialect, request: VendorRequest): VendorAnswer {
  const { say, truth } = request.plan
  const isStreamed = request.json['stream'] === true
  const common = {
    id: `chatcmpl-${request.number}`,
    created: CREATED,
    model: modelOf(dialect, request),
    ...dialect.extra?.(request, isStreamed),
  }
  const finish = say.tool === undefined ? 'stop' : 'tool_calls'
  const calls = say.tool && [{ id: 'call_1', type: 'function', function: { name: say.tool.name } }]
  if (!isStreamed) {
    const message = present({
      role: 'assistant',
      content: say.text.join(''),
      refusal: null,
      ...(dialect.reasoningField !== undefined &&
        say.reasoning.length > 0 && { [dialect.reasoningField]: say.reasoning.join('') }),
      tool_calls: calls?.map((call) => ({
        ...call,
        function: { ...call.function, arguments: say.tool?.arguments.join('') },
      })),
    })
    const choices = [{ index: 0, message, logprobs: null, finish_reason: finish }]
    const answer = { ...common, object: 'chat.completion', choices, usage: dialect.usage(truth) }
    return json(answer, headersOf(dialect, request), say.text.join(''))
  }
  const deltas: { delta: Record<string, unknown>; text?: string }[] = [
    { delta: { role: 'assistant', content: '' } },
    ...(dialect.reasoningField === undefined ? [] : say.reasoning).map((text) => ({
      delta: { [dialect.reasoningField ?? '']: text },
      text,
    })),
    ...say.text.map((text) => ({ delta: { content: text }, text })),
  ]
  if (say.tool !== undefined && calls !== undefined) {
    const whole = say.tool.arguments.join('')
    const first = dialect.isToolWhole === true ? whole : ''
    const opened = calls.map((call) => ({
      index: 0,
      ...call,
      function: { ...call.function, arguments: first },
    }))
    deltas.push({ delta: { tool_calls: opened }, text: `${say.tool.name}${first}` })
    for (const text of dialect.isToolWhole === true ? [] : say.tool.arguments) {
      deltas.push({ delta: { tool_calls: [{ index: 0, function: { arguments: text } }] }, text })
    }
  }
  return stream(dialect, request, common, deltas, finish)
}

function stream(
  dialect: Dialect,
  request: VendorRequest,
  common: Readonly<Record<string, unknown>>,
  deltas: readonly { delta: Record<string, unknown>; text?: string }[],
  finish: string,
): VendorAnswer {
  const { truth } = request.plan
  const options = request.json['stream_options']
  const isAsked = typeof options === 'object' && options !== null && 'include_usage' in options
  const isLater = isAsked || dialect.isUsageAlways === true
  const running = (part: number) => {
    const runningOutput = share(truth.output, part, deltas.length)
    return { usage: plainUsage({ input: truth.input, output: runningOutput }), runningOutput }
  }
  const chunk = (choice: Record<string, unknown>, more: Record<string, unknown> = {}) => ({
    ...common,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, ...choice }],
    ...(isAsked && !dialect.isRunning && { usage: null }),
    ...more,
  })
  const body: Piece[] = [...(dialect.opening ?? [])]
  for (const [index, { delta, text }] of deltas.entries()) {
    const { usage, runningOutput } = running(index + 1)
    const said = text === undefined ? {} : { text }
    const value = chunk(
      { delta, logprobs: null, finish_reason: null },
      dialect.isRunning === true ? { usage } : {},
    )
    body.push(data(value, dialect.isRunning === true ? { ...said, runningOutput } : said))
    if (dialect.isKeepingAlive === true && index === 1) body.push({ bytes: Buffer.from(': keep-alive\n\n') })
  }
  body.push(
    data(
      chunk(
        { delta: {}, logprobs: null, finish_reason: finish },
        {
          ...(dialect.isUsageOnLast === true && { usage: dialect.usage(truth) }),
          ...(dialect.isRunning === true && { usage: plainUsage(truth) }),
          ...dialect.lastExtra?.(request),
        },
      ),
    ),
  )
  if (isLater && dialect.isUsageOnLast !== true) {
    body.push(data({ ...common, object: 'chat.completion.chunk', choices: [], usage: dialect.usage(truth) }))
  }
  body.push(data('[DONE]'))
  return eventStream(body, headersOf(dialect, request))
}

/** The older completions. */
function completion(dialect: Dialect, request: VendorRequest): VendorAnswer {
  const { say, truth } = request.plan
  const common = {
    id: `cmpl-${request.number}`,
    object: 'text_completion',
    created: CREATED,
    model: modelOf(dialect, request),
  }
  const choice = (text: string, finish: string | null) => ({
    text,
    index: 0,
    logprobs: null,
    finish_reason: finish,
  })
  if (request.json['stream'] !== true) {
    const choices = [choice(say.text.join(''), 'stop')]
    return json({ ...common, choices, usage: dialect.usage(truth) }, headersOf(dialect, request))
  }
  const options = request.json['stream_options']
  const isAsked = typeof options === 'object' && options !== null && 'include_usage' in options
  const chunk = (text: string, finish: string | null) => ({
    ...common,
    choices: [choice(text, finish)],
    ...(isAsked && { usage: null }),
  })
  return eventStream(
    [
      ...say.text.map((text) => data(chunk(text, null), { text })),
      data(chunk('', 'stop')),
      ...(isAsked ? [data({ ...common, choices: [], usage: dialect.usage(truth) })] : []),
      data('[DONE]'),
    ],
    headersOf(dialect, request),
  )
}
