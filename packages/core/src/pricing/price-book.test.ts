import { describe, expect, it } from 'vitest'
import { defaultStart, mayBeginAt } from './backdating.ts'
import { modelMatcher, withDashedDate } from './model-match.ts'
import { buildPriceBook } from './price-book.ts'
import type { PriceVersion } from './price-version.ts'

const ACME = '0197a1b2-0000-7000-8000-00000000ac3e'
const OTHER = '0197a1b2-0000-7000-8000-0000000000e2'
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
    rates: {},
    source: 'test',
    sequence: entered,
    ...more,
  }
}

const find = (
  versions: readonly PriceVersion[],
  provider: string,
  models: string[],
  tsMs = NOW,
  org = ACME,
) => buildPriceBook(versions, 1).find(org, provider, models, tsMs)?.id

describe('which price applies', () => {
  it('the model that answered decides, then the one that was asked for', () => {
    const versions = [version('x'), version('y', { model: 'gpt-y', match: { equals: 'gpt-y' } })]
    expect(find(versions, 'openai', ['gpt-y', 'gpt-x'])).toBe('y')
    expect(find(versions, 'openai', ['gpt-unknown', 'gpt-x'])).toBe('x')
    expect(find(versions, 'openai', ['gpt-unknown'])).toBeUndefined()
  })

  it('names are compared in any case, and dates with or without dashes', () => {
    expect(find([version('x')], 'OpenAI', [' GPT-X '])).toBe('x')
    expect(find([version('x')], 'openai', ['gpt-x-20260101'])).toBe('x')
    expect(withDashedDate('gpt-x-20260231')).toBe('gpt-x-20260231')
  })

  it.each([
    ['azure.ai.openai', 'azure'],
    ['gcp.vertex_ai', 'google'],
    ['aws.bedrock', 'aws'],
    ['x_ai', 'x-ai'],
    ['mistral_ai', 'mistral'],
  ])('%s is priced as %s', (name, provider) => {
    expect(find([version('x', { provider })], name, ['gpt-x'])).toBe('x')
  })

  it('Azure has the price of OpenAI where it has none of its own', () => {
    const openai = version('openai')
    const azure = version('azure', { provider: 'azure' })
    expect(find([openai], 'azure', ['gpt-x'])).toBe('openai')
    expect(find([openai, azure], 'azure', ['gpt-x'])).toBe('azure')
  })

  it('of two models that fit the name the first by id is taken', () => {
    const versions = [
      version('long', { model: 'gpt-x-long', match: { starts_with: 'gpt-x' } }),
      version('short', { model: 'gpt-x', match: { starts_with: 'gpt' } }),
    ]
    expect(find(versions, 'openai', ['gpt-x-long'])).toBe('short')
  })

  it('a start date is the first moment of the new price', () => {
    const versions = [version('old'), version('new', { effectiveFromMs: NOW })]
    expect(find(versions, 'openai', ['gpt-x'], NOW - 1)).toBe('old')
    expect(find(versions, 'openai', ['gpt-x'], NOW)).toBe('new')
  })

  it('hours of the day are UTC, the end excluded, also over midnight', () => {
    const versions = [
      version('day'),
      version('night', { timeOfDay: { startUtc: '16:30:00', endUtc: '00:30:00' } }),
    ]
    const at = (hour: number, minute: number) =>
      find(versions, 'openai', ['gpt-x'], NOW + (hour * 60 + minute) * 60_000)
    expect([at(16, 29), at(16, 30), at(0, 29), at(0, 30)]).toEqual(['day', 'night', 'night', 'day'])
  })

  it('the last entered of the catalogue wins, by date or by hour', () => {
    const versions = [
      version('base'),
      version('dated', { effectiveFromMs: NOW }),
      version('morning', { timeOfDay: { startUtc: '01:00:00', endUtc: '04:00:00' } }),
    ]
    expect(find(versions, 'openai', ['gpt-x'], NOW + 2 * 3_600_000)).toBe('morning')
    expect(find(versions, 'openai', ['gpt-x'], NOW + 5 * 3_600_000)).toBe('dated')
  })

  it('a name that the newest price no longer covers has no price from then on', () => {
    const versions = [
      version('wide'),
      version('narrow', { match: { equals: 'gpt-x' }, effectiveFromMs: NOW }),
    ]
    expect(find(versions, 'openai', ['gpt-x-2026-01-01'], NOW - 1)).toBe('wide')
    expect(find(versions, 'openai', ['gpt-x-2026-01-01'], NOW)).toBeUndefined()
    expect(find(versions, 'openai', ['gpt-x'], NOW)).toBe('narrow')
  })
})

