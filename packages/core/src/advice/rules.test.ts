import { describe, expect, it } from 'vitest'
import { decimal, decimalText } from '../money/decimal.ts'
import { buildPriceBook } from '../pricing/price-book.ts'
import type { PriceVersion } from '../pricing/price-version.ts'
import { batchEligible } from './batch-eligible.ts'
import type { CallGroup } from './call-group.ts'
import { cheaperModel } from './cheaper-model.ts'
import { cheaperProvider, hostsOfModels } from './cheaper-provider.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { DEFAULT_MODEL_ALTERNATIVES, modelAlternativesSchema } from './model-alternatives.ts'
import { promptCaching } from './prompt-caching.ts'
import { retriesAndErrors } from './retries-and-errors.ts'
import { serviceTier } from './service-tier.ts'

const AT = Date.UTC(2026, 10, 1)
const version = (
  provider: string,
  model: string,
  input: string,
  output: string,
  more: Partial<PriceVersion> = {},
): PriceVersion => ({
  id: `${provider} ${model} ${more.serviceTier ?? ''}`,
  organizationId: null,
  provider,
  model,
  match: { or: [{ equals: model }, { starts_with: `${model}-20` }] },
  effectiveFromMs: null,
  rates: { input_tokens: { per: 1, price: input }, output_tokens: { per: 1, price: output } },
  source: 'test',
  sequence: 1,
  ...more,
})
const BOOK = buildPriceBook(
  [
    version('openai', 'gpt-4o', '10', '40'),
    version('openai', 'gpt-4o', '17', '68', { serviceTier: 'priority' }),
    version('openai', 'gpt-4o-mini', '1', '4'),
    version('openai', 'gpt-oss-20b', '0.1', '0.1'),
    version('groq', 'openai/gpt-oss-20b', '3', '3'),
    version('together', 'gpt-oss-20b', '2', '5'),
    version('cursor', 'gpt-oss-20b', '0.1', '0.1'),
    version('anthropic', 'claude', '10', '10', {
      rates: {
        input_tokens: { per: 1, price: '4' },
        cache_read_tokens: { per: 1, price: '0.4' },
        cache_write_tokens: { per: 1, price: '5' },
      },
    }),
  ],
  1,
)
const context: AdviceContext = {
  organizationId: 'o',
  book: BOOK,
  atMs: AT,
  alternatives: DEFAULT_MODEL_ALTERNATIVES,
  hosts: hostsOfModels(BOOK, 'o', ['openai', 'groq', 'together', 'cursor'], AT),
}
const group = (more: Partial<CallGroup> = {}): CallGroup => ({
  scope: { dimension: 'feature', value: '/chat' },
  provider: 'openai',
  model: 'gpt-4o',
  responseModel: 'gpt-4o-2024-08-06',
  operation: 'chat',
  inputTokens: 1,
  isSmall: true,
  waiting: 'tagged',
  calls: 2,
  requests: 2,
  quantities: { input_tokens: 100, output_tokens: 10 },
  ...more,
})
const amounts = (findings: readonly Finding[]) =>
  findings.map(({ currentUsd, alternativeUsd }) => [decimalText(currentUsd), decimalText(alternativeUsd)])

describe('cheaperModel', () => {
  it('proposes what the table has for a snapshot, at its price', () => {
    const [found, ...rest] = cheaperModel(group(), context)
    expect(rest).toEqual([])
    expect(found).toMatchObject({
      subject: { provider: 'openai', model: 'gpt-4o' },
      alternative: { model: 'gpt-4o-mini' },
      calledAs: { provider: 'openai', model: 'gpt-4o' },
      events: 2,
    })
    expect(found && amounts([found])).toEqual([['1400', '140']])
  })
  it('says nothing of large calls, of models without an entry, and where the alternative has no price', () => {
    expect(cheaperModel(group({ isSmall: false }), context)).toEqual([])
    expect(cheaperModel(group({ model: 'gpt-4o-mini', responseModel: 'gpt-4o-mini' }), context)).toEqual([])
    const further = { input_tokens: 1, web_search_requests: 1 }
    expect(cheaperModel(group({ quantities: further }), context)).toEqual([])
  })
})

describe('batchEligible', () => {
  it('halves what nobody waited for', () => {
    expect(amounts(batchEligible(group(), context))).toEqual([['1400', '700']])
    expect(batchEligible(group({ waiting: 'guessed' }), context)).toMatchObject([{ isGuess: true }])
  })
  it.each([
    ['somebody waited', { waiting: 'yes' }],
    ['it is a batch already', { serviceTier: 'batch' }],
    ['no batch takes it', { operation: 'realtime' }],
    ['the host has no batches', { provider: 'together', model: 'gpt-oss-20b', responseModel: 'gpt-oss-20b' }],
  ] as const)('says nothing where %s', (_why, more) => {
    expect(batchEligible(group(more), context)).toEqual([])
  })
})

describe('serviceTier', () => {
  it('proposes the standard tier for a dearer one, not for a cheaper one', () => {
    expect(amounts(serviceTier(group({ serviceTier: 'priority' }), context))).toEqual([['2380', '1400']])
    expect(serviceTier(group({ serviceTier: 'flex' }), context)).toEqual([])
    expect(serviceTier(group({ serviceTier: 'priority', waiting: 'yes' }), context)).toEqual([])
    expect(serviceTier(group({ serviceTier: 'scale' }), context)).toEqual([])
    expect(serviceTier(group(), context)).toEqual([])
  })
})

describe('cheaperProvider', () => {
  it('proposes every other host that applications may call', () => {
    const at = { provider: 'groq', model: 'openai/gpt-oss-20b', responseModel: 'openai/gpt-oss-20b' }
    const found = cheaperProvider(group(at), context)
    expect(found.map(({ alternative }) => alternative)).toEqual([
      { provider: 'together', model: 'gpt-oss-20b' },
    ])
    expect(amounts(found)).toEqual([['330', '250']])
    expect(found).toMatchObject([{ isGuess: true }])
    expect(cheaperProvider(group({ ...at, serviceTier: 'flex' }), context)).toEqual([])
  })
})

describe('promptCaching', () => {
  it('writes what came first and reads what came again', () => {
    const claude = group({
      provider: 'anthropic',
      model: 'claude',
      responseModel: 'claude',
      quantities: { input_tokens: 1000 },
    })
    expect(amounts(promptCaching({ group: claude, repeatedTokens: 900 }, context))).toEqual([['4000', '860']])
  })
  it('saves nothing where caches have no price of their own', () => {
    const plain = group({ quantities: { input_tokens: 1000 } })
    expect(amounts(promptCaching({ group: plain, repeatedTokens: 900 }, context))).toEqual([
      ['10000', '10000'],
    ])
  })
})

it('retriesAndErrors: would have cost nothing', () => {
  const wasted = {
    scope: group().scope,
    provider: 'azure.ai.openai',
    model: 'm',
    calls: 3,
    listCostUsd: decimal('1.5'),
  }
  const found = retriesAndErrors(wasted)
  expect(amounts(found)).toEqual([['1.5', '0']])
  expect(found).toMatchObject([{ subject: { provider: 'azure', model: 'm' }, events: 3 }])
})

it('the table that an organization begins with is one that it could set', () => {
  expect(modelAlternativesSchema.parse(DEFAULT_MODEL_ALTERNATIVES)).toEqual(DEFAULT_MODEL_ALTERNATIVES)
  for (const { source, alternatives } of DEFAULT_MODEL_ALTERNATIVES) {
    expect(source).toMatch(/^https:\/\//)
    for (const { note } of alternatives) expect(note).toBeTruthy()
  }
})
