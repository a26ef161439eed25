import { describe, expect, it } from 'vitest'
import { mayBeginAt, rivalsOf } from './backdating.ts'
import { callMultiplier } from './call-multiplier.ts'
import { modelMatcher } from './model-match.ts'
import { modelPatternMatch } from './model-pattern.ts'
import { buildPriceBook, type CallCircumstances } from './price-book.ts'
import type { PriceVersion } from './price-version.ts'
import { regionMultiplier } from './region-prices.ts'

const ACME = '0197a1b2-0000-7000-8000-00000000ac3e'
const NOW = Date.UTC(2026, 5, 1)
const DAY = 86_400_000

let entered = 0
function version(id: string, more: Partial<PriceVersion> = {}): PriceVersion {
  entered += 1
  return {
    id,
    organizationId: null,
    provider: 'openai',
    model: 'gpt-x',
    match: { or: [{ equals: 'gpt-x' }, { equals: 'gpt-x-2026-01-01' }] },
    effectiveFromMs: null,
    rates: { input_tokens: { per: 1_000_000, price: '2' } },
    source: 'test',
    sequence: entered,
    ...more,
  }
}
const own = (id: string, more: Partial<PriceVersion> = {}) =>
  version(id, { organizationId: ACME, match: { equals: 'gpt-x' }, effectiveFromMs: NOW, ...more })
const discount = (id: string, fraction: string, pattern: string, more: Partial<PriceVersion> = {}) =>
  own(id, { model: pattern, match: modelPatternMatch(pattern), discount: fraction, rates: {}, ...more })

function find(
  versions: readonly PriceVersion[],
  call: CallCircumstances = {},
  tsMs = NOW + DAY,
  names: readonly string[] = ['gpt-x'],
  provider = 'openai',
) {
  return buildPriceBook(versions, 1).find(ACME, provider, names, tsMs, call)
}

describe('a price for some calls alone', () => {
  const list = version('list')
  const any = own('any', { effectiveFromMs: NOW + 1 })

  it.each<[string, Partial<PriceVersion>, CallCircumstances, CallCircumstances]>([
    ['a tier', { serviceTier: 'priority' }, { serviceTier: 'Priority' }, { serviceTier: 'default' }],
    ['the standard tier, by any of its names', { serviceTier: 'default' }, {}, { serviceTier: 'flex' }],
    ['a region', { region: 'eu' }, { region: 'EU' }, { region: 'us' }],
    ['a customer', { customer: 'globex' }, { customer: 'globex' }, { customer: 'Globex' }],
    [
      'requests up to a size',
      { inputTokensMax: 100, effectiveFromMs: NOW + 2 },
      { quantities: { input_tokens: 100 } },
      { quantities: { input_tokens: 101 } },
    ],
  ])('is for %s, though another began later', (_name, conditions, meets, misses) => {
    const versions = [list, own('some', conditions), any]
    expect(find(versions, meets)?.id).toBe('some')
    expect(find(versions, misses)?.id).toBe('any')
  })

  it('of a customer goes before one of a region or a tier, and before another name', () => {
    const versions = [
      own('region', { region: 'eu' }),
      own('tier', { serviceTier: 'flex' }),
      discount('pattern', '0.1', 'gpt-*', { customer: 'globex' }),
    ]
    const call = { customer: 'globex', region: 'eu', serviceTier: 'flex' }
    expect(find([list, ...versions], call)?.id).toBe('pattern')
    expect(find([list, ...versions], { region: 'eu', serviceTier: 'flex' })?.id).toBe('tier')
  })

  it('of two that begin together the one with hours holds at its hours', () => {
    const versions = [own('base', { sequence: 9_001 }), own('night', { sequence: 9_000 })]
    const night = { ...versions[1], timeOfDay: { startUtc: '22:00:00', endUtc: '06:00:00' } }
    const both = [versions[0] ?? list, { ...own('x'), ...night }]
    expect(find(both, {}, NOW + 23 * 3_600_000)?.id).toBe('night')
    expect(find(both, {}, NOW + 12 * 3_600_000)?.id).toBe('base')
  })
})

describe("the catalogue's price of a tier", () => {
  const fast = version('fast', { serviceTier: 'priority', match: { equals: 'gpt-x' } })
  const later = version('later')

  it('is for that tier, whichever was entered last, and for its own names', () => {
    expect(find([fast, later], { serviceTier: 'priority' })?.id).toBe('fast')
    expect(find([fast, later])?.id).toBe('later')
    expect(find([fast, later], { serviceTier: 'priority' }, NOW, ['gpt-x-2026-01-01'])?.id).toBe('later')
  })

  it("is not that of who resells the provider's models", () => {
    const call = { serviceTier: 'priority' }
    expect(find([fast, later], call, NOW, ['gpt-x'], 'azure')?.id).toBe('later')
  })

  it('is not multiplied by the tier', () => {
    expect(callMultiplier(fast, { provider: 'openai', serviceTier: 'priority' })).toBe('1')
    expect(callMultiplier(later, { provider: 'openai', serviceTier: 'priority' })).toBeUndefined()
    expect(callMultiplier(later, { provider: 'openai', serviceTier: 'batch' })).toBe('0.5')
  })
})

