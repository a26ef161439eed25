import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Answer, badCounts, exchange, transcriptNames, usageLike } from '../test/exchange.ts'
import {
  expectGoodCounts,
  expectNoByteLost,
  expectUntouched,
  JSON_TYPE,
  passTranscript,
  STREAM,
  utf8,
} from '../test/untouched.ts'
import { readGemini } from './gemini.ts'

const readerOf = (bodyText: string | undefined = '{"contents":[]}') =>
  readGemini({ model: 'gemini-2.5-flash', bodyText, injectStreamUsage: true })
const read = (answer: Answer) => exchange(readerOf(), answer).result

/** Counts as a row of a table: all input, all output, then the parts. */
function counts(input_tokens: number, output_tokens: number, parts: Record<string, number> = {}) {
  return { input_tokens, output_tokens, ...parts }
}

const TEXT = 'Counted – naïve, 数えた 🙂.'

describe('answers', () => {
  it.each<[name: string, quantities: Record<string, number>, rest: object]>([
    [
      'plain.json',
      counts(8, 12),
      {
        isStreamed: false,
        responseModel: 'gemini-2.5-flash',
        responseId: 'mAcjaZ7tLdSxvdIP0aXy4QU',
        serviceTier: 'standard',
        outputText: TEXT,
      },
    ],
    // Thoughts are beside the candidates: 5 + 1000.
    [
      'thoughts.json',
      counts(31, 1005, { reasoning_tokens: 1000 }),
      { responseModel: 'gemini-2.5-pro', outputText: 'Let me think.42' },
    ],
    // 1200 of the audio came from the cache, 300 did not.
    [
      'cached-audio.json',
      counts(5000, 3, {
        cache_read_tokens: 4000,
        audio_input_tokens: 300,
        audio_cache_read_tokens: 1200,
        image_input_tokens: 500,
      }),
      {},
    ],
    // Results of tools are beside the prompt: 60 + 120.
    [
      'tool-use.json',
      counts(180, 94, { reasoning_tokens: 80 }),
      { outputText: 'get_weather{"city":"東京"}' },
    ],
    ['image.json', counts(266, 1300, { image_input_tokens: 258, image_output_tokens: 1290 }), {}],
    // Two queries, one prompt.
    ['search-2.5.json', counts(9, 2, { web_search_requests: 1 }), {}],
    // Empty queries are free, a repeated one is paid once.
    ['search-3.json', counts(9, 2, { web_search_requests: 2 }), {}],
    ['blocked.json', counts(17, 0), { outputText: '' }],
    ['vertex-flex.json', counts(4, 1), { serviceTier: 'on_demand_flex' }],
    ['vertex-provisioned.json', counts(4, 1), { serviceTier: 'provisioned_throughput' }],
    // Running totals: the last piece counts.
    ['stream.sse', counts(8, 12), { isStreamed: true, outputText: TEXT }],
    ['stream-array.json', counts(8, 12), { isStreamed: true, outputText: TEXT }],
    ['gateway-lf-bom.sse', counts(8, 12), { isStreamed: true, outputText: TEXT }],
    [
      'stream-thoughts.sse',
      counts(31, 1005, { reasoning_tokens: 1000, cache_read_tokens: 20 }),
      { outputText: 'Let me think.42' },
    ],
    [
      'stream-array-thoughts.json',
      counts(31, 1005, { reasoning_tokens: 1000, cache_read_tokens: 20 }),
      { outputText: 'Let me think.42' },
    ],
    ['stream-search.sse', counts(9, 2, { web_search_requests: 2 }), {}],
    ['vertex-stream.sse', counts(8, 12), { serviceTier: 'on_demand', outputText: 'Counted naïve.' }],
    // What came until then has its count.
    ['stream-cut.sse', counts(8, 9), { isComplete: false, outputText: 'Counted – naïve, 数えた' }],
    [
      'stream-array-cut.json',
      counts(8, 9),
      { isComplete: false, isStreamed: true, outputText: 'Counted – naïve, 数えた' },
    ],
    // Vertex counts the output with the last piece only: until then it is unknown.
    ['vertex-stream-cut.sse', { input_tokens: 8 }, { isComplete: false, outputText: 'Counted naïve' }],
    ['stream-error.sse', counts(8, 4), { isComplete: false, errorType: 'UNAVAILABLE' }],
  ])('%s', (name, quantities, rest) => {
    const { result } = passTranscript(readerOf(), `gemini/${name}`)
    expect(result).toMatchObject({ isComplete: true, ...rest })
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
    if (!('errorType' in rest)) expect(result).not.toHaveProperty('errorType')
  })

  it('whose total is another sum are marked', () => {
    const { result } = passTranscript(readerOf(), 'gemini/total-differs.json')
    expect(result.quantities).toEqual(counts(4, 1))
    expect(result.mismatch).toContain('totalTokenCount is 9')
    expect(result.mismatch).toContain('add up to 5')
  })

  it.each([
    ['error-429.json', 429, 'RESOURCE_EXHAUSTED', false],
    ['error-400.json', 400, 'INVALID_ARGUMENT', false],
    ['stream-array-error-429.json', 429, 'RESOURCE_EXHAUSTED', true],
  ])('%s counts nothing and has a name', (name, status, errorType, isStreamed) => {
    const { result } = passTranscript(readerOf(), `gemini/${name}`, status)
    expect(result).toMatchObject({ isComplete: true, isStreamed, errorType })
    expect(result).not.toHaveProperty('quantities')
  })

  it.each<[what: string, body: string, status: number, expected: object]>([
    ['a proxy’s page', '<html>{"a":1}</html>', 502, { isComplete: false, errorType: 'http_502' }],
    ['an empty error', '', 503, { isComplete: false, errorType: 'http_503' }],
    ['an error without a name', '{"error":"no"}', 404, { isComplete: true, errorType: 'http_404' }],
    ['an error with status 200', '{"error":{}}', 200, { isComplete: true, errorType: 'error' }],
    [
      'half a body',
      '{"usageMetadata":{"promptTokenCount":5},',
      200,
      { isComplete: false, reason: 'unreadable_body' },
    ],
    ['an empty array', '[]', 200, { isComplete: false, isStreamed: true }],
    ['nothing', '', 200, { isComplete: false, reason: 'unreadable_body' }],
  ])('%s', (_, body, status, expected) => {
    const result = read({ bytes: utf8(body), status, contentType: JSON_TYPE })
    expect(result).toEqual({ isStreamed: false, outputText: '', ...expected })
  })

  it.each([...transcriptNames('gemini', '.json'), ...transcriptNames('gemini', '.sse')])(
    '%s arrives byte for byte and reads the same, cut anywhere',
    (name) => expectUntouched(readerOf, name),
  )
})

