import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exchange, type Reading, transcriptNames, usageLike } from '../test/exchange.ts'
import {
  expectGoodCounts,
  expectNoByteLost,
  expectUntouched,
  JSON_TYPE,
  passTranscript,
  utf8,
} from '../test/untouched.ts'
import { readOpenaiEmbeddings } from './openai-embeddings.ts'

const readerOf = (bodyText: string | undefined = '{"model":"text-embedding-3-small","input":["a","b"]}') =>
  readOpenaiEmbeddings({ bodyText, injectStreamUsage: true })

const countsIn = (usage: object, name: string) => typeof Reflect.get(usage, name) === 'number'

describe('embeddings', () => {
  it.each<[name: string, quantities: Record<string, number>, rest: Partial<Reading>]>([
    ['plain', { input_tokens: 8 }, { responseModel: 'text-embedding-3-small' }],
    ['many', { input_tokens: 4711 }, { responseModel: 'text-embedding-3-large' }],
    ['azure', { input_tokens: 5 }, { responseModel: 'text-embedding-ada-002' }],
    [
      'mistral',
      { input_tokens: 14 },
      { responseModel: 'mistral-embed', responseId: '0de2b4ffe4ad4b7089e1e5b1d4d3a3b1' },
    ],
  ])('%s', (name, quantities, rest) => {
    const { result } = passTranscript(readerOf(), `openai-embeddings/${name}.json`)
    expect(result).toMatchObject({ isComplete: true, isStreamed: false, outputText: '', ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
  })

  it('that failed count nothing', () => {
    const { result } = passTranscript(readerOf(), 'openai-embeddings/error-400.json', 400)
    expect(result).toEqual({
      isComplete: true,
      isStreamed: false,
      errorType: 'invalid_request_error',
      outputText: '',
    })
  })

  it.each<[what: string, usage: object, expected: Partial<Reading>]>([
    [
      'contradict their total',
      { prompt_tokens: 8, total_tokens: 9 },
      { quantities: { input_tokens: 8 }, mismatch: 'total_tokens is 9, its parts add up to 8' },
    ],
    ['have no total', { prompt_tokens: 8 }, { quantities: { input_tokens: 8 } }],
    ['have no number', { prompt_tokens: '8', total_tokens: 8 }, { reason: 'invalid_usage' }],
  ])('that %s', (_, usage, expected) => {
    const bytes = utf8(JSON.stringify({ usage }))
    const { result } = exchange(readerOf(), { bytes, contentType: JSON_TYPE })
    const { vendorUsage, ...read } = result
    expect(read).toEqual({ isComplete: true, isStreamed: false, outputText: '', ...expected })
    expect(Object.keys(vendorUsage ?? {})).toEqual(Object.keys(usage).filter((name) => countsIn(usage, name)))
  })

  it('name the model that was asked for, or that of the URL, and give the text for an estimate', () => {
    expect(readerOf().requestedModel).toBe('text-embedding-3-small')
    expect(readerOf().promptText()).toBe('a\nb\n')
    const onAzure = readOpenaiEmbeddings({
      model: 'my-ada',
      bodyText: '{"input":"a"}',
      injectStreamUsage: true,
    })
    expect(onAzure.requestedModel).toBe('my-ada')
  })

  it.each(transcriptNames('openai-embeddings', '.json'))('%s is untouched, cut anywhere', (name) => {
    expectUntouched(readerOf, name)
  })

  it('whatever a provider sends', () => {
    const usage = usageLike({ prompt_tokens: null, total_tokens: null, completion_tokens: null })
    expectGoodCounts(readerOf, fc.oneof(fc.record({ usage, model: fc.jsonValue() }), fc.jsonValue()))
    expectNoByteLost((bodyText) => readOpenaiEmbeddings({ bodyText, injectStreamUsage: true }))
  })
})
