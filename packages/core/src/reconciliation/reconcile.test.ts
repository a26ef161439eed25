import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal, decimalText, ZERO } from '../money/decimal.ts'
import type { LedgerHour, VendorFigure } from './gather.ts'
import { modelWords } from './model-words.ts'
import { type ReconcileInput, reconcile } from './reconcile.ts'

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
const START_MS = Date.UTC(2026, 9, 1)
/** Long after every day of these tests. */
const IMPORTED_MS = Date.UTC(2027, 0, 1)
const dayOf = (index: number) => new Date(START_MS + index * DAY_MS).toISOString().slice(0, 10)

/** One call, as it was. */
interface Call {
  /** Hours after the beginning of the month. */
  readonly hour: number
  readonly model: string
  readonly tier: string
  readonly key: string
  readonly input: number
  readonly cached: number
  readonly output: number
}

const PRICES: Readonly<Record<string, string>> = {
  input_tokens: '0.0000025',
  cache_read_tokens: '0.00000125',
  output_tokens: '0.00001',
}
const quantitiesOf = (call: Call) =>
  Object.entries({ input_tokens: call.input, cache_read_tokens: call.cached, output_tokens: call.output })
const costOf = (call: Call, meter: string, quantity: number) => {
  const cost = decimal(PRICES[meter] ?? '0').times(decimal(String(quantity)))
  return decimalText(call.tier === 'batch' ? cost.times(decimal('0.5')) : cost)
}

/** What the ledger has when every call was metered. */
const ledgerOf = (calls: readonly Call[]): LedgerHour[] =>
  calls.flatMap((call) =>
    quantitiesOf(call).map(([meter, quantity]) => ({
      hourMs: START_MS + call.hour * HOUR_MS,
      model: call.model,
      meter,
      serviceTier: call.tier,
      quantity: String(quantity),
      costUsd: costOf(call, meter, quantity),
      unpricedQuantity: '0',
      unsureQuantity: '0',
    })),
  )

/** What the vendor says: the same calls by its day, with dated names. */
const figuresOf = (calls: readonly Call[], shiftHours = 0): VendorFigure[] =>
  calls.flatMap((call) =>
    quantitiesOf(call).map(([meter, quantity]) => ({
      source: 'aws_cur' as const,
      importedAtMs: IMPORTED_MS,
      day: dayOf(Math.floor((call.hour + shiftHours) / 24)),
      kind: 'usage' as const,
      model: `${call.model}-2026-01-15`,
      meter,
      serviceTier: call.tier,
      keyId: call.key,
      projectId: null,
      quantity: String(quantity),
      costUsd: costOf(call, meter, quantity),
      lines: 1,
    })),
  )

const DAYS = Array.from({ length: 30 }, (_, index) => dayOf(index))
const compare = (
  figures: readonly VendorFigure[],
  ledger: readonly LedgerHour[],
  options: Partial<ReconcileInput> = {},
) =>
  reconcile({
    vendor: 'aws',
    days: DAYS,
    coveredDays: new Map([['aws_cur', new Set(DAYS)]]),
    figures,
    ledger,
    meteredKeys: undefined,
    isKnownModel: () => true,
    groupBy: ['day', 'model', 'meter'],
    tolerance: decimal('0.001'),
    ...options,
  })
const causesOf = (result: ReturnType<typeof reconcile>) => result.totals.causes.map(({ cause }) => cause)

const callArbitrary: fc.Arbitrary<Call> = fc.record({
  hour: fc.integer({ min: 24, max: 29 * 24 - 1 }),
  model: fc.constantFrom('gpt-4o', 'gpt-4o-mini', 'claude-sonnet-4-6'),
  tier: fc.constantFrom('default', 'default', 'batch'),
  key: fc.constantFrom('key_a', 'key_b', 'key_c'),
  input: fc.integer({ min: 1, max: 100_000 }),
  cached: fc.nat(50_000),
  output: fc.integer({ min: 1, max: 20_000 }),
})
const month = fc.array(callArbitrary, { minLength: 60, maxLength: 200 })