describe('usage', () => {
  it.each<[what: string, usage: object, quantities: Record<string, number> | undefined]>([
    ['zeros are left out on the wire', { promptTokenCount: 3 }, counts(3, 0)],
    [
      'an answer of thoughts alone',
      { promptTokenCount: 3, thoughtsTokenCount: 7 },
      counts(3, 7, { reasoning_tokens: 7 }),
    ],
    ['no prompt is not zero', { candidatesTokenCount: 4 }, { output_tokens: 4 }],
    ['a count as text is none', { promptTokenCount: 3, candidatesTokenCount: '4' }, { input_tokens: 3 }],
    ['negative counts are none', { promptTokenCount: -3, candidatesTokenCount: -4 }, undefined],
    [
      'a sum that is not exact is none',
      { promptTokenCount: Number.MAX_SAFE_INTEGER, toolUsePromptTokenCount: 1, candidatesTokenCount: 4 },
      { output_tokens: 4 },
    ],
    ['nothing reported', {}, undefined],
    [
      'audio that may be cached is inside what is',
      {
        promptTokenCount: 10,
        cachedContentTokenCount: 8,
        candidatesTokenCount: 1,
        promptTokensDetails: [{ modality: 'AUDIO', tokenCount: 10 }],
      },
      counts(10, 1, { cache_read_tokens: 8, audio_input_tokens: 2 }),
    ],
  ])('%s', (_, usageMetadata, quantities) => {
    const bytes = utf8(JSON.stringify({ usageMetadata }))
    expect(read({ bytes, contentType: JSON_TYPE }).quantities).toEqual(quantities)
  })
})

