import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eventHeaders, eventStream, message } from '../test/aws-event-stream.ts'
import {
  badCounts,
  cutsOf,
  everyCut,
  exchange,
  type Reading,
  textOf,
  transcript,
  transcriptNames,
  usageLike,
} from '../test/exchange.ts'
import { readBedrockConverse } from './bedrock-converse.ts'

const STREAM = 'application/vnd.amazon.eventstream'
const CLAUDE = 'us.anthropic.claude-sonnet-4-5-20250929-v1:0'
const ROUTER = 'arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1'

const readerOf = (model: string = CLAUDE, bodyText?: string) =>
  readBedrockConverse({ model, bodyText, injectStreamUsage: true })
const events = (name: string) => eventStream(Buffer.from(transcript(name)).toString('utf8'))
const plain = (bytes: Uint8Array, status = 200, cuts: readonly number[] = [], model = CLAUDE) =>
  exchange(readerOf(model), { bytes, status, contentType: 'application/json', cuts })
const streamed = (bytes: Uint8Array, cuts: readonly number[] = [], model = CLAUDE) =>
  exchange(readerOf(model), { bytes, contentType: STREAM, cuts })

type Row = [
  name: string,
  quantities: Record<string, number> | undefined,
  rest: Partial<Reading>,
  model?: string,
]
const CACHED = {
  input_tokens: 560 + 500 + 140,
  output_tokens: 33,
  cache_read_tokens: 500,
  cache_write_tokens: 140,
}

