import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exchange, transcriptNames, usageLike } from '../test/exchange.ts'
import {
  expectGoodCounts,
  expectNoByteLost,
  expectUntouched,
  JSON_TYPE,
  passTranscript,
  utf8,
} from '../test/untouched.ts'
import { readCohere } from './cohere.ts'

const readerOf = (bodyText: string | undefined = '{"model":"command-a-03-2025"}') =>
  readCohere({ bodyText, injectStreamUsage: true })

describe('answers', () => {
  it.each<[name: string, quantities: Record<string, number> | undefined, rest: object]>([
    // 71 tokens with Cohere's template, 5 of them billed; no more than these can be cached ones.
    [
      'chat.json',
      { input_tokens: 5, output_tokens: 418, cache_read_tokens: 5 },
      {
        isStreamed: false,
        responseId: 'c14c80c3-18eb-4519-9460-6c92edd8cfb4',
        outputText: 'Hm. Counted – 数えた 🙂.',
      },
    ],
    [
      'chat-tools.json',
      { input_tokens: 40, output_tokens: 18 },
      { outputText: 'I will look. get_weather{"city":"Paris"}' },
    ],
    [
      'chat.sse',
      { input_tokens: 5, output_tokens: 418, cache_read_tokens: 5 },
      {
        isStreamed: true,
        responseId: '29f14a5a',
        outputText: 'Counted – naïve, "message-end" 数えた 🙂.',
      },
    ],
    [
      'chat-tools.sse',
      { input_tokens: 40, output_tokens: 18 },
      { outputText: 'I will look. get_weather{"city":"Paris"}' },
    ],
    [
      'chat-cut.sse',
      undefined,
      { isComplete: false, outputText: 'Counted – naïve, "message-end" 数えた 🙂.' },
    ],
    ['chat-error.sse', undefined, { errorType: 'error', outputText: 'Counted – naïve' }],
    ['embed.json', { input_tokens: 2 }, {}],
    ['embed-images.json', { input_tokens: 1023, image_input_tokens: 1020 }, {}],
    ['embed-pictures.json', { images: 1 }, {}],
    ['rerank.json', { search_units: 2 }, { responseId: 'r1' }],
  ])('%s', (name, quantities, rest) => {
    const { result } = passTranscript(readerOf(), `cohere/${name}`)
    expect(result).toMatchObject({ isComplete: true, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    if (!('errorType' in rest)) expect(result).not.toHaveProperty('errorType')
  })

  it('that fail count nothing and have a name', () => {
    const { result } = passTranscript(readerOf(), 'cohere/error-429.json', 429)
    expect(result).toEqual({ isComplete: true, isStreamed: false, errorType: 'http_429', outputText: '' })
  })

  it.each<[what: string, usage: object, quantities: Record<string, number> | undefined]>([
    ['only tokens', { tokens: { input_tokens: 9, output_tokens: 3 } }, { input_tokens: 9, output_tokens: 3 }],
    ['one side missing is not zero', { billed_units: { output_tokens: 3 } }, { output_tokens: 3 }],
    ['no counts', { billed_units: { input_tokens: '9', output_tokens: -3, search_units: 0.5 } }, undefined],
    ['nothing', {}, undefined],
  ])('with %s', (_, usage, quantities) => {
    const bytes = utf8(JSON.stringify({ usage }))
    expect(exchange(readerOf(), { bytes, contentType: JSON_TYPE }).result.quantities).toEqual(quantities)
  })

  it.each([...transcriptNames('cohere', '.json'), ...transcriptNames('cohere', '.sse')])(
    '%s arrives byte for byte and reads the same, cut anywhere',
    (name) => expectUntouched(readerOf, name),
  )
})

describe('the request', () => {
  it.each([
    ['chat', { messages: [{ role: 'user', content: 'Hi' }], documents: ['Doc'] }, 'user\nHi\nDoc\n'],
    ['embed', { texts: ['One', 'Two'], images: ['data:image/png;base64,AAAA'] }, 'One\nTwo\n'],
    ['rerank', { query: 'Which', documents: ['One', 'Two'] }, 'One\nTwo\nWhich\n'],
  ])('of %s names the model and gives its text for an estimate', (_, request, text) => {
    const reader = readerOf(JSON.stringify({ model: 'command-a-03-2025', ...request }))
    expect(reader.requestedModel).toBe('command-a-03-2025')
    expect(reader.rewrittenBody).toBeUndefined()
    expect(reader.promptText()).toBe(text)
  })
})

describe('whatever a provider sends', () => {
  const units = ['input_tokens', 'output_tokens', 'image_tokens', 'search_units', 'images', 'classifications']
  const usage = usageLike({ billed_units: units, tokens: units, cached_tokens: null })
  const value = fc.jsonValue({ maxDepth: 3 })

  it('as JSON, counts are good and nothing is thrown', () => {
    const answer = fc.record(
      { usage, meta: usage, message: value, id: value, error: value },
      { requiredKeys: ['usage'] },
    )
    const end = fc.record({
      type: fc.constantFrom('message-end', 'message-start'),
      delta: fc.record({ usage, finish_reason: value }),
    })
    expectGoodCounts(readerOf, fc.oneof(answer, end, value))
  })

  it('as bytes, nothing is thrown and no byte is lost', () => expectNoByteLost(readerOf))
})