describe('the request', () => {
  it('is never rewritten, and gives its text for an estimate', () => {
    const reader = readerOf(
      JSON.stringify({
        systemInstruction: { parts: [{ text: 'Be brief' }] },
        contents: [{ role: 'user', parts: [{ text: 'Look' }, { inlineData: { data: 'AAAA' } }] }],
      }),
    )
    expect(reader.requestedModel).toBe('gemini-2.5-flash')
    expect(reader.rewrittenBody).toBeUndefined()
    expect(reader.promptText().split('\n')).toEqual(['Be brief', 'user', 'Look', ''])
  })
})

describe('whatever a provider sends', () => {
  const details = fc.array(
    fc.record({
      modality: fc.constantFrom('TEXT', 'AUDIO', 'IMAGE', 'VIDEO', 'DOCUMENT'),
      tokenCount: fc.oneof(fc.nat(100_000), fc.constantFrom(-1, 0.5, Number.MAX_SAFE_INTEGER)),
    }),
  )
  const usage = fc
    .tuple(
      usageLike({
        promptTokenCount: null,
        cachedContentTokenCount: null,
        candidatesTokenCount: null,
        thoughtsTokenCount: null,
        toolUsePromptTokenCount: null,
        totalTokenCount: null,
        trafficType: null,
        cacheTokensDetails: null,
      }),
      fc.record({
        promptTokensDetails: details,
        cacheTokensDetails: details,
        candidatesTokensDetails: details,
        toolUsePromptTokensDetails: details,
      }),
      fc.boolean(),
    )
    .map(([counted, detailed, isBoth]) =>
      isBoth && typeof counted === 'object' ? { ...detailed, ...counted } : counted,
    )
  const value = fc.jsonValue({ maxDepth: 3 })
  const piece = fc.record(
    {
      candidates: fc.oneof(value, fc.array(value)),
      usageMetadata: usage,
      promptFeedback: value,
      error: value,
    },
    { requiredKeys: ['usageMetadata'] },
  )

  it('as usage, counts are whole, exact and not negative', () => {
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 3 }), (pieces) => {
        const array = utf8(JSON.stringify(pieces))
        expect(badCounts(read({ bytes: array, contentType: JSON_TYPE }))).toEqual([])
        const events = utf8(pieces.map((json) => `data: ${JSON.stringify(json)}\n\n`).join(''))
        expect(badCounts(read({ bytes: events, contentType: STREAM }))).toEqual([])
      }),
      { numRuns: 2_000 },
    )
  })

  it('as JSON, nothing is thrown', () => expectGoodCounts(readerOf, fc.oneof(value, piece, fc.array(piece))))

  it('as bytes, nothing is thrown and no byte is lost', () => expectNoByteLost(readerOf))

  it('or an application nests ten thousand levels deep, nothing is thrown', () => {
    const deep = `${'['.repeat(10_000)}"x"${']'.repeat(10_000)}`
    const answer = `{"candidates":[{"content":{"parts":[{"functionCall":{"args":${deep}}}]}}],"usageMetadata":{"promptTokenCount":3}}`
    expect(read({ bytes: utf8(answer), contentType: JSON_TYPE }).quantities).toEqual(counts(3, 0))
    expect(readerOf(`{"contents":${deep}}`).promptText()).toBeTypeOf('string')
  })
})
