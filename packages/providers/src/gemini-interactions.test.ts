import { describe, expect, it } from 'vitest'
import { transcriptNames } from '../test/exchange.ts'
import { expectUntouched, passTranscript } from '../test/untouched.ts'
import { readGeminiInteractions } from './gemini-interactions.ts'

const readerOf = () =>
  readGeminiInteractions({
    bodyText: '{"model":"gemini-3-flash","input":"Count"}',
    injectStreamUsage: true,
  })

/** Thoughts and what tools brought are beside output and input. */
const COUNTS = {
  input_tokens: 1260,
  cache_read_tokens: 1024,
  output_tokens: 52,
  reasoning_tokens: 32,
  web_search_requests: 2,
}

describe('interactions', () => {
  it.each<[name: string, quantities: object | undefined, rest: object]>([
    ['plain.json', COUNTS, { isComplete: true, responseId: 'v1_Interaction0001' }],
    // Its usage stands in three events: the last one counts.
    ['stream.sse', COUNTS, { isComplete: true, isStreamed: true, responseModel: 'gemini-3-flash' }],
    ['stream-cut.sse', undefined, { isComplete: false, outputText: 'Counted – naïve, 数えた 🙂.' }],
    ['background.json', undefined, { isPending: true, isComplete: false }],
    ['failed.json', undefined, { errorType: 'failed' }],
  ])('%s', (name, quantities, rest) => {
    const { result } = passTranscript(readerOf(), `gemini-interactions/${name}`)
    expect(result).toMatchObject(rest)
    expect(result.quantities).toEqual(quantities)
    expect(result).not.toHaveProperty('mismatch')
  })

  it('that fail count nothing', () => {
    const { result } = passTranscript(readerOf(), 'gemini-interactions/error-429.json', 429)
    expect(result).toMatchObject({ errorType: 'too_many_requests' })
    expect(result).not.toHaveProperty('quantities')
  })

  it.each(transcriptNames('gemini-interactions', ''))('%s is untouched, cut anywhere', (name) =>
    expectUntouched(readerOf, name),
  )
})
