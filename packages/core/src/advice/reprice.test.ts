import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimalText, ZERO } from '../money/decimal.ts'
import { buildPriceBook } from '../pricing/price-book.ts'
import type { PriceVersion } from '../pricing/price-version.ts'
import { rate } from '../rating/rate.ts'
import type { UsageEvent } from '../usage/usage-event.ts'
import type { CallGroup } from './call-group.ts'
import { repriceGroup } from './reprice.ts'

const version = (
  model: string,
  rates: PriceVersion['rates'],
  more: Partial<PriceVersion> = {},
): PriceVersion => ({
  id: model,
  organizationId: null,
  provider: 'openai',
  model,
  match: { equals: model },
  effectiveFromMs: null,
  rates,
  source: 'test',
  sequence: 1,
  ...more,
})
const BOOK = buildPriceBook(
  [
    version('big', {
      input_tokens: { per: 1_000_000, price: '2.5', tiers: [{ aboveInputTokens: 1000, price: '5' }] },
      cache_read_tokens: { per: 1_000_000, price: '0.25' },
      output_tokens: { per: 1_000_000, price: '10' },
      requests: { per: 1000, price: '0.3' },
      web_search_requests: { per: 1000, price: '10' },
    }),
    version('small', {
      input_tokens: { per: 1_000_000, price: '0.15' },
      output_tokens: { per: 1_000_000, price: '0.6' },
    }),
    version(
      'hourly',
      { input_tokens: { per: 1, price: '1' } },
      {
        timeOfDay: { startUtc: '00:00:00', endUtc: '23:00:00' },
      },
    ),
    version('marginal', {
      input_tokens: {
        per: 1,
        price: '1',
        tiers: [{ aboveInputTokens: 10, price: '2' }],
        tierMode: 'marginal',
      },
    }),
  ],
  1,
)
const AT = Date.UTC(2026, 10, 1)
const group = (quantities: CallGroup['quantities'], more: Partial<CallGroup> = {}): CallGroup => ({
  scope: { dimension: 'organization', value: null },
  provider: 'openai',
  model: 'big',
  operation: 'chat',
  inputTokens: 1,
  isSmall: true,
  waiting: 'yes',
  calls: 1,
  requests: 1,
  quantities,
  ...more,
})

describe('repriceGroup', () => {
  const call = fc.record({
    input_tokens: fc.integer({ min: 1, max: 1000 }),
    cached: fc.double({ min: 0, max: 1, noNaN: true }),
    output_tokens: fc.integer({ min: 0, max: 4000 }),
    web_search_requests: fc.integer({ min: 0, max: 3 }),
  })
  it.each(['big', 'small'])('is the sum of what each call is rated at: %s', (model) => {
    fc.assert(
      fc.property(
        fc.array(call, { minLength: 1, maxLength: 20 }),
        fc.boolean(),
        fc.boolean(),
        (calls, isLong, isBatch) => {
          const serviceTier = isBatch ? 'batch' : 'default'
          const events: UsageEvent[] = calls.map(({ cached, web_search_requests, ...tokens }, index) => {
            const input_tokens = tokens.input_tokens + (isLong ? 1000 : 0)
            return {
              eventId: String(index),
              tsMs: AT,
              provider: 'openai',
              model,
              operation: 'chat',
              serviceTier,
              status: 'ok',
              streamed: false,
              estimated: false,
              quantities: {
                ...tokens,
                input_tokens,
                cache_read_tokens: Math.floor(input_tokens * cached),
                ...(model === 'big' && { web_search_requests }),
              },
            }
          })
          const quantities: Record<string, number> = {}
          for (const event of events) {
            for (const [meter, count] of Object.entries(event.quantities)) {
              quantities[meter] = (quantities[meter] ?? 0) + count
            }
          }
          const exact = events.reduce((sum, event) => sum.plus(rate('o', event, BOOK).listCostUsd), ZERO)
          const sums = group(quantities, {
            model: 'other',
            requests: events.length,
            inputTokens: isLong ? 1001 : 1,
          })
          const priced = repriceGroup(BOOK, 'o', AT, sums, { model, serviceTier })
          expect(priced && decimalText(priced.costUsd)).toBe(decimalText(exact))
        },
      ),
    )
  })

  it('says nothing where a meter has no price, or sums do not tell', () => {
    expect(
      repriceGroup(BOOK, 'o', AT, group({ input_tokens: 1, web_search_requests: 1 }), { model: 'small' }),
    ).toBeUndefined()
    expect(repriceGroup(BOOK, 'o', AT, group({ input_tokens: 1 }), { model: 'unknown' })).toBeUndefined()
    expect(repriceGroup(BOOK, 'o', AT, group({ input_tokens: 1 }), { model: 'hourly' })).toBeUndefined()
    expect(repriceGroup(BOOK, 'o', AT, group({ input_tokens: 1 }), { model: 'marginal' })).toBeUndefined()
    expect(repriceGroup(BOOK, 'o', AT, group({ input_tokens: 1 }, { serviceTier: 'scale' }))).toBeUndefined()
  })
})