describe("an organization's own price", () => {
  const own = version('own', { organizationId: ACME, match: { equals: 'gpt-x' }, effectiveFromMs: NOW })
  const catalogue = version('list')

  it('wins over the catalogue for that organization alone', () => {
    expect(find([catalogue, own], 'openai', ['gpt-x'])).toBe('own')
    expect(find([catalogue, own], 'openai', ['gpt-x'], NOW, OTHER)).toBe('list')
    expect(find([catalogue, own], 'openai', ['gpt-x'], NOW - 1)).toBe('list')
  })

  it("covers the snapshots of the catalogue's model of that name", () => {
    expect(find([catalogue, own], 'openai', ['gpt-x-2026-01-01'])).toBe('own')
  })

  it('applies by its date, not by the order in which prices were set', () => {
    const later = { ...own, id: 'later', effectiveFromMs: NOW + DAY }
    const sooner = { ...own, id: 'sooner', effectiveFromMs: NOW, sequence: later.sequence + 1 }
    expect(find([later, sooner], 'openai', ['gpt-x'], NOW + DAY)).toBe('later')
    expect(find([later, sooner], 'openai', ['gpt-x'], NOW)).toBe('sooner')
  })

  it('can price a provider without models', () => {
    const gpu = version('gpu', { organizationId: ACME, provider: 'acme', model: '', match: { equals: '' } })
    expect(find([gpu], 'acme', [])).toBe('gpu')
  })

  it('appears among the models of its provider', () => {
    const book = buildPriceBook([catalogue, own], 1)
    expect(book.ofProvider(ACME, 'openai', NOW).map(({ id }) => id)).toEqual(['own'])
    expect(book.ofProvider(OTHER, 'openai', NOW).map(({ id }) => id)).toEqual(['list'])
    expect(book.ofProvider(ACME, 'nobody', NOW)).toEqual([])
  })
})

describe('when a new price may begin', () => {
  it('at any time for a model without a price', () => {
    expect(mayBeginAt([], null, NOW)).toBe(true)
    expect(mayBeginAt([], NOW - DAY, NOW)).toBe(true)
    expect(defaultStart([], NOW)).toBeNull()
  })

  it('now or later for a model that has one', () => {
    expect(mayBeginAt([version('x')], NOW - 1, NOW)).toBe(false)
    expect(mayBeginAt([version('x')], NOW, NOW)).toBe(true)
    expect(defaultStart([version('x')], NOW)).toBe(NOW)
  })

  it('in the past only as long as it ends before what was rated', () => {
    const own = version('own', { organizationId: ACME, effectiveFromMs: NOW - DAY })
    const list = version('list', { effectiveFromMs: NOW - DAY })
    expect(mayBeginAt([own], NOW - 2 * DAY, NOW)).toBe(true)
    expect(mayBeginAt([own], NOW - DAY / 2, NOW)).toBe(false)
    expect(mayBeginAt([list], NOW - 2 * DAY, NOW)).toBe(false)
  })
})

it('matches as genai-prices does', () => {
  const matches = modelMatcher({
    and: [{ contains: 'Claude' }, { or: [{ ends_with: '-v1' }, { regex: '^claude-\\d$' }] }],
  })
  expect(['claude-v1', 'claude-2', 'claude-2-x', 'gpt-v1'].map((name) => matches(name))).toEqual([
    true,
    true,
    false,
    false,
  ])
})
