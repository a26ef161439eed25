import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { transcriptNames, usageLike } from '../test/exchange.ts'
import { expectGoodCounts, expectNoByteLost, expectUntouched, passTranscript } from '../test/untouched.ts'
import { readGeminiEmbeddings } from './gemini-embeddings.ts'

const readerOf = (bodyText: string | undefined = '{}') =>
  readGeminiEmbeddings({ model: 'gemini-embedding-001', bodyText, injectStreamUsage: true })

describe('embeddings', () => {
  it.each<[name: string, quantities: Record<string, number> | undefined]>([
    // The Gemini API says nothing of older models: the input has to be estimated.
    ['gemini.json', undefined],
    ['gemini-usage.json', { input_tokens: 11 }],
    ['vertex.json', { input_tokens: 4 + 2048 }],
  ])('%s', (name, quantities) => {
    const { result } = passTranscript(readerOf(), `gemini-embeddings/${name}`)
    expect(result).toMatchObject({ isComplete: true, isStreamed: false, outputText: '' })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('reason')
  })

  it('that fail count nothing', () => {
    const { result } = passTranscript(readerOf(), 'gemini-embeddings/error-429.json', 429)
    expect(result).toMatchObject({ isComplete: true, errorType: 'http_429' })
    expect(result).not.toHaveProperty('quantities')
  })

  it.each(transcriptNames('gemini-embeddings', '.json'))('%s arrives byte for byte, cut anywhere', (name) =>
    expectUntouched(readerOf, name),
  )

  it.each([
    ['one', { content: { parts: [{ text: 'One' }] } }, 'One\n'],
    ['many', { requests: [{ content: { parts: [{ text: 'One' }] } }] }, 'One\n'],
    ['Vertex', { instances: [{ content: 'One' }, { content: 'Two' }] }, 'One\nTwo\n'],
  ])('have the text for an estimate: %s', (_, request, text) => {
    const reader = readerOf(JSON.stringify(request))
    expect(reader.requestedModel).toBe('gemini-embedding-001')
    expect(reader.promptText()).toBe(text)
  })
})

describe('whatever a provider sends', () => {
  it('counts are good, nothing is thrown and no byte is lost', () => {
    const value = fc.jsonValue({ maxDepth: 3 })
    const statistics = usageLike({ token_count: null })
    const predictions = fc.array(fc.oneof(value, fc.record({ embeddings: fc.record({ statistics }) })))
    const answer = fc.record(
      { usageMetadata: usageLike({ promptTokenCount: null }), predictions, error: value },
      { requiredKeys: [] },
    )
    expectGoodCounts(readerOf, fc.oneof(answer, value))
    expectNoByteLost(readerOf)
  })
})
