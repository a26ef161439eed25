import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  buildPriceBook,
  decimal,
  decimalText,
  findContradictions,
  METERS,
  type PriceVersion,
  type Rate,
  rate,
  type UsageEvent,
  ZERO,
} from '../index.ts'

const ORGANIZATION = '0197a1b2-0000-7000-8000-000000000001'
const CALLED_AT = Date.UTC(2026, 0, 15, 12)

const perMillion = (price: string): Rate => ({ per: 1_000_000, price })
const perThousand = (price: string): Rate => ({ per: 1000, price })
const cliff = (price: string, aboveInputTokens: number, above: string): Rate => ({
  per: 1_000_000,
  price,
  tiers: [{ aboveInputTokens, price: above }],
})

const GPT_4O_MINI: PriceVersion = {
  id: 'gpt-4o-mini-v1',
  organizationId: null,
  provider: 'openai',
  model: 'gpt-4o-mini',
  match: { or: [{ equals: 'gpt-4o-mini' }, { equals: 'gpt-4o-mini-2024-07-18' }] },
  effectiveFromMs: null,
  rates: {
    input_tokens: perMillion('0.15'),
    cache_read_tokens: perMillion('0.075'),
    output_tokens: perMillion('0.6'),
    web_search_requests: perThousand('10'),
  },
  source: 'test',
  sequence: 1,
}

const O3_BEFORE: PriceVersion = {
  ...GPT_4O_MINI,
  id: 'o3-before',
  model: 'o3',
  match: { equals: 'o3' },
  rates: {
    input_tokens: perMillion('10'),
    cache_read_tokens: perMillion('2.5'),
    output_tokens: perMillion('40'),
  },
  sequence: 2,
}

const O3_AFTER: PriceVersion = {
  ...O3_BEFORE,
  id: 'o3-after',
  effectiveFromMs: Date.UTC(2025, 5, 10),
  rates: {
    input_tokens: perMillion('2'),
    cache_read_tokens: perMillion('0.5'),
    output_tokens: perMillion('8'),
  },
  sequence: 3,
}

const SONNET: PriceVersion = {
  ...GPT_4O_MINI,
  id: 'sonnet',
  provider: 'anthropic',
  model: 'claude-sonnet-4-5',
  match: { starts_with: 'claude-sonnet-4-5' },
  rates: {
    input_tokens: cliff('3', 200_000, '6'),
    cache_read_tokens: cliff('0.3', 200_000, '0.6'),
    cache_write_tokens: cliff('3.75', 200_000, '7.5'),
    cache_write_1h_tokens: cliff('6', 200_000, '12'),
    output_tokens: cliff('15', 200_000, '22.5'),
    web_search_requests: perThousand('10'),
  },
  sequence: 4,
}

const SONAR: PriceVersion = {
  ...GPT_4O_MINI,
  id: 'sonar',
  provider: 'perplexity',
  model: 'sonar',
  match: { equals: 'sonar' },
  rates: { input_tokens: perMillion('1'), output_tokens: perMillion('1'), requests: perThousand('12') },
  sequence: 5,
}

const book = buildPriceBook([GPT_4O_MINI, O3_BEFORE, O3_AFTER, SONNET, SONAR], 1)

function call(
  provider: string,
  model: string,
  quantities: Record<string, number>,
  more: Partial<UsageEvent> = {},
): UsageEvent {
  return {
    eventId: 'e1',
    tsMs: CALLED_AT,
    provider,
    model,
    operation: 'chat',
    quantities,
    status: 'ok',
    streamed: false,
    estimated: false,
    ...more,
  }
}

const rated = (event: UsageEvent) => rate(ORGANIZATION, event, book)
const cost = (event: UsageEvent) => decimalText(rated(event).listCostUsd)

