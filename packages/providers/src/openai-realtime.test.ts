import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { badCounts, transcript, usageLike } from '../test/exchange.ts'
import { realtimeUsage } from './openai-realtime.ts'

describe('a realtime response', () => {
  it('has its usage in the event that ends it', () => {
    const event: unknown = JSON.parse(
      Buffer.from(transcript('openai-realtime/response-done.json')).toString(),
    )
    expect(realtimeUsage(event)).toMatchObject({
      responseId: 'resp_R0001',
      isComplete: true,
      quantities: {
        input_tokens: 132,
        cache_read_tokens: 64,
        audio_input_tokens: 13,
        output_tokens: 121,
        audio_output_tokens: 91,
      },
      vendorUsage: { total_tokens: 253 },
    })
    expect(realtimeUsage(event)).not.toHaveProperty('mismatch')
  })

  it.each([
    [undefined],
    ['response.done'],
    [{ type: 'response.created', response: { usage: { input_tokens: 1, output_tokens: 1 } } }],
    [{ type: 'response.done', response: { usage: null } }],
  ])('is nothing else: %j', (event) => {
    expect(realtimeUsage(event)).toBeUndefined()
  })

  it('has good counts, whatever comes', () => {
    const usage = usageLike({
      input_tokens: null,
      output_tokens: null,
      total_tokens: null,
      input_token_details: ['audio_tokens', 'cached_tokens', 'cached_tokens_details'],
      output_token_details: ['audio_tokens'],
    })
    fc.assert(
      fc.property(usage, (reported) => {
        const read = realtimeUsage({ type: 'response.done', response: { usage: reported } })
        if (read !== undefined) expect(badCounts(read)).toEqual([])
      }),
    )
  })
})
