import { describe, expect, it } from 'vitest'
import { decimal, ZERO } from '../money/decimal.ts'
import { buildPriceBook } from '../pricing/price-book.ts'
import type { PriceVersion } from '../pricing/price-version.ts'
import { rate } from '../rating/rate.ts'
import type { UsageEvent } from '../usage/usage-event.ts'
import { adviseOnCalls } from './advise-on-calls.ts'
import type { CallGroup } from './call-group.ts'
import { hostsOfModels } from './cheaper-provider.ts'
import { commitmentOfferSchema } from './commitment-offers.ts'
import type { AdviceContext, AdviceKind, Finding } from './finding.ts'
import { promptCaching } from './prompt-caching.ts'
import { cheapestChoice, type Demand, reservedChoices, withUnits } from './reserved-capacity.ts'
import { retriesAndErrors } from './retries-and-errors.ts'
import { MONTH_DAYS } from './saving-interval.ts'
import { AdviceTally } from './tally.ts'
import { weeklyInterval } from './weekly-interval.ts'

/**
 * The bar of advice: what was claimed on four weeks of traffic is held against the 30 days that follow, with the advice
 * carried out call by call and each call rated anew.
 */

const SEEDS = 100
const TRAIN_DAYS = 28
/** Of how many seeds the claim must come true. Intervals are of 95 %. */
const INSIDE_MIN = 0.9

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const START = Date.UTC(2026, 5, 3)

const price = (text: string) => ({ per: 1_000_000, price: text }) as const
const version = (provider: string, model: string, rates: PriceVersion['rates']): PriceVersion => ({
  id: `${provider} ${model}`,
  organizationId: null,
  provider,
  model,
  match: { equals: model },
  effectiveFromMs: null,
  rates,
  source: 'test',
  sequence: 1,
})
const BOOK = buildPriceBook(
  [
    version('openai', 'big', {
      input_tokens: price('250'),
      cache_read_tokens: price('25'),
      output_tokens: price('1000'),
    }),
    version('openai', 'small', { input_tokens: price('15'), output_tokens: price('60') }),
    {
      ...version('openai', 'big', { input_tokens: price('425'), output_tokens: price('1700') }),
      id: 'fast',
      serviceTier: 'priority',
    },
    version('groq', 'meta/big', { input_tokens: price('100'), output_tokens: price('300') }),
  ],
  1,
)

/** A stream of numbers in [0, 1) that is the same for a seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
const normal = (random: () => number) =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

/** Business of days: fewer calls at weekends, and good and bad days that come in runs. */
function* days(random: () => number): Generator<number> {
  let drift = 0
  for (let day = 0; ; day++) {
    drift = 0.3 * drift + 0.15 * normal(random)
    yield Math.round(60 * (day % 7 > 4 ? 0.4 : 1) * Math.exp(drift))
  }
}

/** One call, with what its advice is about. */
interface SimulatedCall {
  readonly event: UsageEvent
  readonly isRepeat: boolean
}

function callOf(random: () => number, day: number, serviceTier: string): SimulatedCall {
  const isAborted = random() < 0.2
  const isRepeat = random() < 0.6
  return {
    event: {
      eventId: '',
      tsMs: START + day * DAY_MS,
      provider: 'openai',
      model: 'big',
      operation: 'chat',
      serviceTier,
      status: isAborted ? 'aborted' : 'ok',
      streamed: false,
      estimated: false,
      quantities: {
        input_tokens: Math.min(2000, Math.round(1100 * Math.exp(0.3 * normal(random)))),
        output_tokens: Math.min(500, Math.round(150 * Math.exp(0.5 * normal(random)))),
      },
    },
    isRepeat,
  }
}

const context: AdviceContext = {
  organizationId: 'o',
  book: BOOK,
  atMs: START,
  alternatives: [{ provider: 'openai', model: 'big', alternatives: [{ model: 'small' }] }],
  hosts: hostsOfModels(BOOK, 'o', ['openai', 'groq'], START),
}
const SCOPE = { dimension: 'organization', value: null } as const

function groupOf(calls: readonly SimulatedCall[], serviceTier: string): CallGroup {
  const sum = (meter: string) => calls.reduce((total, { event }) => total + (event.quantities[meter] ?? 0), 0)
  return {
    scope: SCOPE,
    provider: 'openai',
    model: 'big',
    operation: 'chat',
    serviceTier,
    inputTokens: 1,
    isSmall: true,
    waiting: 'tagged',
    calls: calls.length,
    requests: calls.length,
    quantities: { input_tokens: sum('input_tokens'), output_tokens: sum('output_tokens') },
  }
}

const cost = (event: UsageEvent) => rate('o', event, BOOK).listCostUsd
const costOf = (events: readonly UsageEvent[]) => events.reduce((sum, event) => sum.plus(cost(event)), ZERO)

const findCaching = (calls: readonly SimulatedCall[]): readonly Finding[] => {
  const prompts = calls.map(({ event: { quantities } }) => quantities['input_tokens'] ?? 0)
  const input = prompts.reduce((sum, tokens) => sum + tokens, 0)
  const repeated = calls.reduce((sum, { isRepeat }, at) => sum + (isRepeat ? (prompts[at] ?? 0) : 0), 0)
  const group = { ...groupOf(calls, 'default'), quantities: { input_tokens: input } }
  return promptCaching({ group, repeatedTokens: repeated }, context)
}