describe('the money of a call, against amounts computed by hand', () => {
  // Each amount: tokens of each bucket times its price per million, added by hand.
  const table: readonly (readonly [string, UsageEvent, string])[] = [
    [
      'gpt-4o-mini: 176 fresh, 1,024 cached, 300 out',
      call('openai', 'gpt-4o-mini', { input_tokens: 1200, cache_read_tokens: 1024, output_tokens: 300 }),
      // 176 × 0.15 + 1024 × 0.075 + 300 × 0.6 = 26.4 + 76.8 + 180 = 283.2 millionths
      '0.0002832',
    ],
    [
      'gpt-4o-mini: one token in, the smallest amount',
      call('openai', 'gpt-4o-mini', { input_tokens: 1 }),
      '0.00000015',
    ],
    [
      'gpt-4o-mini: reasoning is part of the output and costs the same',
      call('openai', 'gpt-4o-mini', { input_tokens: 10, output_tokens: 300, reasoning_tokens: 128 }),
      // 10 × 0.15 + 300 × 0.6 = 181.5
      '0.0001815',
    ],
    [
      'gpt-4o-mini with three web searches',
      call('openai', 'gpt-4o-mini', { input_tokens: 1000, output_tokens: 100, web_search_requests: 3 }),
      // 150 + 60 millionths + 3 × 0.01
      '0.03021',
    ],
    [
      'o3 in the last millisecond of its old price',
      call(
        'openai',
        'o3',
        { input_tokens: 1_000_000, output_tokens: 1000 },
        { tsMs: Date.UTC(2025, 5, 10) - 1 },
      ),
      '10.04',
    ],
    [
      'o3 at the moment of its new price',
      call('openai', 'o3', { input_tokens: 1_000_000, output_tokens: 1000 }, { tsMs: Date.UTC(2025, 5, 10) }),
      '2.008',
    ],
    [
      'claude-sonnet-4-5 with cache reads and writes for five minutes and an hour',
      call('anthropic', 'claude-sonnet-4-5-20250929', {
        input_tokens: 10_000,
        cache_read_tokens: 4000,
        cache_write_tokens: 3000,
        cache_write_1h_tokens: 1000,
        output_tokens: 500,
      }),
      // 3000 × 3 + 4000 × 0.3 + 2000 × 3.75 + 1000 × 6 + 500 × 15 = 9000 + 1200 + 7500 + 6000 + 7500
      '0.0312',
    ],
    [
      'claude-sonnet-4-5 with exactly 200,000 tokens in: the lower price',
      call('anthropic', 'claude-sonnet-4-5', { input_tokens: 200_000, output_tokens: 1000 }),
      '0.615',
    ],
    [
      'claude-sonnet-4-5 with 200,001 tokens in: the higher price for all of them, and for the output',
      call('anthropic', 'claude-sonnet-4-5', { input_tokens: 200_001, output_tokens: 1000 }),
      // 200001 × 6 + 1000 × 22.5
      '1.222506',
    ],
    [
      'the tier is chosen by all input, cached included',
      call('anthropic', 'claude-sonnet-4-5', { input_tokens: 200_001, cache_read_tokens: 200_000 }),
      // 1 × 6 + 200000 × 0.6
      '0.120006',
    ],
    [
      'a price per request is due once a call',
      call('perplexity', 'sonar', { input_tokens: 100, output_tokens: 50 }),
      '0.01215',
    ],
    [
      'an event that counts zero requests, at a price of each request',
      call('perplexity', 'sonar', { input_tokens: 100, requests: 0 }),
      '0.0001',
    ],
    [
      'a batch of OpenAI at half price',
      call('openai', 'gpt-4o-mini', { input_tokens: 1000, output_tokens: 100 }, { serviceTier: 'batch' }),
      '0.000105',
    ],
    [
      'a flex call of OpenAI at half price, its searches at the full one',
      call(
        'openai',
        'gpt-4o-mini',
        { input_tokens: 1000, output_tokens: 100, web_search_requests: 1 },
        { serviceTier: 'flex' },
      ),
      '0.010105',
    ],
    [
      'a batch of Anthropic: the discount and that of the cache multiply',
      call(
        'anthropic',
        'claude-sonnet-4-5',
        { input_tokens: 3000, cache_read_tokens: 2000, output_tokens: 100 },
        { serviceTier: 'batch' },
      ),
      // (1000 × 3 + 2000 × 0.3 + 100 × 15) / 2
      '0.00255',
    ],
    [
      'the standard tiers at list price',
      call('openai', 'gpt-4o-mini', { input_tokens: 1000 }, { serviceTier: 'default' }),
      '0.00015',
    ],
  ]

  it.each(table)('%s', (_name, event, expected) => {
    expect(cost(event)).toBe(expected)
    expect(rated(event).status).toBe('rated')
  })

  it('shows each meter with its exact unit price', () => {
    expect(
      rated(
        call('openai', 'gpt-4o-mini', { input_tokens: 1200, cache_read_tokens: 1024, output_tokens: 300 }),
      ),
    ).toMatchObject({
      priceVersionId: 'gpt-4o-mini-v1',
      lines: [
        { meter: 'input_tokens', quantity: 176, unitPriceUsd: '0.00000015', costUsd: '0.0000264' },
        { meter: 'cache_read_tokens', quantity: 1024, unitPriceUsd: '0.000000075', costUsd: '0.0000768' },
        { meter: 'output_tokens', quantity: 300, unitPriceUsd: '0.0000006', costUsd: '0.00018' },
      ],
    })
  })
})

