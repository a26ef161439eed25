import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { buildPriceBook, decimal, decimalText, METERS, type PriceVersion, rate, ZERO } from '../index.ts'
import { isPartOfInput, marginalParts } from './marginal-tiers.ts'

const tiers = [
  { aboveInputTokens: 100, price: '2' },
  { aboveInputTokens: 1000, price: '3' },
]
const version: PriceVersion = {
  id: 'v',
  organizationId: null,
  provider: 'acme',
  model: 'm',
  match: { equals: 'm' },
  effectiveFromMs: null,
  rates: {
    input_tokens: { per: 1_000_000, price: '1', tiers, tierMode: 'marginal' },
    cache_read_tokens: { per: 1_000_000, price: '0.1' },
    output_tokens: { per: 1_000_000, price: '10', tiers: [{ aboveInputTokens: 100, price: '20' }] },
  },
  source: 'test',
  sequence: 1,
}
const book = buildPriceBook([version], 1)
const rated = (quantities: Record<string, number>, serviceTier?: string) =>
  rate(
    'o',
    {
      eventId: 'e',
      tsMs: 0,
      provider: 'acme',
      model: 'm',
      operation: 'chat',
      quantities,
      status: 'ok',
      streamed: false,
      estimated: false,
      ...(serviceTier !== undefined && { serviceTier }),
    },
    book,
  )
const lines = (quantities: Record<string, number>) =>
  rated(quantities).lines.map((line) => [line.meter, line.quantity, line.unitPriceUsd])

describe('marginal tiers', () => {
  it('price only what lies beyond a threshold; other meters keep their own way', () => {
    expect(lines({ input_tokens: 100 })).toEqual([['input_tokens', 100, '0.000001']])
    expect(lines({ input_tokens: 1500, output_tokens: 1 })).toEqual([
      ['input_tokens', 100, '0.000001'],
      ['input_tokens', 900, '0.000002'],
      ['input_tokens', 500, '0.000003'],
      ['output_tokens', 1, '0.00002'],
    ])
  })

  it('count from the beginning of the request, where the cached part stands', () => {
    expect(lines({ input_tokens: 300, cache_read_tokens: 150 })).toEqual([
      ['input_tokens', 150, '0.000002'],
      ['cache_read_tokens', 150, '0.0000001'],
    ])
  })

  it('are for parts of the input alone', () => {
    expect(['input_tokens', 'cache_write_1h_tokens'].map(isPartOfInput)).toEqual([true, true])
    expect(['output_tokens', 'reasoning_tokens', 'requests'].map(isPartOfInput)).toEqual([
      false,
      false,
      false,
    ])
  })

  it('of any request: every token has one price, the dearer the further, and the lines add up', () => {
    const inputs = Object.keys(METERS).filter(isPartOfInput)
    const unitPrice = (text: string) => ({ usd: decimal(text), text, units: Number.NaN })
    const one = unitPrice('1')
    const brackets = [
      { aboveInputTokens: 100, price: unitPrice('2') },
      { aboveInputTokens: 1000, price: unitPrice('3') },
    ]
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...inputs), fc.nat(2000)), (quantities) => {
        const parts = inputs.flatMap((meter) => marginalParts(meter, quantities, one, brackets))
        const total = Object.values(quantities).reduce((sum, quantity) => sum + quantity, 0)
        const at = (text: string) =>
          parts.filter(({ price }) => price.text === text).reduce((sum, { quantity }) => sum + quantity, 0)
        expect([at('1'), at('2'), at('3')]).toEqual([
          Math.min(total, 100),
          Math.min(Math.max(total - 100, 0), 900),
          Math.max(total - 1000, 0),
        ])
        expect(parts.every(({ quantity }) => quantity > 0)).toBe(true)
      }),
    )
  })

  it('the lines of any request add up to its cost', () => {
    fc.assert(
      fc.property(fc.nat(5000), fc.nat(5000), (fresh, cached) => {
        const rating = rated({ input_tokens: fresh + cached, cache_read_tokens: cached })
        const sum = rating.lines.reduce((total, line) => total.plus(decimal(line.costUsd)), ZERO)
        expect(decimalText(sum)).toBe(decimalText(rating.listCostUsd))
      }),
    )
  })
})
