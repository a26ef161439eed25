import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { z } from 'zod'

/**
 * A provider on this machine that speaks OpenAI chat completions and Anthropic messages, plain and streamed,
 * as the vendors document them. Usage follows from the request alone, and `billed` says what a provider would
 * put on its invoice, so that tests can compare.
 *
 * A request may ask for trouble in the header `x-fake`, as `name=value` pairs joined by `;`:
 * `fail=429,500` (the first attempts), `cached=N`, `reasoning=N`, `tier=flex`, `slow=MS` (between chunks),
 * `drop` (the connection breaks in the middle), `split` (chunks are cut in small pieces), `gzip`.
 */

export interface Billed {
  readonly requestId: string
  readonly provider: 'openai' | 'anthropic'
  readonly model: string
  /** All input, cached included. */
  readonly inputTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
  readonly reasoningTokens: number
}

export interface FakeProvider {
  readonly url: string
  /** What a provider would bill: every answered request, also those that the client left. */
  readonly billed: readonly Billed[]
  /** Bytes of answer bodies that were handed to the network so far. */
  readonly bytesWritten: () => number
  close(): Promise<void>
}

const requestSchema = z.looseObject({
  model: z.string(),
  messages: z.array(z.looseObject({ content: z.unknown() })),
  stream: z.boolean().optional(),
  max_tokens: z.number().optional(),
  stream_options: z.looseObject({ include_usage: z.boolean().optional() }).nullish(),
})
type FakeRequest = z.infer<typeof requestSchema>

const WORDS = [
  'All',
  ' that',
  ' is',
  ' counted',
  ' is',
  ' naïve',
  ' but',
  ' 数えた',
  ' and',
  ' paid',
  ' 🙂',
  '.',
]