describe('what has no price', () => {
  it('a model that nobody priced is unpriced, not free', () => {
    expect(rated(call('acme', 'acme-1', { input_tokens: 10, output_tokens: 5 }))).toMatchObject({
      status: 'unpriced',
      unpricedReason: 'no_price',
      unpricedMeters: ['input_tokens', 'output_tokens'],
      lines: [],
      priceVersionId: null,
    })
  })

  it('a meter that the price does not know is unpriced, the others are rated', () => {
    const rating = rated(
      call('openai', 'gpt-4o-mini', { input_tokens: 10, code_sessions: 1, constructor: 2 }),
    )
    expect(rating).toMatchObject({
      status: 'partly_unpriced',
      unpricedReason: 'no_rate',
      unpricedMeters: ['code_sessions', 'constructor'],
    })
    expect(decimalText(rating.listCostUsd)).toBe('0.0000015')
  })

  it.each([
    ['openai', 'gpt-4o-mini', 'priority'],
    ['openai', 'gpt-4o-mini', 'ultrafast'],
    ['openai', 'gpt-4o-mini', 'scale'],
    ['anthropic', 'claude-sonnet-4-5', 'priority'],
    ['anthropic', 'claude-sonnet-4-5', 'flex'],
  ])('%s %s at the tier %s has no known price', (provider, model, serviceTier) => {
    expect(rated(call(provider, model, { input_tokens: 10 }, { serviceTier }))).toMatchObject({
      status: 'unpriced',
      unpricedReason: 'service_tier',
      unpricedMeters: ['input_tokens'],
    })
  })

  it('a failed attempt costs nothing, whatever it reports', () => {
    expect(rated(call('acme', 'acme-1', { input_tokens: 10 }, { status: 'error' }))).toMatchObject({
      status: 'rated',
      listCostUsd: ZERO,
      lines: [],
      unpricedMeters: [],
    })
  })
})

/** Consistent quantities: parts never exceed their wholes. */
const quantities = fc
  .dictionary(fc.constantFrom(...Object.keys(METERS), 'web_search_requests'), fc.nat(2_000_000))
  .map((parts) => {
    const totals: Record<string, number> = { ...parts }
    for (const meter of Object.keys(METERS).toReversed()) {
      const whole = METERS[meter]?.partOf
      if (whole !== undefined && totals[meter] !== undefined)
        totals[whole] = (totals[whole] ?? 0) + totals[meter]
    }
    return totals
  })

