import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  allRuleSpans,
  buildMarkupBook,
  buildPriceBook,
  decimal,
  decimalText,
  type MarkupRuleVersion,
  type MarkupTerms,
  type PriceVersion,
  planRules,
  type RuleMatch,
  rate,
  type UsageEvent,
  ZERO,
} from '../index.ts'
import { comparablePattern, fitsPattern, patternsOverlap } from './model-pattern.ts'
import { findTies } from './precedence.ts'

const ORGANIZATION = '0197a1b2-0000-7000-8000-000000000001'
const T0 = Date.UTC(2026, 10, 24)

const PRICE: PriceVersion = {
  id: 'p',
  organizationId: null,
  provider: 'openai',
  model: 'gpt-4o',
  match: { starts_with: 'gpt' },
  effectiveFromMs: null,
  rates: {
    input_tokens: { per: 1_000_000, price: '2.5' },
    cache_read_tokens: { per: 1_000_000, price: '1.25' },
    output_tokens: { per: 1_000_000, price: '10' },
    web_search_requests: { per: 1000, price: '10' },
  },
  source: 'test',
  sequence: 1,
}
const prices = buildPriceBook([PRICE], 1)

function version(id: string, match: RuleMatch, more: Partial<MarkupRuleVersion> = {}): MarkupRuleVersion {
  return {
    id,
    match,
    terms: { basis: { kind: 'markup', markup: '0.2' }, minimum: null },
    versionId: `${id}-1`,
    organizationId: ORGANIZATION,
    version: 1,
    enteredMs: T0,
    fromMs: T0,
    untilMs: null,
    isRemoval: false,
    ...more,
  }
}

function call(more: Partial<UsageEvent> = {}): UsageEvent {
  return {
    eventId: 'e',
    tsMs: T0,
    provider: 'openai',
    model: 'gpt-4o',
    operation: 'chat',
    quantities: { input_tokens: 1000 },
    status: 'ok',
    streamed: false,
    estimated: false,
    ...more,
  }
}

const smallText = fc.stringMatching(/^[ab]{1,3}$/)
const pattern = fc.stringMatching(/^[ab*]{1,5}$/).map(comparablePattern)
const name = fc.stringMatching(/^[ab]{0,7}$/)

describe('patterns of models', () => {
  const asRegExp = (text: string) => new RegExp(`^${text.replaceAll('*', '.*')}$`)

  it('fit what the same regular expression fits', () => {
    fc.assert(
      fc.property(pattern, name, (one, text) => {
        expect(fitsPattern(one, text)).toBe(asRegExp(one).test(text))
      }),
      { numRuns: 2000 },
    )
  })

  it('overlap exactly when some name fits both', () => {
    // Two patterns of up to five characters that overlap do so on a name of at most their literals together.
    const names = ['']
    for (let from = 0; names[from] !== undefined && (names[from]?.length ?? 0) < 8; from++) {
      names.push(`${names[from]}a`, `${names[from]}b`)
    }
    fc.assert(
      fc.property(pattern, pattern, (a, b) => {
        const common = names.some((text) => asRegExp(a).test(text) && asRegExp(b).test(text))
        expect([a, b, patternsOverlap(a, b)]).toEqual([a, b, common])
      }),
      { numRuns: 1000 },
    )
  })
})

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })
const matchArbitrary: fc.Arbitrary<RuleMatch> = fc
  .record({
    provider: maybe(fc.constantFrom('openai', 'azure')),
    model: maybe(fc.oneof(pattern, smallText)),
    customer: maybe(fc.constantFrom('acme', 'umbrella')),
    feature: maybe(fc.constantFrom('chat', 'search')),
    tags: maybe(
      fc.dictionary(fc.constantFrom('plan', 'region'), fc.constantFrom('x', 'y'), { minKeys: 1, maxKeys: 2 }),
    ),
  })
  .map(
    ({ provider, model, customer, feature, tags }): RuleMatch => ({
      ...(provider !== undefined && { provider }),
      ...(model !== undefined && { model }),
      ...(customer !== undefined && { customer }),
      ...(feature !== undefined && { feature }),
      ...(tags !== undefined && { tags }),
    }),
  )