/** Starts the provider; port 0 takes any free one. */
export async function startFakeProvider({
  port = 0,
}: {
  readonly port?: number
} = {}): Promise<FakeProvider> {
  const billed: Billed[] = []
  const failures = new Map<string, number>()
  let requests = 0
  let bytesWritten = 0

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) =>
      response.destroy(error instanceof Error ? error : undefined),
    )
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = `req_${String(++requests).padStart(8, '0')}`
    const provider = request.url?.includes('/messages') ? 'anthropic' : 'openai'
    response.setHeader(provider === 'openai' ? 'x-request-id' : 'request-id', requestId)
    const text = await textOf(request)
    const parsed = requestSchema.safeParse(jsonOf(text))
    if (request.method !== 'POST' || !parsed.success) {
      fail(response, provider, 400, 'invalid_request_error')
      return
    }
    const wishes = wishesOf(request.headers['x-fake'])
    const failing = (wishes.get('fail') ?? '').split(',').filter((status) => status !== '')
    const attempt = failures.get(text) ?? 0
    if (attempt < failing.length) {
      failures.set(text, attempt + 1)
      response.setHeader('retry-after-ms', '1')
      fail(response, provider, Number(failing[attempt]), attempt === 429 ? 'rate_limit_error' : 'api_error')
      return
    }
    failures.delete(text)
    const call: Billed = { requestId, provider, model: parsed.data.model, ...usageOf(parsed.data, wishes) }
    billed.push(call)
    const exchange = { request: parsed.data, response, wishes, call, number: requests }
    await (provider === 'openai' ? answerOpenai(exchange) : answerAnthropic(exchange))
  }

  interface Exchange {
    readonly request: FakeRequest
    readonly response: ServerResponse
    readonly wishes: ReadonlyMap<string, string>
    readonly call: Billed
    readonly number: number
  }

  async function answerOpenai({ request, response, wishes, call, number }: Exchange): Promise<void> {
    const usage = {
      prompt_tokens: call.inputTokens,
      completion_tokens: call.outputTokens,
      total_tokens: call.inputTokens + call.outputTokens,
      prompt_tokens_details: { cached_tokens: call.cachedTokens, audio_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: call.reasoningTokens, audio_tokens: 0 },
    }
    const common = {
      id: `chatcmpl-${number}`,
      created: 1_795_000_000,
      model: request.model,
      service_tier: wishes.get('tier') ?? 'default',
      system_fingerprint: 'fp_fake',
    }
    const words = wordsOf(call)
    if (request.stream !== true) {
      sendJson(response, wishes, {
        ...common,
        object: 'chat.completion',
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content: words.join(''), refusal: null },
            logprobs: null,
            finish_reason: 'stop',
          },
        ],
        usage,
      })
      return
    }
    const isAsked = request.stream_options?.include_usage === true
    const chunk = (delta: object, finish: string | null) => ({
      ...common,
      object: 'chat.completion.chunk',
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
      ...(isAsked && { usage: null }),
    })
    const data = (json: object) => `data: ${JSON.stringify(json)}\n\n`
    await sendStream(response, wishes, [
      data(chunk({ role: 'assistant', content: '' }, null)),
      ...words.map((word) => data(chunk({ content: word }, null))),
      data(chunk({}, 'stop')),
      ...(isAsked ? [data({ ...common, object: 'chat.completion.chunk', choices: [], usage })] : []),
      'data: [DONE]\n\n',
    ])
  }

  async function answerAnthropic({ request, response, wishes, call, number }: Exchange): Promise<void> {
    const usage = {
      input_tokens: call.inputTokens - call.cachedTokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: call.cachedTokens,
      cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
      output_tokens: call.outputTokens,
      service_tier: 'standard',
    }
    const message = {
      id: `msg_${number}`,
      type: 'message',
      role: 'assistant',
      model: request.model,
      content: [],
      stop_reason: null,
      stop_sequence: null,
    }
    const words = wordsOf(call)
    if (request.stream !== true) {
      sendJson(response, wishes, {
        ...message,
        content: [{ type: 'text', text: words.join('') }],
        stop_reason: 'end_turn',
        usage,
      })
      return
    }
    const event = (json: { readonly type: string; readonly [field: string]: unknown }) =>
      `event: ${json.type}\ndata: ${JSON.stringify(json)}\n\n`
    await sendStream(response, wishes, [
      event({ type: 'message_start', message: { ...message, usage: { ...usage, output_tokens: 1 } } }),
      event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
      event({ type: 'ping' }),
      ...words.map((text) =>
        event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } }),
      ),
      event({ type: 'content_block_stop', index: 0 }),
      event({
        type: 'message_delta',
        delta: { stop_reason: 'end_turn', stop_sequence: null },
        usage: { output_tokens: call.outputTokens },
      }),
      event({ type: 'message_stop' }),
    ])
  }

  function sendJson(response: ServerResponse, wishes: ReadonlyMap<string, string>, json: object): void {
    const body = Buffer.from(JSON.stringify(json))
    response.setHeader('content-type', 'application/json')
    if (wishes.has('gzip')) response.setHeader('content-encoding', 'gzip')
    const sent = wishes.has('gzip') ? gzipSync(body) : body
    bytesWritten += sent.length
    response.end(sent)
  }

  async function sendStream(
    response: ServerResponse,
    wishes: ReadonlyMap<string, string>,
    events: readonly string[],
  ): Promise<void> {
    response.setHeader('content-type', 'text/event-stream; charset=utf-8')
    const slowMs = Number(wishes.get('slow') ?? 0)
    const bytes = events.flatMap((event) =>
      wishes.has('split') ? pieces(Buffer.from(event)) : [Buffer.from(event)],
    )
    const middle = Math.floor(bytes.length / 2)
    for (const [index, piece] of bytes.entries()) {
      if (wishes.has('drop') && index === middle) {
        response.destroy()
        return
      }
      if (response.destroyed) return
      bytesWritten += piece.length
      if (!response.write(piece)) await drained(response)
      if (slowMs > 0 || wishes.has('drop') || wishes.has('split')) await delay(slowMs)
    }
    response.end()
  }

  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(port, '127.0.0.1', resolve)
  await promise
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the fake provider has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    billed,
    bytesWritten: () => bytesWritten,
    async close() {
      const closed = Promise.withResolvers<void>()
      server.close(() => closed.resolve())
      server.closeAllConnections()
      await closed.promise
    },
  }
}

/** A token for every four characters of input, and as many words as `max_tokens` allows. */
function usageOf(request: FakeRequest, wishes: ReadonlyMap<string, string>) {
  const cachedTokens = Number(wishes.get('cached') ?? 0)
  const reasoningTokens = Number(wishes.get('reasoning') ?? 0)
  const characters = JSON.stringify(request.messages).length
  return {
    inputTokens: Math.ceil(characters / 4) + cachedTokens,
    cachedTokens,
    outputTokens: Math.min(request.max_tokens ?? WORDS.length, 100_000) + reasoningTokens,
    reasoningTokens,
  }
}

function wordsOf(call: Billed): string[] {
  return Array.from(
    { length: call.outputTokens - call.reasoningTokens },
    (_, index) => WORDS[index % WORDS.length] ?? '',
  )
}

function fail(response: ServerResponse, provider: Billed['provider'], status: number, type: string): void {
  const error = { type, message: `fake ${status}` }
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(provider === 'openai' ? { error } : { type: 'error', error }))
}

function wishesOf(header: string | string[] | undefined): ReadonlyMap<string, string> {
  const text = typeof header === 'string' ? header : ''
  return new Map(
    text
      .split(';')
      .filter((wish) => wish !== '')
      .map((wish) => {
        const [name = '', value = ''] = wish.split('=')
        return [name.trim(), value.trim()]
      }),
  )
}

/** Pieces of seven bytes: inside lines, inside words and inside characters of several bytes. */
function pieces(bytes: Buffer): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / 7) }, (_, index) =>
    bytes.subarray(index * 7, index * 7 + 7),
  )
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString('utf8')
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function drained(response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  response.once('drain', resolve)
  response.once('close', resolve)
  return promise
}