describe('for any quantities', () => {
  it('the lines add up to the total, exactly, and none is negative', () => {
    fc.assert(
      fc.property(quantities, (all) => {
        expect(findContradictions(all)).toEqual([])
        const rating = rated(call('anthropic', 'claude-sonnet-4-5', all))
        const sum = rating.lines.reduce((total, line) => total.plus(decimal(line.costUsd)), ZERO)
        expect(decimalText(sum)).toBe(decimalText(rating.listCostUsd))
        for (const line of rating.lines) {
          expect(line.quantity).toBeGreaterThan(0)
          const product = decimal(line.unitPriceUsd).times(decimal(String(line.quantity)))
          expect(decimalText(product)).toBe(line.costUsd)
        }
      }),
    )
  })

  it('every token is in one line only: the buckets add up to input and output', () => {
    fc.assert(
      fc.property(quantities, (all) => {
        const { lines } = rated(call('anthropic', 'claude-sonnet-4-5', all))
        const tokens = lines
          .filter(({ meter }) => meter.endsWith('_tokens'))
          .reduce((sum, { quantity }) => sum + quantity, 0)
        expect(tokens).toBe((all['input_tokens'] ?? 0) + (all['output_tokens'] ?? 0))
      }),
    )
  })

  it('ten times the usage costs ten times as much where there are no tiers', () => {
    fc.assert(
      fc.property(quantities, (all) => {
        const ten = Object.fromEntries(Object.entries(all).map(([meter, count]) => [meter, count * 10]))
        const one = rated(call('openai', 'gpt-4o-mini', all)).listCostUsd
        const tenfold = rated(call('openai', 'gpt-4o-mini', ten)).listCostUsd
        expect(decimalText(tenfold)).toBe(decimalText(one.times(decimal('10'))))
      }),
    )
  })
})

describe('amounts of any size', () => {
  const anyPrice = fc
    .tuple(fc.nat(999_999), fc.nat(18), fc.constantFrom(1 as const, 1000 as const, 1_000_000 as const))
    .map(([digits, places, per]): Rate => {
      const text = String(digits).padStart(places + 1, '0')
      const price = places === 0 ? text : `${text.slice(0, -places)}.${text.slice(-places)}`
      return { per, price }
    })
  const anyQuantity = fc.oneof(
    fc.nat(10),
    fc.nat(2_000_000),
    fc.integer({ min: 0, max: 1_000_000_000_000 }),
    fc.double({ min: 0, max: 1_000_000, noNaN: true, noDefaultInfinity: true }),
  )

  it('are what plain decimals give, line by line and in all', () => {
    const meters = fc.dictionary(
      fc.constantFrom('a', 'b', 'c', 'd_tokens'),
      fc.tuple(anyPrice, anyQuantity),
      {
        minKeys: 1,
      },
    )
    fc.assert(
      fc.property(meters, fc.constantFrom('default', 'batch'), (priced, serviceTier) => {
        const entries = Object.entries(priced)
        const own: PriceVersion = {
          ...GPT_4O_MINI,
          id: 'any',
          rates: Object.fromEntries(entries.map(([meter, [price]]) => [meter, price])),
        }
        const event = call(
          'openai',
          'gpt-4o-mini',
          Object.fromEntries(entries.map(([meter, [, quantity]]) => [meter, quantity])),
          { serviceTier },
        )
        const rating = rate(ORGANIZATION, event, buildPriceBook([own], 1))
        let total = ZERO
        for (const line of rating.lines) {
          const { price, per } = own.rates[line.meter] ?? { price: '0', per: 1 }
          const half = serviceTier === 'batch' && line.meter.endsWith('_tokens') ? '0.5' : '1'
          const unit = decimal(price)
            .times(decimal(`1e-${Math.log10(per)}`))
            .times(decimal(half))
          const cost = unit.times(decimal(String(line.quantity)))
          expect([line.unitPriceUsd, line.costUsd]).toEqual([decimalText(unit), decimalText(cost)])
          total = total.plus(cost)
        }
        expect(decimalText(rating.listCostUsd)).toBe(decimalText(total))
      }),
      { numRuns: 1000 },
    )
  })
})
