import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chunkEvent, eventHeaders, exceptionHeaders, message } from '../test/aws-event-stream.ts'
import {
  badCounts,
  chunksOf,
  cutsOf,
  everyCut,
  type Reading,
  transcript,
  transcriptNames,
  usageLike,
} from '../test/exchange.ts'
import { readBedrockInvoke } from './bedrock-invoke.ts'

const STREAM = 'application/vnd.amazon.eventstream'
const CLAUDE = 'eu.anthropic.claude-sonnet-4-5-20250929-v1:0'
const PROFILE = 'arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123'

interface Invocation {
  readonly bytes: Uint8Array
  readonly model: string
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly cuts?: readonly number[]
  readonly bodyText?: string
}

function invoke({ bytes, model, status = 200, headers = {}, cuts = [], bodyText }: Invocation) {
  const reader = readBedrockInvoke({ model, bodyText, injectStreamUsage: true })
  reader.respond(status, (name) => headers[name] ?? null)
  const seen: Uint8Array[] = []
  for (const chunk of chunksOf(bytes, cuts)) seen.push(new Uint8Array(reader.push(chunk)))
  seen.push(new Uint8Array(reader.end()))
  return { seen: Buffer.concat(seen), result: { ...reader.result(), outputText: reader.outputText() } }
}

/** Bedrock's own counts, as headers. */
function counts(input: number, output?: number, cacheRead?: number, cacheWrite?: number) {
  return {
    'x-amzn-bedrock-input-token-count': `${input}`,
    ...(output !== undefined && { 'x-amzn-bedrock-output-token-count': `${output}` }),
    ...(cacheRead !== undefined && { 'x-amzn-bedrock-cache-read-input-token-count': `${cacheRead}` }),
    ...(cacheWrite !== undefined && { 'x-amzn-bedrock-cache-write-input-token-count': `${cacheWrite}` }),
  }
}

const ANTHROPIC = {
  input_tokens: 560 + 500 + 140,
  output_tokens: 33,
  cache_read_tokens: 500,
  cache_write_tokens: 140,
  cache_write_1h_tokens: 40,
}
const NOVA = { input_tokens: 37, output_tokens: 5, cache_read_tokens: 20, cache_write_tokens: 7 }