describe('plain answers', () => {
  it.each<Row>([
    ['plain', { input_tokens: 30, output_tokens: 628 }, { outputText: 'Bonjour, 東京 !' }],
    // The cache stands beside the input, whatever the total says.
    ['cached', { ...CACHED, cache_write_1h_tokens: 40 }, { serviceTier: 'default' }],
    [
      'cached-total-without-cache',
      { input_tokens: 510, output_tokens: 3, cache_read_tokens: 500 },
      { outputText: 'Short.' },
    ],
    [
      'tool-use',
      { input_tokens: 421, output_tokens: 57 },
      { outputText: 'Which city?I will look.weather{"city":"Paris"}' },
    ],
    // Fast answers have prices of their own; behind a router only the answer tells the model.
    [
      'routed-optimized',
      { input_tokens: 8, output_tokens: 2 },
      { serviceTier: 'optimized', responseModel: 'us.amazon.nova-pro-v1:0' },
      ROUTER,
    ],
  ])('%s', (name, quantities, rest, model) => {
    const bytes = transcript(`bedrock-converse/${name}.json`)
    const { seen, result } = plain(bytes, 200, [], model)
    expect(result).toMatchObject({ isComplete: true, isStreamed: false, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it('the model of the request is the one that prices are for', () => {
    expect(plain(transcript('bedrock-converse/routed-optimized.json')).result).not.toHaveProperty(
      'responseModel',
    )
    expect(readerOf().requestedModel).toBe(CLAUDE)
  })

  it.each<[what: string, header: string | null, body: string, errorType: string]>([
    [
      'named in a header',
      'ThrottlingException:http://internal.amazon.com/coral/',
      '{}',
      'ThrottlingException',
    ],
    ['named in the body', null, '{"__type":"com.amazon.coral#ValidationException"}', 'ValidationException'],
    [
      'without a name',
      null,
      Buffer.from(transcript('bedrock-converse/error-429.json')).toString(),
      'http_429',
    ],
    ['without a body', null, '', 'http_429'],
  ])('a failure %s counts nothing', (_, header, body, errorType) => {
    const reader = readerOf()
    reader.respond(429, (name) => (name === 'x-amzn-errortype' ? header : null))
    reader.push(Buffer.from(body))
    reader.end()
    expect(reader.result()).toEqual({ isComplete: body !== '', isStreamed: false, errorType })
  })

  it('one that was cut gives the text that came', () => {
    const { result } = plain(
      Buffer.from('{"output":{"message":{"role":"assistant","content":[{"text":"Half an ans'),
    )
    expect(result).toMatchObject({
      outputText: 'Half an ans',
      isComplete: false,
      reason: 'unreadable_body',
    })
  })

  it('a total that fits neither way of adding up is a mismatch, and the parts are counted', () => {
    const usage = { inputTokens: 10, outputTokens: 5, cacheReadInputTokens: 3, totalTokens: 17 }
    const { result } = plain(Buffer.from(JSON.stringify({ usage })))
    expect(result.quantities).toEqual({ input_tokens: 13, output_tokens: 5, cache_read_tokens: 3 })
    expect(result.mismatch).toBe('totalTokens is 17, but the parts add up to 15, with the cache to 18')
  })

  it.each(transcriptNames('bedrock-converse', '.json'))('%s is the same whichever way it is cut', (name) => {
    const bytes = transcript(name)
    const { result } = plain(bytes)
    for (const cuts of everyCut(bytes.length)) {
      expect(textOf(plain(bytes, 200, cuts))).toBe(textOf({ seen: Buffer.from(bytes), result }))
    }
  })
})

describe('streams', () => {
  it.each<Row>([
    ['stream', { input_tokens: 30, output_tokens: 12 }, { isComplete: true, outputText: 'Bonjour, 東京 !' }],
    [
      'stream-cached-tool',
      CACHED,
      { isComplete: true, serviceTier: 'flex', outputText: 'Which city?weather{"city":"Paris"}' },
    ],
    [
      'stream-openai-cache-inside',
      { input_tokens: 4995, output_tokens: 19, cache_write_tokens: 4993 },
      { isComplete: true },
      'openai.gpt-5.6-sol',
    ],
    // The same numbers of any other model mean what the reference says.
    [
      'stream-openai-cache-inside',
      { input_tokens: 9988, output_tokens: 19, cache_write_tokens: 4993 },
      { isComplete: true },
    ],
    ['stream-exception', undefined, { isComplete: false, errorType: 'modelStreamErrorException' }],
    ['stream-cut', undefined, { isComplete: false, outputText: 'Half an' }],
  ])('%s', (name, quantities, rest, model) => {
    const bytes = events(`bedrock-converse/${name}.events`)
    const { seen, result } = streamed(bytes, [], model)
    expect(result).toMatchObject({ isStreamed: true, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(seen).toEqual(Buffer.from(bytes))
  })

  it.each(transcriptNames('bedrock-converse', '.events'))(
    '%s is the same whichever way it is cut',
    (name) => {
      const bytes = events(name)
      const { result } = streamed(bytes)
      for (const cuts of everyCut(bytes.length)) {
        expect(textOf(streamed(bytes, cuts))).toBe(textOf({ seen: Buffer.from(bytes), result }))
      }
    },
  )

  it('a damaged event is marked, and the rest counts', () => {
    const bytes = events('bedrock-converse/stream.events')
    bytes[20] = 0
    expect(streamed(bytes).result).toMatchObject({
      quantities: { input_tokens: 30, output_tokens: 12 },
      mismatch: 'the event stream is damaged',
    })
  })

  it('long answers keep a bounded text', () => {
    const reader = readerOf()
    reader.respond(200, () => STREAM)
    const delta = { contentBlockIndex: 0, delta: { text: 'x'.repeat(60_000) } }
    const bytes = message(eventHeaders('contentBlockDelta'), JSON.stringify(delta))
    for (let count = 0; count < 40; count++) reader.push(bytes)
    expect(reader.outputText().length).toBe(1_048_576)
  })
})

describe('anything else', () => {
  const keys = {
    inputTokens: null,
    outputTokens: null,
    totalTokens: null,
    cacheReadInputTokens: null,
    cacheWriteInputTokens: null,
    cacheDetails: ['0'],
  }
  it('any usage gives sound counts and untouched bytes', () => {
    fc.assert(
      fc.property(usageLike(keys), fc.boolean(), fc.infiniteStream(fc.nat(4000)), (usage, isStream, at) => {
        const text = JSON.stringify({ usage, serviceTier: usage, trace: { promptRouter: usage } })
        const bytes = isStream ? message(eventHeaders('metadata'), text) : Buffer.from(text)
        const cuts = [...at.take(8)].map((cut) => cut % (bytes.length + 1))
        const { seen, result } = isStream
          ? streamed(bytes, cuts, 'openai.gpt-5.4')
          : plain(bytes, 200, cuts, ROUTER)
        expect(badCounts(result)).toEqual([])
        expect(seen).toEqual(Buffer.from(bytes))
      }),
    )
  })

  it('any bytes pass untouched', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), cutsOf(200), fc.boolean(), (bytes, cuts, isStream) => {
        const at = cuts.map((cut) => Math.min(cut, bytes.length))
        const { seen, result } = isStream ? streamed(bytes, at) : plain(bytes, 200, at)
        expect(badCounts(result)).toEqual([])
        expect(seen).toEqual(Buffer.from(bytes))
      }),
    )
  })

  it('the text of the request is known for an estimate', () => {
    const body = JSON.stringify({
      system: [{ text: 'Be brief.' }],
      messages: [{ role: 'user', content: [{ text: 'Hi' }, { image: { source: { bytes: 'AAAA' } } }] }],
    })
    expect(readerOf(CLAUDE, body).promptText()).toBe('Be brief.\nuser\nHi\n')
  })
})