const eventArbitrary = fc
  .record({
    provider: fc.constantFrom('openai', 'azure', 'azure.ai.openai', 'groq'),
    model: maybe(smallText),
    responseModel: maybe(smallText),
    customer: maybe(fc.constantFrom('acme', 'umbrella', 'other')),
    feature: maybe(fc.constantFrom('chat', 'search', 'other')),
    tags: maybe(fc.dictionary(fc.constantFrom('plan', 'region', 'own'), fc.constantFrom('x', 'y'))),
    tsMs: fc.integer({ min: T0, max: T0 + 20 }),
  })
  .map(({ provider, model, responseModel, customer, feature, tags, tsMs }): UsageEvent => {
    const { model: _, ...event } = call({ provider, tsMs })
    return {
      ...event,
      ...(model !== undefined && { model }),
      ...(responseModel !== undefined && { responseModel }),
      ...(customer !== undefined && { customer }),
      ...(feature !== undefined && { feature }),
      ...(tags !== undefined && { tags }),
    }
  })

const versionsArbitrary = fc
  .array(
    fc.record({ match: matchArbitrary, from: fc.nat(20), length: maybe(fc.integer({ min: 1, max: 10 })) }),
    { maxLength: 30 },
  )
  .map((rules) => {
    // As the service does: what would tie with what is there already is not taken.
    const taken: MarkupRuleVersion[] = []
    for (const [index, { match, from, length }] of rules.entries()) {
      const rule = version(`rule-${index}`, match, {
        fromMs: T0 + from,
        untilMs: length === undefined ? null : T0 + from + length,
      })
      if (findTies(allRuleSpans([...taken, rule]), new Set([rule.id])).length === 0) taken.push(rule)
    }
    return taken
  })

/** Whether a rule matches, said as plainly as can be. */
function matchesPlainly({ match }: MarkupRuleVersion, event: UsageEvent, model: string | undefined): boolean {
  const provider = event.provider === 'azure.ai.openai' ? 'azure' : event.provider
  return (
    (match.provider === undefined || match.provider === provider) &&
    (match.customer === undefined || match.customer === event.customer) &&
    (match.feature === undefined || match.feature === event.feature) &&
    Object.entries(match.tags ?? {}).every(([key, value]) => event.tags?.[key] === value) &&
    (match.model === undefined ||
      (model !== undefined && new RegExp(`^${match.model.replaceAll('*', '.*')}$`).test(model)))
  )
}

/** The order of precedence as text that sorts: customer, feature, tags, model, provider. */
function rankText({ match }: MarkupRuleVersion): string {
  const literals = match.model?.replaceAll('*', '').length ?? 0
  const model =
    match.model === undefined
      ? '0'
      : match.model.includes('*')
        ? `1${String(literals).padStart(3, '0')}`
        : '2'
  return [
    match.customer === undefined ? 0 : 1,
    match.feature === undefined ? 0 : 1,
    Object.keys(match.tags ?? {}).length,
    model,
    match.provider === undefined ? 0 : 1,
  ].join(' ')
}

