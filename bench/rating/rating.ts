import {
  buildMarkupBook,
  buildPriceBook,
  type MarkupRuleVersion,
  NO_CURRENCIES,
  NO_MARKUPS,
  type PriceVersion,
  parseUsageEvent,
  type RatingBook,
  rate,
  sell,
  type UsageEvent,
} from '@tokentally/core'
import { bundledCatalogue } from '@tokentally/prices'
import { type BenchOptions, type Comparison, compare } from '../figures.ts'
import { newEvent } from '../ingest/events.ts'

const ORGANIZATION = '0197a1b2-0000-7000-8000-000000000001'
const RULES = 200

/**
 * Rating on one core: the list cost of an event by the whole catalogue, and its sell cost with 200 markup rules of all
 * kinds; beside the same without rules. Events are those of the ingest bench: 200 customers, 5 models, 10
 * features, three lines each.
 */
export async function ratingBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const nowMs = Date.now()
  const events = Array.from({ length: isQuick ? 20_000 : 200_000 }, (_, index) => eventOf(index, nowMs))
  const prices = buildPriceBook(await cataloguePrices(), 1)
  const without: RatingBook = { revision: 1, prices, markups: NO_MARKUPS, currencies: NO_CURRENCIES }
  const withRules: RatingBook = { ...without, markups: buildMarkupBook(markupRules()) }
  const pairs: { ours: number; rival: number }[] = []
  for (let round = -2; round < (isQuick ? 3 : 10); round++) {
    const ours = eventsPerSecond(events, withRules, true)
    const rival = eventsPerSecond(events, without, false)
    progress(
      `${Math.round(ours).toLocaleString('en-US')} events/s, without rules ${Math.round(rival).toLocaleString('en-US')}`,
    )
    if (round >= 0) pairs.push({ ours, rival })
  }
  return [
    compare(
      {
        name: `rating with ${RULES} markup rules, one core`,
        unit: 'events/s',
        rivalName: 'without rules',
        bar: '200,000 events/s',
        aim: '1,000,000 events/s',
      },
      pairs,
    ),
  ]
}

function eventsPerSecond(events: readonly UsageEvent[], book: RatingBook, hasRules: boolean): number {
  let sold = 0
  // CPU time, not the clock's: "on one core" must not depend on who else computes.
  const start = process.cpuUsage()
  for (const event of events) {
    const rating = rate(ORGANIZATION, event, book.prices)
    const sale = sell(ORGANIZATION, event, rating, book)
    if (rating.lines.length > 0 && (sale.markupRuleId !== null) === hasRules) sold++
  }
  const { user, system } = process.cpuUsage(start)
  const seconds = (user + system) / 1_000_000
  if (sold !== events.length) throw new Error(`${sold} of ${events.length} events were sold as they should`)
  return events.length / seconds
}

function eventOf(index: number, nowMs: number): UsageEvent {
  const parsed = parseUsageEvent(newEvent(index, nowMs), { nowMs, newEventId: () => 'none' })
  if (!parsed.ok) throw new Error('an event of the bench is not valid')
  return parsed.event
}

async function cataloguePrices(): Promise<readonly PriceVersion[]> {
  const catalogue = await bundledCatalogue()
  return catalogue.flatMap((model, index) =>
    model.prices.map((price, position) => ({
      id: `${index}-${position}`,
      organizationId: null,
      provider: model.provider,
      model: model.model,
      match: model.match,
      effectiveFromMs: price.startMs,
      timeOfDay: price.timeOfDay,
      rates: price.rates,
      source: 'bench',
      sequence: index * 100 + position,
    })),
  )
}

/** One for everybody, some for features, models and tags, the rest for customers; every second one has a minimum. */
function markupRules(): readonly MarkupRuleVersion[] {
  return Array.from({ length: RULES }, (_, index): MarkupRuleVersion => {
    const match =
      index === 0
        ? {}
        : index < 5
          ? { feature: ['chat', 'search', 'mail', 'sql'][index - 1] ?? 'chat' }
          : index < 8
            ? { model: ['gpt-4o*', 'claude-*', 'gpt-4.1'][index - 5] ?? '*' }
            : index < 10
              ? { tags: { plan: `plan-${index}` } }
              : { customer: `customer-${index}` }
    const basis = (
      [
        { kind: 'markup', markup: '0.2' },
        { kind: 'discount', discount: '0.125' },
        { kind: 'prices', prices: { input_tokens: { price: '3', per: 1_000_000 } } },
        { kind: 'list' },
      ] as const
    )[index % 4] ?? { kind: 'list' }
    return {
      id: `rule-${index}`,
      match,
      terms: { basis, minimum: index % 2 === 0 ? null : '0.0001' },
      versionId: `0197a1b2-0000-7000-8000-${String(index).padStart(12, '0')}`,
      organizationId: ORGANIZATION,
      version: 1,
      enteredMs: 0,
      fromMs: 0,
      untilMs: null,
      isRemoval: false,
    }
  })
}
