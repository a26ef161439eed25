import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isVendorUsage, vendorUsageOf } from './vendor-usage.ts'

describe('a vendor usage', () => {
  it('keeps the numbers of a usage object and nothing else', () => {
    expect(
      vendorUsageOf({
        prompt_tokens: 10,
        service_tier: 'the prompt in the wrong place',
        prompt_tokens_details: { cached_tokens: 4, note: 'text', nothing: null },
        empty: {},
        cost: 0.000125,
      }),
    ).toEqual({ prompt_tokens: 10, prompt_tokens_details: { cached_tokens: 4 }, cost: 0.000125 })
  })

  it('keeps entries of an array under their modality, else their position', () => {
    expect(
      vendorUsageOf({
        promptTokensDetails: [
          { modality: 'TEXT', tokenCount: 3 },
          { modality: 'AUDIO', tokenCount: 25 },
        ],
        cacheDetails: [{ ttl: '1h', inputTokens: 7 }],
      }),
    ).toEqual({
      promptTokensDetails: { TEXT: { tokenCount: 3 }, AUDIO: { tokenCount: 25 } },
      cacheDetails: { 0: { inputTokens: 7 } },
    })
  })

  it.each([undefined, null, 'usage', 7, [], {}, { text: 'only' }])('is absent for %j', (usage) => {
    expect(vendorUsageOf(usage)).toBeUndefined()
  })

  it('of anything is within what the service takes', () => {
    fc.assert(
      fc.property(fc.anything({ maxDepth: 8, withNullPrototype: true }), (anything) => {
        const kept = vendorUsageOf(anything)
        expect(kept === undefined || isVendorUsage(kept)).toBe(true)
      }),
    )
  })

  it('is refused with text, without end, or with too many numbers', () => {
    expect(isVendorUsage({ tokens: '7' })).toBe(false)
    expect(isVendorUsage({ tokens: Number.NaN })).toBe(false)
    expect(isVendorUsage({ 'the whole prompt as a name': 1 })).toBe(false)
    expect(isVendorUsage(Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`n${i}`, i])))).toBe(false)
    expect(isVendorUsage({ a: { b: { c: { d: { e: { f: { g: 1 } } } } } } })).toBe(false)
  })
})