describe('the rule that applies', () => {
  it('is the most specific one in force that matches, the model that answered before the one asked for', () => {
    fc.assert(
      fc.property(versionsArbitrary, fc.array(eventArbitrary, { maxLength: 20 }), (versions, events) => {
        const book = buildMarkupBook(versions)
        for (const event of events) {
          const names = [event.responseModel, event.model].filter((one) => one !== undefined)
          const matching = versions
            .filter(({ fromMs, untilMs }) => fromMs <= event.tsMs && event.tsMs < (untilMs ?? Infinity))
            .flatMap((rule) => {
              const at = (names.length === 0 ? [undefined] : names).findIndex((one) =>
                matchesPlainly(rule, event, one),
              )
              return at === -1 ? [] : [{ rule, key: `${rankText(rule)} ${at === 0 ? 1 : 0}` }]
            })
            .sort((a, b) => (a.key < b.key ? 1 : -1))
          expect(book.find(ORGANIZATION, event, event.tsMs)?.id).toBe(matching[0]?.rule.id)
          // No ties were taken: the winner is the only one of its rank.
          if (matching.length > 1 && matching[0]?.rule.match.model === undefined) {
            expect(matching[1]?.key).not.toBe(matching[0]?.key)
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  it('is that of the organization alone', () => {
    const book = buildMarkupBook([version('a', {})])
    expect(book.find(ORGANIZATION, call(), T0)?.id).toBe('a')
    expect(book.find('other', call(), T0)).toBeUndefined()
  })
})

describe('ties', () => {
  const ties = (a: Partial<MarkupRuleVersion>, b: Partial<MarkupRuleVersion>) =>
    findTies(
      allRuleSpans([version('a', a.match ?? {}, a), version('b', b.match ?? {}, b)]),
      new Set(['b']),
    ).map(({ otherRuleId }) => otherRuleId)

  it.each<[string, Partial<MarkupRuleVersion>, Partial<MarkupRuleVersion>, boolean]>([
    ['two rules for everything', {}, {}, true],
    ['the same model', { match: { model: 'gpt-4o' } }, { match: { model: 'gpt-4o' } }, true],
    ['two models', { match: { model: 'gpt-4o' } }, { match: { model: 'o3' } }, false],
    ['a model and a pattern for it', { match: { model: 'gpt-4o' } }, { match: { model: 'gpt*' } }, false],
    ['equally long patterns', { match: { model: 'gpt-4*' } }, { match: { model: '*-mini' } }, true],
    ['patterns without a common name', { match: { model: 'gpt*' } }, { match: { model: 'o3-*' } }, false],
    ['two tags', { match: { tags: { plan: 'x' } } }, { match: { tags: { region: 'y' } } }, true],
    ['two values of a tag', { match: { tags: { plan: 'x' } } }, { match: { tags: { plan: 'y' } } }, false],
    ['two customers', { match: { customer: 'a' } }, { match: { customer: 'b' } }, false],
    ['a customer and a feature', { match: { customer: 'a' } }, { match: { feature: 'b' } }, false],
    ['one after the other', { untilMs: T0 + 5 }, { fromMs: T0 + 5 }, false],
    ['one before the other ends', { untilMs: T0 + 6 }, { fromMs: T0 + 5 }, true],
  ])('%s', (_, a, b, isTie) => {
    expect(ties(a, b)).toEqual(isTie ? ['a'] : [])
  })
})

describe('versions', () => {
  const spansOf = (...versions: Partial<MarkupRuleVersion>[]) =>
    allRuleSpans(versions.map((one, index) => version('a', {}, { version: index + 1, ...one }))).map(
      (span) => [span.version.version, span.startMs - T0, span.endMs - T0],
    )

  it.each<[string, Partial<MarkupRuleVersion>[], unknown]>([
    [
      'the next one ends the one before',
      [{}, { enteredMs: T0 + 1, fromMs: T0 + 5 }],
      [
        [1, 0, 5],
        [2, 5, Infinity],
      ],
    ],
    [
      'one that has not begun is replaced',
      [{}, { fromMs: T0 + 5 }, { enteredMs: T0 + 1, fromMs: T0 + 9 }],
      [
        [1, 0, 9],
        [3, 9, Infinity],
      ],
    ],
    [
      'removal ends what is in force and what was planned',
      [{}, { fromMs: T0 + 5 }, { enteredMs: T0 + 1, fromMs: T0 + 1, isRemoval: true }],
      [[1, 0, 1]],
    ],
    [
      'what ended by itself does not come back',
      [{}, { enteredMs: T0 + 1, fromMs: T0 + 2, untilMs: T0 + 3 }],
      [
        [1, 0, 2],
        [2, 2, 3],
      ],
    ],
  ])('%s', (_, versions, expected) => {
    expect(spansOf(...versions)).toEqual(expected)
  })

  it('change nothing before they are entered', () => {
    const edits = fc.array(
      fc.record({
        wait: fc.nat(5),
        delay: fc.nat(5),
        length: maybe(fc.integer({ min: 1, max: 5 })),
        isRemoval: fc.boolean(),
      }),
      { minLength: 1, maxLength: 8 },
    )
    fc.assert(
      fc.property(edits, (all) => {
        let enteredMs = T0
        const versions = all.map(({ wait, delay, length, isRemoval }, index) => {
          enteredMs += wait
          const fromMs = isRemoval ? enteredMs : enteredMs + delay
          const untilMs = length === undefined || isRemoval ? null : fromMs + length
          return version(
            'a',
            {},
            {
              versionId: `v${index}`,
              version: index + 1,
              enteredMs,
              fromMs,
              untilMs,
              isRemoval,
            },
          )
        })
        const last = versions.at(-1)
        const before = buildMarkupBook(versions.slice(0, -1))
        const after = buildMarkupBook(versions)
        for (let at = T0; at < (last?.enteredMs ?? 0); at++) {
          const event = call({ tsMs: at })
          expect(after.find(ORGANIZATION, event, at)).toEqual(before.find(ORGANIZATION, event, at))
        }
      }),
    )
  })
})

const amountText = fc
  .tuple(fc.nat(99), fc.nat(999_999))
  .map(([whole, fraction]) => decimalText(decimal(`${whole}.${String(fraction).padStart(6, '0')}`)))
const fraction = fc
  .nat(1_000_000)
  .map((millionths) => decimalText(decimal(BigInt(millionths)).times(decimal('0.000001'))))
const basis: fc.Arbitrary<MarkupTerms['basis']> = fc.oneof(
  fc.constant({ kind: 'list' as const }),
  amountText.map((markup) => ({ kind: 'markup' as const, markup })),
  fraction.map((discount) => ({ kind: 'discount' as const, discount })),
  amountText.map((price) => ({ kind: 'price_per_request' as const, price })),
  fc.record({ input: amountText, requests: maybe(amountText) }).map(({ input, requests }) => ({
    kind: 'prices' as const,
    prices: {
      input_tokens: { price: input, per: 1000 as const },
      ...(requests !== undefined && { requests: { price: requests, per: 1 as const } }),
    },
  })),
)
const terms: fc.Arbitrary<MarkupTerms> = fc.record({
  basis,
  minimum: fc.option(amountText, { nil: null }),
})
const quantities = fc
  .record({
    input_tokens: fc.integer({ min: 1, max: 5_000_000 }),
    cached: fc.nat(100),
    output_tokens: fc.nat(100_000),
    web_search_requests: fc.nat(10),
  })
  .map(({ input_tokens, cached, output_tokens, web_search_requests }) => ({
    input_tokens,
    cache_read_tokens: Math.floor((input_tokens * cached) / 100),
    output_tokens,
    web_search_requests,
  }))

/** An amount as a whole number of 10^-30 dollars. */
const units = (text: string): bigint => {
  const [whole = '', digits = ''] = text.split('.')
  return BigInt(whole + digits.padEnd(30, '0'))
}
const UNIT = 10n ** 30n

describe('the sell cost', () => {
  const sold = (rule: MarkupTerms, event: UsageEvent) => {
    const rating = rate(ORGANIZATION, event, prices)
    const book = buildMarkupBook([version('a', {}, { terms: rule })])
    return { rating, sale: book.apply(ORGANIZATION, event, rating)?.sellCostUsd ?? ZERO }
  }

  it('is exact to the last digit: the same in whole numbers', () => {
    fc.assert(
      fc.property(terms, quantities, (rule, all) => {
        const { rating, sale } = sold(rule, call({ quantities: all }))
        const list = units(decimalText(rating.listCostUsd))
        let expected = list
        switch (rule.basis.kind) {
          case 'markup':
            expected = (list * (UNIT + units(rule.basis.markup))) / UNIT
            break
          case 'discount':
            expected = (list * (UNIT - units(rule.basis.discount))) / UNIT
            break
          case 'price_per_request':
            expected = units(rule.basis.price)
            break
          case 'prices':
            expected =
              (units(rule.basis.prices['input_tokens']?.price ?? '0') * BigInt(all.input_tokens)) / 1000n +
              units(rule.basis.prices['requests']?.price ?? '0') +
              units('0.00001') * BigInt(all.output_tokens) +
              units('0.01') * BigInt(all.web_search_requests)
        }
        const least = units(rule.minimum ?? '0')
        expect(units(decimalText(sale))).toBe(expected < least ? least : expected)
      }),
    )
  })

  it('of an event that was priced in two parts is that of the whole', () => {
    fc.assert(
      fc.property(terms, quantities, fc.nat(4), (rule, all, cut) => {
        const event = call({ quantities: all })
        const { rating, sale } = sold(rule, event)
        const book = buildMarkupBook([version('a', {}, { terms: rule })])
        const part = (lines: typeof rating.lines) => ({
          lines,
          listCostUsd: lines.reduce((sum, line) => sum.plus(decimal(line.costUsd)), ZERO),
        })
        const earlier = part(rating.lines.slice(0, cut))
        const rest = part(rating.lines.slice(cut))
        const first = book.apply(ORGANIZATION, event, { ...rating, ...earlier })?.sellCostUsd ?? ZERO
        const second = book.apply(ORGANIZATION, event, { ...rating, ...rest, earlier })?.sellCostUsd ?? ZERO
        expect(second.lt(ZERO)).toBe(false)
        expect(decimalText(first.plus(second))).toBe(decimalText(sale))
      }),
    )
  })

  it('of a failed call is nothing, by no rule', () => {
    const event = call({ status: 'error' })
    const book = buildMarkupBook([version('a', {}, { terms: { basis: { kind: 'list' }, minimum: '1' } })])
    expect(book.apply(ORGANIZATION, event, rate(ORGANIZATION, event, prices))).toBeUndefined()
  })

  it('of what has no list price is nothing yet', () => {
    const { sale } = sold({ basis: { kind: 'list' }, minimum: '1' }, call({ model: 'unknown' }))
    expect(decimalText(sale)).toBe('0')
  })
})

describe('a plan', () => {
  it('never takes rules that tie, whatever is asked for', () => {
    const drafts = fc.array(fc.record({ match: matchArbitrary, id: fc.constantFrom('a', 'b', 'c', 'd') }), {
      maxLength: 4,
    })
    fc.assert(
      fc.property(fc.array(drafts, { maxLength: 6 }), (steps) => {
        let versions: readonly MarkupRuleVersion[] = []
        let count = 0
        for (const [step, wishes] of steps.entries()) {
          const distinct = [...new Map(wishes.map((wish) => [wish.id, wish])).values()]
          const plan = planRules({
            organizationId: ORGANIZATION,
            versions,
            drafts: distinct.map(({ id, match }) => ({
              rule: { id, match, terms: { basis: { kind: 'list' }, minimum: '1' } },
              fromMs: undefined,
              untilMs: null,
            })),
            removals: [],
            nowMs: T0 + step,
            newVersionId: () => `v${count++}`,
          })
          if (plan.problems.length > 0) continue
          versions = [
            ...versions,
            ...plan.changes.flatMap(({ kind, after }) => (kind === 'unchanged' ? [] : [after])),
          ]
          const spans = allRuleSpans(versions)
          expect(findTies(spans, new Set(spans.map((span) => span.version.id)))).toEqual([])
        }
      }),
    )
  })
})