/** How each kind of advice is found in a day's calls, and what a call becomes when it is followed. */
const KINDS: readonly {
  readonly kind: AdviceKind
  readonly tier?: string
  readonly find?: (calls: readonly SimulatedCall[]) => readonly Finding[]
  readonly follow: (call: SimulatedCall) => UsageEvent | undefined
}[] = [
  { kind: 'cheaper_model', follow: ({ event }) => ({ ...event, model: 'small' }) },
  { kind: 'batch_eligible', follow: ({ event }) => ({ ...event, serviceTier: 'batch' }) },
  { kind: 'cheaper_provider', follow: ({ event }) => ({ ...event, provider: 'groq', model: 'meta/big' }) },
  { kind: 'service_tier', tier: 'priority', follow: ({ event }) => ({ ...event, serviceTier: 'default' }) },
  {
    kind: 'prompt_caching',
    find: findCaching,
    follow: ({ event, isRepeat }) => ({
      ...event,
      quantities: {
        ...event.quantities,
        cache_read_tokens: isRepeat ? (event.quantities['input_tokens'] ?? 0) : 0,
      },
    }),
  },
  {
    kind: 'retries_and_errors',
    find: (calls) => {
      const wasted = calls.filter(({ event }) => event.status === 'aborted')
      const listCostUsd = costOf(wasted.map(({ event }) => event))
      return retriesAndErrors({
        scope: SCOPE,
        provider: 'openai',
        model: 'big',
        calls: wasted.length,
        listCostUsd,
      })
    },
    follow: ({ event }) => (event.status === 'aborted' ? undefined : event),
  },
]

describe('a saving that is claimed', () => {
  it.each(KINDS)(
    'comes true on the traffic that follows: $kind',
    ({ kind, tier = 'default', find, follow }) => {
      let claimed = 0
      let inside = 0
      for (let seed = 1; seed <= SEEDS; seed++) {
        const random = randomOf(seed * 7919)
        const tally = new AdviceTally(TRAIN_DAYS)
        let actual = ZERO
        let day = 0
        for (const count of days(random)) {
          const calls = Array.from({ length: count }, () => callOf(random, day, tier))
          if (day < TRAIN_DAYS) {
            tally.add(day, find?.(calls) ?? adviseOnCalls(groupOf(calls, tier), context))
          } else {
            const followed = calls.map(follow).filter((event) => event !== undefined)
            actual = actual.plus(costOf(calls.map(({ event }) => event))).minus(costOf(followed))
          }
          if (++day === TRAIN_DAYS + MONTH_DAYS) break
        }
        const advice = tally.advice().find((one) => one.kind === kind)
        if (advice === undefined) continue
        claimed++
        if (actual.gte(advice.saving.lowUsd) && actual.lte(advice.saving.highUsd)) inside++
      }
      expect(claimed).toBeGreaterThanOrEqual(0.9 * SEEDS)
      expect(inside / claimed).toBeGreaterThanOrEqual(INSIDE_MIN)
    },
  )

  it('comes true on the traffic that follows: reserved capacity, and units given back', () => {
    const offer = commitmentOfferSchema.parse({
      id: 'o',
      kind: 'provisioned_throughput',
      provider: 'azure',
      model: 'big',
      tokens_per_minute: 1000,
      price_per_hour: '2',
    })
    if (offer.kind !== 'provisioned_throughput') throw new Error('not provisioned')
    const WEEKS = 8
    let inside = { bought: 0, givenBack: 0 }
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = randomOf(seed * 104_729)
      const history: Demand[] = []
      let day = 0
      for (const count of days(random)) {
        for (let hour = 0; hour < 24; hour++) {
          const shape = hour < 7 ? 0.2 : 1
          const inputTokens = Math.round(count * 5000 * shape * Math.exp(0.2 * normal(random)))
          const onDemandUsd = decimal(String(inputTokens)).times(decimal('0.00006'))
          history.push({
            startMs: START + day * DAY_MS + hour * HOUR_MS,
            inputTokens,
            cachedTokens: 0,
            outputTokens: 0,
            onDemandUsd,
          })
        }
        if (++day === WEEKS * 7 + MONTH_DAYS) break
      }
      const hours = (demands: readonly Demand[]) => ({ stretchMinutes: 60, hours: demands.length })
      const train = history.slice(0, WEEKS * 7 * 24)
      const units = cheapestChoice(reservedChoices(train, offer, hours(train)))?.units ?? 0
      expect(units).toBeGreaterThan(0)
      const saving = (demands: readonly Demand[], before: number) =>
        withUnits(demands, offer, before, hours(demands)).totalUsd.minus(
          withUnits(demands, offer, units, hours(demands)).totalUsd,
        )
      const isInside = (before: number) => {
        const weekly = Array.from({ length: WEEKS }, (_, week) =>
          saving(train.slice(week * 168, (week + 1) * 168), before),
        )
        const claim = weeklyInterval(weekly)
        const actual = saving(history.slice(train.length), before)
        return claim !== undefined && actual.gte(claim.lowUsd) && actual.lte(claim.highUsd) ? 1 : 0
      }
      inside = { bought: inside.bought + isInside(0), givenBack: inside.givenBack + isInside(units + 4) }
    }
    expect(inside.bought / SEEDS).toBeGreaterThanOrEqual(INSIDE_MIN)
    expect(inside.givenBack / SEEDS).toBeGreaterThanOrEqual(INSIDE_MIN)
  })
})