describe('plain answers', () => {
  it.each<
    [
      name: string,
      model: string,
      headers: Readonly<Record<string, string>>,
      quantities: Record<string, number> | undefined,
      rest: Partial<Reading>,
    ]
  >([
    [
      'anthropic',
      CLAUDE,
      counts(560, 33, 500, 140),
      ANTHROPIC,
      { responseId: 'msg_bdrk_01X', outputText: 'Hi 東京' },
    ],
    ['anthropic', CLAUDE, {}, ANTHROPIC, {}],
    ['nova', 'us.amazon.nova-pro-v1:0', counts(10, 5, 20, 7), NOVA, { outputText: 'Hi from Nova' }],
    [
      'llama',
      'us.meta.llama3-3-70b-instruct-v1:0',
      counts(25, 6),
      { input_tokens: 25, output_tokens: 6 },
      { outputText: 'Hi from Llama' },
    ],
    [
      'titan',
      'amazon.titan-text-express-v1',
      counts(9, 7),
      { input_tokens: 9, output_tokens: 7 },
      { outputText: 'Hi Titan' },
    ],
    ['titan-embed', 'amazon.titan-embed-text-v2:0', counts(5), { input_tokens: 5 }, {}],
    [
      'openai',
      'openai.gpt-oss-120b-1:0',
      counts(70, 40),
      { input_tokens: 70, output_tokens: 40, cache_read_tokens: 16, reasoning_tokens: 21 },
      { outputText: 'Hi from gpt-oss' },
    ],
    // Bodies without counts: the headers have them.
    [
      'mistral',
      'mistral.mistral-large-2402-v1:0',
      counts(14, 4),
      { input_tokens: 14, output_tokens: 4 },
      { outputText: 'Hi from Mistral' },
    ],
    ['mistral', 'mistral.mistral-large-2402-v1:0', {}, undefined, { outputText: 'Hi from Mistral' }],
    ['cohere-embed', 'cohere.embed-english-v3', counts(1), { input_tokens: 1 }, {}],
    ['nova-canvas', 'amazon.nova-canvas-v1:0', {}, { images: 2 }, {}],
  ])('%s of %s', (name, model, headers, quantities, rest) => {
    const bytes = transcript(`bedrock-invoke/${name}.json`)
    const { seen, result } = invoke({ bytes, model, headers })
    expect(result).toMatchObject({ isComplete: true, isStreamed: false, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    expect(result).not.toHaveProperty('responseModel')
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it('only where the id hides the model, the answer names it', () => {
    const bytes = transcript('bedrock-invoke/anthropic.json')
    const { result } = invoke({
      bytes,
      model: PROFILE,
      bodyText: '{"anthropic_version":"bedrock-2023-05-31","messages":[]}',
    })
    expect(result).toMatchObject({ responseModel: 'claude-sonnet-4-5-20250929', quantities: ANTHROPIC })
  })

  it('two counts of one call that disagree are a mismatch', () => {
    const bytes = transcript('bedrock-invoke/llama.json')
    const { result } = invoke({ bytes, model: 'meta.llama3-8b-instruct-v1:0', headers: counts(25, 7) })
    expect(result.mismatch).toBe("the model's maker counts 6 output_tokens, Bedrock 7")
    expect(result.quantities).toEqual({ input_tokens: 25, output_tokens: 6 })
  })

  it('headers that are no counts are none', () => {
    const bytes = transcript('bedrock-invoke/mistral.json')
    for (const bad of ['-1', '1.5', 'many', '', '9'.repeat(30)]) {
      const headers = { 'x-amzn-bedrock-input-token-count': bad, 'x-amzn-bedrock-output-token-count': bad }
      expect(invoke({ bytes, model: 'mistral.x', headers }).result).not.toHaveProperty('quantities')
    }
  })

  it('the tier and the speed stand in headers', () => {
    const bytes = transcript('bedrock-invoke/llama.json')
    const tier = (headers: Record<string, string>) =>
      invoke({ bytes, model: 'meta.x', headers }).result.serviceTier
    const FAST = { 'x-amzn-bedrock-performanceconfig-latency': 'optimized' }
    expect(tier({})).toBeUndefined()
    expect(tier({ 'x-amzn-bedrock-service-tier': 'priority' })).toBe('priority')
    expect(tier(FAST)).toBe('optimized')
    expect(tier({ ...FAST, 'x-amzn-bedrock-service-tier': 'default' })).toBe('optimized')
    expect(tier({ 'x-amzn-bedrock-performanceconfig-latency': 'standard' })).toBeUndefined()
  })

  it.each([
    [CLAUDE, '{"id":"msg_1","type":"message","content":[{"type":"text","text":"Half an ans'],
    ['meta.x', '{"generation":"Half an ans'],
  ])('one of %s that was cut gives the text that came', (model, body) => {
    const { result } = invoke({ bytes: Buffer.from(body), model })
    expect(result).toMatchObject({
      outputText: 'Half an ans',
      isComplete: false,
      reason: 'unreadable_body',
    })
    expect(result.quantities).toBeUndefined()
  })

  it.each([CLAUDE, 'meta.x'])('a failure of %s counts nothing', (model) => {
    const headers = { 'x-amzn-errortype': 'ModelNotReadyException' }
    const bytes = Buffer.from('{"message":"no","usage":{"input_tokens":1,"output_tokens":1}}')
    expect(invoke({ bytes, model, status: 429, headers }).result).toEqual({
      isComplete: true,
      isStreamed: false,
      errorType: 'ModelNotReadyException',
      outputText: '',
    })
  })

  it.each(transcriptNames('bedrock-invoke', '.json'))('%s is the same whichever way it is cut', (name) => {
    const bytes = transcript(name)
    const model = name.includes('anthropic') ? CLAUDE : 'meta.x'
    const whole = JSON.stringify(invoke({ bytes, model }))
    for (const cuts of everyCut(bytes.length)) {
      expect(JSON.stringify(invoke({ bytes, model, cuts }))).toBe(whole)
    }
  })
})

const headers = { 'content-type': STREAM }
const streamOf = (name: string) =>
  Buffer.concat(
    Buffer.from(transcript(name))
      .toString('utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => chunkEvent(JSON.parse(line))),
  )

describe('streams', () => {
  const rows: [name: string, model: string, quantities: Record<string, number>, outputText: string][] = [
    ['anthropic-stream', CLAUDE, ANTHROPIC, 'Hi 東京'],
    ['nova-stream', 'us.amazon.nova-pro-v1:0', NOVA, 'Hi from Nova'],
    ['llama-stream', 'meta.llama3-8b-instruct-v1:0', { input_tokens: 25, output_tokens: 2 }, 'Hi Llama'],
  ]
  it.each(rows)('%s', (name, model, quantities, outputText) => {
    const bytes = streamOf(`bedrock-invoke/${name}.jsonl`)
    const { seen, result } = invoke({ bytes, model, headers })
    expect(result).toMatchObject({ isComplete: true, isStreamed: true, outputText })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    expect(seen).toEqual(bytes)
  })

  it.each(rows)(
    '%s is the same whichever way it is cut',
    (name, model) => {
      const bytes = streamOf(`bedrock-invoke/${name}.jsonl`)
      const whole = JSON.stringify(invoke({ bytes, model, headers }))
      for (const cuts of everyCut(bytes.length)) {
        expect(JSON.stringify(invoke({ bytes, model, headers, cuts }))).toBe(whole)
      }
    },
    60_000,
  )

  it('of a maker that counts nothing has Bedrock’s counts, cache and all', () => {
    const metrics = {
      inputTokenCount: 10,
      outputTokenCount: 4,
      cacheReadInputTokenCount: 6,
      cacheWriteInputTokenCount: 3,
    }
    const bytes = Buffer.concat([
      chunkEvent({ outputs: [{ text: 'Hi' }] }),
      chunkEvent({ 'amazon-bedrock-invocationMetrics': metrics }),
    ])
    expect(invoke({ bytes, model: 'mistral.x', headers }).result).toMatchObject({
      quantities: { input_tokens: 19, output_tokens: 4, cache_read_tokens: 6, cache_write_tokens: 3 },
      isComplete: true,
    })
  })

  it('that was cut has the input that came, and no output', () => {
    const start = JSON.parse(
      Buffer.from(transcript('bedrock-invoke/anthropic-stream.jsonl')).toString().split('\n')[0] ?? '',
    )
    const bytes = Buffer.concat([chunkEvent(start), message(exceptionHeaders('throttlingException'), '{}')])
    const { output_tokens: _, ...input } = ANTHROPIC
    expect(invoke({ bytes, model: CLAUDE, headers }).result).toMatchObject({
      isComplete: false,
      errorType: 'throttlingException',
      quantities: input,
    })
    expect(invoke({ bytes, model: CLAUDE, headers }).result.quantities).not.toHaveProperty('output_tokens')
  })
})

describe('anything else', () => {
  const keys = {
    inputTokens: null,
    outputTokens: null,
    cacheReadInputTokenCount: null,
    input_tokens: null,
    output_tokens: null,
    cache_read_input_tokens: null,
    prompt_tokens: null,
    completion_tokens: null,
    prompt_tokens_details: ['cached_tokens'],
    completion_tokens_details: ['reasoning_tokens'],
  }
  const metricKeys = {
    inputTokenCount: null,
    outputTokenCount: null,
    cacheReadInputTokenCount: null,
    cacheWriteInputTokenCount: null,
  }
  it('any usage gives sound counts and untouched bytes', () => {
    fc.assert(
      fc.property(
        usageLike(keys),
        usageLike(metricKeys),
        fc.constantFrom(CLAUDE, 'meta.x', PROFILE),
        fc.boolean(),
        (usage, metrics, model, isStream) => {
          const answer = {
            type: 'message_delta',
            usage,
            results: [metrics],
            generation_token_count: usage,
            'amazon-bedrock-invocationMetrics': metrics,
          }
          const bytes = isStream ? chunkEvent(answer) : Buffer.from(JSON.stringify(answer))
          const { seen, result } = invoke({ bytes, model, ...(isStream && { headers }) })
          expect(badCounts(result)).toEqual([])
          expect(seen).toEqual(bytes)
        },
      ),
    )
  })

  it('any bytes, and any chunk, pass untouched', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), cutsOf(200), fc.string(), (bytes, cuts, text) => {
        const stream = Buffer.concat([message(eventHeaders('chunk'), JSON.stringify({ bytes: text })), bytes])
        const { seen, result } = invoke({ bytes: stream, model: CLAUDE, headers, cuts })
        expect(badCounts(result)).toEqual([])
        expect(seen).toEqual(stream)
      }),
    )
  })
})
