import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal } from '../money/decimal.ts'
import { type DatedRates, isLargeChange, priceChanges } from './price-changes.ts'
import type { Rate } from './price-version.ts'

const NOW = Date.UTC(2026, 5, 1, 12)
const DAY = 86_400_000
const perMillion = (price: string): Rate => ({ per: 1_000_000, price })
const dated = (rates: Record<string, Rate>, more: Partial<DatedRates> = {}): DatedRates => ({
  startMs: null,
  rates,
  ...more,
})
const changes = (before: DatedRates[], after: DatedRates[]) =>
  priceChanges(before, after, NOW).map(({ meter, aboveInputTokens, oldPrice, newPrice, percent }) => [
    meter,
    aboveInputTokens,
    oldPrice,
    newPrice,
    percent,
  ])

describe('what a newer catalogue changes', () => {
  it('is nothing where the prices are the same, however they are written', () => {
    const before = dated({ input_tokens: perMillion('2.50'), requests: { per: 1000, price: '5' } })
    const after = dated({ input_tokens: perMillion('2.5'), requests: { per: 1, price: '0.005' } })
    expect(changes([before], [after])).toEqual([])
  })

  it('is named by meter and tier, with its share', () => {
    const tiered = (price: string, above: string): Rate => ({
      ...perMillion(price),
      tiers: [{ aboveInputTokens: 200_000, price: above }],
    })
    expect(
      changes(
        [dated({ input_tokens: tiered('3', '6'), output_tokens: perMillion('15') })],
        [dated({ input_tokens: tiered('3', '5'), output_tokens: perMillion('20') })],
      ),
    ).toEqual([
      ['input_tokens', 200_000, '6', '5', '-16.7'],
      ['output_tokens', null, '15', '20', '33.3'],
    ])
  })

  it('counts the price that applied to a meter without one of its own', () => {
    const plain = dated({ input_tokens: perMillion('2') })
    const cached = dated({ input_tokens: perMillion('2'), cache_read_tokens: perMillion('0.5') })
    expect(changes([plain], [cached])).toEqual([['cache_read_tokens', null, '2', '0.5', '-75']])
    expect(changes([cached], [plain])).toEqual([['cache_read_tokens', null, '0.5', '2', '300']])
  })

  it('leaves aside what is over, and finds what is to come', () => {
    const rise = dated({ input_tokens: perMillion('9') }, { startMs: NOW + DAY })
    const past = dated({ input_tokens: perMillion('7') }, { startMs: NOW - 2 * DAY })
    const now = dated({ input_tokens: perMillion('2') }, { startMs: NOW - DAY })
    expect(changes([past, now], [now])).toEqual([])
    expect(changes([past, now], [now, rise])).toEqual([['input_tokens', null, '2', '9', '350']])
  })

  it('finds the price of some hours', () => {
    const base = dated({ input_tokens: perMillion('2') })
    const night = (price: string) =>
      dated({ input_tokens: perMillion(price) }, { timeOfDay: { startUtc: '16:30:00', endUtc: '00:30:00' } })
    expect(changes([base, night('1')], [base, night('1.2')])).toEqual([
      ['input_tokens', null, '1', '1.2', '20'],
    ])
  })
})

describe('a change waits for a person', () => {
  const change = (oldPrice: string | null, newPrice: string | null) =>
    isLargeChange({
      meter: 'm',
      aboveInputTokens: null,
      atMs: NOW,
      per: 1,
      oldPrice,
      newPrice,
      percent: null,
    })

  it.each([
    ['2', '3', false],
    ['2', '1', false],
    ['2', '3.000000000000000001', true],
    ['2', '0.999999999999999999', true],
    ['2', '0', true],
    ['0', '0.01', true],
    ['0', '0', false],
    ['2', null, true],
    [null, '2', false],
  ])('from %s to %s: %s', (oldPrice, newPrice, waits) => {
    expect(change(oldPrice, newPrice)).toBe(waits)
  })

  it('exactly where its share is more than fifty percent, either way', () => {
    const price = fc.integer({ min: 1, max: 10_000_000 })
    fc.assert(
      fc.property(price, price, fc.integer({ min: 0, max: 9 }), (old, next, places) => {
        const text = (value: number) => decimal(`${value}e-${places}`).toFixed()
        expect(change(text(old), text(next))).toBe(Math.abs(next - old) * 2 > old)
        const [found] = priceChanges(
          [dated({ input_tokens: perMillion(text(old)) })],
          [dated({ input_tokens: perMillion(text(next)) })],
          NOW,
        )
        if (old === next) expect(found).toBeUndefined()
        else expect(Number(found?.percent)).toBeCloseTo(((next - old) / old) * 100, 0)
      }),
    )
  })
})