describe('a month of calls', () => {
  it('has no difference when both sides have the same', () => {
    fc.assert(
      fc.property(month, (calls) => {
        const result = compare(figuresOf(calls), ledgerOf(calls))
        expect(result.rows.filter((row) => row.causes.length > 0 || !row.isMatch)).toEqual([])
        expect(result.coverage.meteredTokens.eq(result.coverage.vendorTokens)).toBe(true)
        expect(result.coverage.meteredCostUsd?.eq(result.coverage.vendorCostUsd ?? ZERO)).toBe(true)
      }),
      { numRuns: 30 },
    )
  })

  it('has causes that add up to the difference, whatever is missing on either side', () => {
    fc.assert(
      fc.property(month, month, (calls, others) => {
        const result = compare(figuresOf(calls), ledgerOf(others))
        for (const row of [...result.rows, result.totals]) {
          const quantity = row.causes.reduce((sum, part) => sum.plus(part.quantity), ZERO)
          expect(decimalText(quantity)).toBe(
            decimalText((row.vendorQuantity ?? ZERO).minus(row.ledgerQuantity)),
          )
          const cost = row.causes.reduce((sum, part) => sum.plus(part.costUsd ?? ZERO), ZERO)
          const rest = cost.minus((row.vendorCostUsd ?? ZERO).minus(row.ledgerCostUsd)).abs()
          expect(rest.lt(decimal('0.0000000001'))).toBe(true)
        }
      }),
      { numRuns: 20 },
    )
  })

  it('finds the key that nobody metered', () => {
    fc.assert(
      fc.property(month, (calls) => {
        // The others are used every day, so that their absence would show.
        const all = [
          ...calls,
          ...DAYS.slice(1, 29).map((_, day) => ({ ...template, hour: 24 * (day + 1), key: 'key_a' })),
        ]
        const metered = all.filter(({ key }) => key !== 'key_b')
        const result = compare(figuresOf(all), ledgerOf(metered), {
          meteredKeys: new Set(['key_a', 'key_c']),
        })
        const unmetered = all.filter(({ key }) => key === 'key_b').flatMap(quantitiesOf)
        const expected = unmetered.reduce((sum, [, quantity]) => sum + quantity, 0)
        expect(result.totals.causes.filter(({ quantity }) => !quantity.eq(ZERO))).toEqual(
          expected === 0
            ? []
            : [
                expect.objectContaining({
                  cause: 'unmetered_key',
                  details: [expect.stringContaining('key_b')],
                }),
              ],
        )
      }),
      { numRuns: 20 },
    )
  })

  it.each([9, 14, -8, -12])('finds days that begin %i hours before ours', (shift) => {
    fc.assert(
      fc.property(month, (calls) => {
        const result = compare(figuresOf(calls, shift), ledgerOf(calls))
        const moved = result.rows.filter(({ causes }) => causes.length > 0)
        if (new Set(moved.map(({ day }) => day)).size < 2) return
        expect(causesOf(result)).toEqual(['time_zone'])
        expect(result.coverage.meteredTokens.eq(result.coverage.vendorTokens)).toBe(true)
      }),
      { numRuns: 8 },
    )
  })
})

const template: Call = {
  hour: 60,
  model: 'gpt-4o',
  tier: 'default',
  key: 'key_a',
  input: 1000,
  cached: 200,
  output: 300,
}
const calls = Array.from({ length: 28 }, (_, day) => ({ ...template, hour: 24 * (day + 1) + 12 }))

