import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal, decimalText, ZERO } from '../money/decimal.ts'
import {
  commitmentOfferSchema,
  ownedCommitmentSchema,
  type ProvisionedOffer,
  type SpendOffer,
} from './commitment-offers.ts'
import { breakEvenSpend, cheapestTier, costUnderCommitment } from './committed-spend.ts'
import { reviewCapacity } from './idle-commitment.ts'
import {
  breakEvenUtilization,
  cheapestChoice,
  type Demand,
  demandQuantiles,
  idleShare,
  reservedChoices,
  weightedTokens,
  withUnits,
} from './reserved-capacity.ts'

const offerOf = (more: object): ProvisionedOffer => {
  const offer = commitmentOfferSchema.parse({
    id: 'o',
    kind: 'provisioned_throughput',
    provider: 'azure',
    model: 'gpt-4o',
    tokens_per_minute: 1000,
    price_per_hour: '1',
    ...more,
  })
  if (offer.kind !== 'provisioned_throughput') throw new Error('not provisioned')
  return offer
}
const demandOf = (inputTokens: number, usd: string, more: Partial<Demand> = {}): Demand => ({
  startMs: 0,
  inputTokens,
  cachedTokens: 0,
  outputTokens: 0,
  onDemandUsd: decimal(usd),
  ...more,
})
const HOUR = { stretchMinutes: 60, hours: 1 }

describe('reservedChoices', () => {
  const demands = fc.array(
    fc
      .record({
        inputTokens: fc.integer({ min: 0, max: 400_000 }),
        cached: fc.integer({ min: 0, max: 100 }),
        outputTokens: fc.integer({ min: 0, max: 50_000 }),
        microUsd: fc.integer({ min: 0, max: 9_000_000 }),
      })
      .map(
        ({ cached, microUsd, inputTokens, outputTokens }): Demand => ({
          startMs: 0,
          inputTokens,
          outputTokens,
          cachedTokens: Math.floor((inputTokens * cached) / 100),
          onDemandUsd: decimal(`${microUsd}e-6`),
        }),
      ),
    { maxLength: 30 },
  )
  const offers = fc
    .record({
      tokens_per_minute: fc.integer({ min: 1, max: 3000 }),
      output_weight: fc.constantFrom('0', '1', '4', '2.5'),
      cached_weight: fc.constantFrom('0', '0.1', '1'),
      usable_share: fc.constantFrom('0.8', '1'),
      price_per_hour: fc.constantFrom('0.05', '1', '3.7'),
      units_min: fc.integer({ min: 1, max: 5 }),
      units_step: fc.integer({ min: 1, max: 4 }),
      units_max: fc.integer({ min: 5, max: 60 }),
    })
    .map(offerOf)

  it('is what going through every stretch gives, and the cheapest is never worse than none', () => {
    fc.assert(
      fc.property(demands, offers, (history, offer) => {
        const hours = history.length
        const choices = reservedChoices(history, offer, { stretchMinutes: 60, hours })
        const onDemand = history.reduce((sum, { onDemandUsd }) => sum.plus(onDemandUsd), ZERO)
        const none = choices.find(({ units }) => units === 0)
        expect(none && decimalText(none.totalUsd)).toBe(decimalText(onDemand))
        const brute = (units: number) => {
          let overflow = ZERO
          const capacity = decimal(String(offer.tokens_per_minute * 60 * units)).times(
            decimal(offer.usable_share),
          )
          for (const demand of history) {
            const tokens = weightedTokens(demand, offer)
            if (tokens.eq(ZERO)) overflow = overflow.plus(demand.onDemandUsd)
            else if (tokens.gt(capacity)) {
              overflow = overflow.plus(demand.onDemandUsd.times(tokens.minus(capacity)).div(tokens))
            }
          }
          return decimal(offer.price_per_hour)
            .times(decimal(String(units * hours)))
            .plus(overflow)
        }
        for (const { units, totalUsd } of choices) {
          expect(totalUsd.minus(brute(units)).abs().lt(decimal('0.000000001'))).toBe(true)
        }
        const best = cheapestChoice(choices)
        if (best === undefined) throw new Error('no choice')
        expect(best.totalUsd.lte(onDemand)).toBe(true)
        // Units that were not tried are no better either.
        for (let units = offer.units_min; units <= offer.units_max; units += offer.units_step) {
          expect(brute(units).gte(best.totalUsd.minus(decimal('0.000000001')))).toBe(true)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('a full unit that costs half of its demand is bought, an idle one not', () => {
    const offer = offerOf({})
    const choices = (tokens: number, usd: string) => reservedChoices([demandOf(tokens, usd)], offer, HOUR)
    expect(cheapestChoice(choices(60_000, '2'))?.units).toBe(1)
    expect(cheapestChoice(choices(120_000, '4'))?.units).toBe(2)
    expect(cheapestChoice(choices(6_000, '0.2'))?.units).toBe(0)
    expect(decimalText(withUnits([demandOf(120_000, '4')], offer, 1, HOUR).totalUsd)).toBe('3')
  })

  it('breaks even where the price of a unit meets that of its demand', () => {
    const even = breakEvenUtilization([demandOf(60_000, '2')], offerOf({}))
    expect(even && decimalText(even)).toBe('0.5')
    expect(breakEvenUtilization([], offerOf({}))).toBeUndefined()
  })
})

describe('demand', () => {
  it('has quantiles over all stretches, and idle capacity', () => {
    const hours = { stretchMinutes: 60, stretches: 4 }
    const history = [demandOf(60_000, '1'), demandOf(30_000, '1', { outputTokens: 15_000 })]
    const offer = offerOf({ output_weight: '2' })
    expect(demandQuantiles(history, offer, hours, [0.25, 0.5, 0.75, 1]).map(decimalText)).toEqual([
      '0',
      '0',
      '1000',
      '1000',
    ])
    expect(decimalText(idleShare(history, offer, 1, hours))).toBe('0.5')
    // What exceeds the capacity of an hour does not fill another.
    expect(decimalText(idleShare([demandOf(600_000, '1')], offer, 1, hours))).toBe('0.75')
  })
})

describe('committed spend', () => {
  const tier = (monthly_usd: string, discount: string): SpendOffer => ({
    id: monthly_usd,
    kind: 'committed_spend',
    provider: 'openai',
    monthly_usd,
    discount,
  })
  it('costs the discounted spend, or what was committed', () => {
    expect(decimalText(costUnderCommitment(decimal('500'), tier('1000', '0.1')))).toBe('1000')
    expect(decimalText(costUnderCommitment(decimal('2000'), tier('1000', '0.1')))).toBe('1800')
    expect(breakEvenSpend(tier('1000', '0'))).toBeUndefined()
  })
  it('pays from its break-even on, and the choice is never worse than none or any other', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 100_000 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 90_000 }), fc.constantFrom('0', '0.05', '0.2', '0.5')), {
          maxLength: 5,
        }),
        (spend, tiers) => {
          const offers = tiers.map(([commit, discount]) => tier(String(commit), discount))
          const usd = decimal(String(spend))
          const best = cheapestTier(usd, offers)
          expect(best.costUsd.lte(usd)).toBe(true)
          for (const offer of offers) {
            const cost = costUnderCommitment(usd, offer)
            expect(best.costUsd.lte(cost)).toBe(true)
            const even = breakEvenSpend(offer)
            expect(cost.lt(usd)).toBe(even?.lt(usd) ?? false)
          }
        },
      ),
    )
  })
})