describe('a discount', () => {
  const list = version('list', {
    rates: {
      input_tokens: { per: 1_000_000, price: '2.5', tiers: [{ aboveInputTokens: 100, price: '5' }] },
      web_search_requests: { per: 1000, price: '10' },
    },
  })
  const tenPercent = discount('ten', '0.1', 'gpt-*')

  it("is taken off every rate of the catalogue's price, exactly, from its beginning on", () => {
    expect(find([list, tenPercent], {}, NOW)).toMatchObject({
      id: 'ten',
      organizationId: ACME,
      model: 'gpt-x',
      rates: {
        input_tokens: { price: '2.25', tiers: [{ aboveInputTokens: 100, price: '4.5' }] },
        web_search_requests: { price: '9' },
      },
    })
    expect(find([list, tenPercent], {}, NOW - 1)?.id).toBe('list')
  })

  it('follows the catalogue, and its tiers', () => {
    const dearer = version('dearer', {
      effectiveFromMs: NOW + 1,
      rates: { input_tokens: { per: 1_000_000, price: '4' } },
    })
    const fast = version('fast', {
      serviceTier: 'priority',
      rates: { input_tokens: { per: 1_000_000, price: '8' } },
    })
    expect(find([list, tenPercent, dearer])?.rates['input_tokens']?.price).toBe('3.6')
    expect(find([list, tenPercent, fast], { serviceTier: 'priority' })).toMatchObject({
      serviceTier: 'priority',
      rates: { input_tokens: { price: '7.2' } },
    })
  })

  it('goes behind a price of the very name, and the longer pattern before the shorter', () => {
    expect(find([list, tenPercent, own('rates')])?.id).toBe('rates')
    expect(find([list, discount('all', '0.5', '*'), tenPercent])?.id).toBe('ten')
  })

  it("holds for a snapshot whose model's name fits", () => {
    const named = discount('named', '0.2', 'gpt-x')
    expect(find([list, named], {}, NOW, ['gpt-x-2026-01-01'])?.id).toBe('named')
  })

  it('of what the catalogue does not list is none: another own price stands', () => {
    expect(find([discount('d', '0.2', '*'), own('rates')], {}, NOW, ['gpt-x'])?.id).toBe('rates')
    expect(find([discount('d', '0.2', '*')], {}, NOW, ['gpt-x'])).toBeUndefined()
  })

  it('is the same version each time, so that its unit prices are computed once', () => {
    const book = buildPriceBook([list, tenPercent], 1)
    const find = () => book.find(ACME, 'openai', ['gpt-x'], NOW)
    expect(find()).toBe(find())
  })

  it('shows among the models of its provider', () => {
    const book = buildPriceBook([list, tenPercent], 1)
    expect(book.ofProvider(ACME, 'openai', NOW)).toMatchObject([
      { id: 'ten', model: 'gpt-x', rates: { web_search_requests: { price: '9' } } },
    ])
  })
})

it.each([
  ['gpt-4o*', 'gpt-4o-mini', true],
  ['gpt-4o*', 'gpt-4', false],
  ['*-mini', 'gpt-4o-mini', true],
  ['*', '', true],
  ['claude-*-4.5*', 'claude-opus-4.5-x', true],
  ['claude-*-4.5*', 'claude-opus-4x5', false],
  ['GPT-*(beta)*', 'gpt-5(beta)1', true],
])('the pattern %s and %s: %s', (pattern, name, fits) => {
  expect(modelMatcher(modelPatternMatch(pattern))(name)).toBe(fits)
})

describe('a region', () => {
  it.each([
    ['gcp.vertex_ai', 'europe-west1', 'claude-sonnet-4-5', '1.1'],
    ['gcp.vertex_ai', 'europe-west1', 'claude-opus-5', '1.1'],
    ['gcp.vertex_ai', 'global', 'claude-sonnet-4-5', '1'],
    ['gcp.vertex_ai', 'us-east5', 'claude-4-sonnet', '1'],
    ['gcp.vertex_ai', 'us-east5', 'gemini-2.5-pro', '1'],
    ['openai', 'eu', 'gpt-5.4', '1.1'],
    ['openai', 'eu', 'gpt-5', '1'],
    ['openai', 'us-east-1', 'gpt-5.4', '1'],
    ['aws.bedrock', 'eu-west-1', 'global.anthropic.claude-sonnet-4-5-20250929-v1:0', '1'],
  ])('of %s, %s, multiplies prices of %s by %s', (provider, region, model, multiplier) => {
    expect(regionMultiplier(provider, region, model)).toBe(multiplier)
  })

  it('multiplies list prices and discounts off them, not own rates; with another tier it is not known', () => {
    const call = { provider: 'openai', region: 'eu' }
    const list = version('list', { model: 'gpt-5.4' })
    expect(callMultiplier(list, call)).toBe('1.1')
    expect(callMultiplier({ ...list, organizationId: ACME, discount: '0.1' }, call)).toBe('1.1')
    expect(callMultiplier({ ...list, organizationId: ACME }, call)).toBe('1')
    expect(callMultiplier(list, { ...call, serviceTier: 'flex' })).toBeUndefined()
  })
})

describe('when a price for some calls may begin', () => {
  const list = version('list')

  it('in the past only where nothing could price these calls', () => {
    expect(rivalsOf([list], 'openai', { serviceTier: 'priority' })).toEqual([])
    expect(rivalsOf([list], 'openai', { serviceTier: 'flex' })).toEqual([list])
    expect(rivalsOf([list], 'openai', { customer: 'globex' })).toEqual([list])
    const theirs = own('theirs', { customer: 'initech' })
    expect(rivalsOf([theirs], 'openai', { customer: 'globex' })).toEqual([])
    expect(rivalsOf([theirs], 'openai', {})).toEqual([theirs])
  })

  it('never before one that it would go before', () => {
    const general = own('general', { effectiveFromMs: NOW - DAY })
    expect(mayBeginAt([general], NOW - 2 * DAY, NOW, true)).toBe(false)
    expect(mayBeginAt([general], NOW, NOW, true)).toBe(true)
  })
})