describe('each planted fault has its cause', () => {
  const only = (
    figures: readonly VendorFigure[],
    ledger: readonly LedgerHour[],
    options: Partial<ReconcileInput> = {},
  ) =>
    compare(figures, ledger, options).totals.causes.map(({ cause, quantity, costUsd }) => [
      cause,
      decimalText(quantity),
      costUsd === undefined ? null : decimalText(costUsd.round(12)),
    ])

  it('a key that is inferred from what fits on every day', () => {
    const extra = calls.map((call) => ({ ...call, key: 'key_x', input: 70, cached: 0, output: 5 }))
    expect(only(figuresOf([...calls, ...extra]), ledgerOf(calls))).toEqual([
      [
        'unmetered_key',
        String(28 * 75),
        decimalText(
          decimal('0.0000025')
            .times(decimal(String(28 * 70)))
            .plus(decimal('0.00001').times(decimal('140'))),
        ),
      ],
    ])
  })

  it('an unknown model', () => {
    const extra = { ...template, model: 'mystery-9', key: 'key_a' }
    expect(
      only(figuresOf([...calls, extra]), ledgerOf(calls), {
        isKnownModel: (model) => !model.startsWith('mystery'),
      }),
    ).toEqual([['unknown_model', '1500', '0.00575']])
  })

  it('results of a batch that nobody fetched', () => {
    const extra = { ...template, tier: 'batch' }
    expect(only(figuresOf([...calls, extra]), ledgerOf(calls))).toEqual([
      ['batch', '1500', expect.any(String)],
      ['price_differs', '0', expect.any(String)],
    ])
  })

  it('the same units on another tier', () => {
    const figures = figuresOf(calls).map((figure, index) =>
      index < 3
        ? {
            ...figure,
            serviceTier: 'priority',
            costUsd: decimalText(decimal(figure.costUsd ?? '0').times(decimal('2'))),
          }
        : figure,
    )
    expect(only(figures, ledgerOf(calls))).toEqual([['service_tier', '0', '0.00575']])
  })

  it('rounding of lines', () => {
    const figures = figuresOf(calls).map((figure, index) =>
      index === 0 ? { ...figure, quantity: '1000.4', costUsd: '0.0025' } : figure,
    )
    const [part, ...others] = compare(figures, ledgerOf(calls)).totals.causes
    expect(part).toMatchObject({ cause: 'rounding' })
    expect([decimalText(part?.quantity ?? ZERO), others.map(({ cause }) => cause)]).toEqual(['0.4', []])
  })

  it('calls that were aborted', () => {
    const ledger = ledgerOf(calls).map((hour, index) =>
      index === 2
        ? { ...hour, quantity: '120', costUsd: '0.0012', unsureQuantity: '120' }
        : index < 2
          ? { ...hour, unsureQuantity: hour.quantity }
          : hour,
    )
    expect(only(figuresOf(calls), ledger)).toEqual([['aborted_calls', '180', '0.0018']])
  })

  it('figures that were taken too early', () => {
    const figures = figuresOf(calls.slice(0, 27)).map((figure) => ({
      ...figure,
      importedAtMs: START_MS + 29 * DAY_MS,
    }))
    const ledger = ledgerOf(calls)
    // The last day has nothing at the vendor yet, but for one figure of it.
    const early = figuresOf([{ ...template, hour: 24 * 28 + 12, input: 1, cached: 1, output: 1 }]).map(
      (figure) => ({
        ...figure,
        importedAtMs: START_MS + 29 * DAY_MS,
      }),
    )
    expect(only([...figures, ...early], ledger)).toEqual([['late_data', '-1497', expect.any(String)]])
  })

  it('another price, with both unit prices', () => {
    const figures = figuresOf(calls).map((figure) =>
      figure.meter === 'output_tokens' ? { ...figure, costUsd: '0.0045' } : figure,
    )
    const [part] = compare(figures, ledgerOf(calls)).totals.causes
    expect(part).toMatchObject({
      cause: 'price_differs',
      details: ['A unit costs $0.000015 there and $0.00001 here'],
    })
    expect(decimalText(part?.costUsd ?? ZERO)).toBe('0.042')
  })

  it('usage without a price here', () => {
    const ledger = ledgerOf(calls).map((hour) => ({ ...hour, costUsd: '0', unpricedQuantity: hour.quantity }))
    expect(only(figuresOf(calls), ledger)).toEqual([['unknown_model', '0', '0.161']])
  })

  it('credits, discounts and taxes', () => {
    const [first] = figuresOf(calls)
    if (first === undefined) throw new Error('no figure')
    const charge = { ...first, model: 'Free Tier', meter: null, quantity: null }
    expect(
      only(
        [
          ...figuresOf(calls),
          { ...charge, kind: 'credit', costUsd: '-0.1' },
          { ...charge, kind: 'discount', costUsd: '-0.02' },
          { ...charge, kind: 'tax', costUsd: '0.03' },
        ],
        ledgerOf(calls),
      ),
    ).toEqual([
      ['credit', '0', '-0.1'],
      ['discount', '0', '-0.02'],
      ['tax', '0', '0.03'],
    ])
  })

  it('what nothing else explains', () => {
    const extra = { ...template, key: 'key_a', input: 50, cached: 0, output: 0 }
    expect(only(figuresOf([...calls, extra]), ledgerOf(calls))).toEqual([
      ['unmetered_usage', '50', '0.000125'],
    ])
    expect(only(figuresOf(calls), ledgerOf([...calls, { ...extra, hour: 85 }]))).toEqual([
      ['not_at_vendor', '-50', '-0.000125'],
    ])
  })
})

it('finds the same model in the words of APIs and of bills', () => {
  const same = [
    ['us.anthropic.claude-sonnet-4-6-20260101-v1:0', 'Claude4.6Sonnet', 'claude-sonnet-4-6'],
    ['gpt-4o-mini-2024-07-18', 'gpt-4o-mini-0718', 'gpt 4o mini', 'GPT-4o-mini'],
    ['gemini-2.5-flash', 'Gemini 2.5 Flash GA', 'models/gemini-2.5-flash'],
    ['amazon.nova-lite-v1:0', 'NovaLite'],
  ]
  for (const names of same) expect(new Set(names.map(modelWords)).size, names.join()).toBe(1)
  expect(new Set(same.map(([name = '']) => modelWords(name))).size).toBe(same.length)
  expect(modelWords('gpt-4o')).not.toBe(modelWords('gpt-4'))
  expect(modelWords('gemini-2.5-flash')).not.toBe(modelWords('gemini-2.5-flash-lite'))
})