describe('reviewCapacity', () => {
  it('finds how many of the owned units would have been enough, by weeks', () => {
    const WEEK_HOURS = 168
    const weeks = 4
    // 90 of 100 hours fill one unit; the second one is never needed.
    const demands = Array.from({ length: weeks * WEEK_HOURS }, (_, hour) =>
      demandOf(hour % 10 === 0 ? 0 : 60_000, hour % 10 === 0 ? '0' : '2', { startMs: hour * 3_600_000 }),
    )
    const owned = ownedCommitmentSchema.parse({
      id: 'o',
      kind: 'provisioned_throughput',
      provider: 'azure',
      model: 'gpt-4o',
      tokens_per_minute: 1000,
      price_per_hour: '1',
      units: 2,
      valid_from: '2026-01-01',
    })
    if (owned.kind !== 'provisioned_throughput') throw new Error('not provisioned')
    const review = reviewCapacity(owned, { startMs: 0, weeks, stretchMinutes: 60, demands })
    expect(review.best.units).toBe(1)
    expect(review.weeklyUsd.map(decimalText)).toEqual(['168', '168', '168', '168'])
    expect(review.saving && decimalText(review.saving.usd)).toBe('720')
    expect(decimalText(review.idleShare)).toMatch(/^0\.55/)
    expect(
      reviewCapacity(owned, { startMs: 0, weeks: 3, stretchMinutes: 60, demands: [] }).saving,
    ).toBeUndefined()
  })
})
