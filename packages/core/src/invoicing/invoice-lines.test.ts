import { describe, expect, it } from 'vitest'
import { billingProfileSchema } from './billing-profile.ts'
import { type DraftRequest, draftInvoice, type UsageSum } from './invoice-lines.ts'

const sumOf = (fields: Partial<UsageSum>): UsageSum => ({
  isLate: false,
  keys: { model: 'gpt-4o-mini' },
  events: 1,
  quantity: '10',
  listCostUsd: '1',
  sellCostUsd: '1',
  soldIn: 'USD',
  rate: null,
  rateDate: null,
  unpricedEvents: 0,
  ...fields,
})

const draft = (sums: readonly UsageSum[], profile: object = {}, rest: Partial<DraftRequest> = {}) =>
  draftInvoice({
    profile: billingProfileSchema.parse({ starts_on: '2026-01-01', ...profile }),
    startMs: Date.parse('2026-10-01T00:00:00Z'),
    sums,
    rate: undefined,
    carriedIn: '0',
    carriesOut: false,
    ...rest,
  })

const shown = (...parameters: Parameters<typeof draft>) =>
  draft(...parameters).lines.map(({ kind, description, amount }) => [kind, description, amount])

describe('the lines of an invoice', () => {
  it('tell usage apart by the keys of the profile, late usage last', () => {
    const keys = { model: 'gpt-4o-mini', feature: 'summarize' }
    const sums = [
      sumOf({ keys, isLate: true, events: 1 }),
      sumOf({ keys: { model: 'gpt-4o', feature: null }, events: 2 }),
      sumOf({ keys, events: 1203, soldIn: 'EUR', rate: '0.9', rateDate: '2026-10-02' }),
      sumOf({ keys, events: 1 }),
    ]
    expect(shown(sums, { lines_by: ['model', 'feature'] })).toEqual([
      ['usage', 'gpt-4o · no feature, 2 calls', '1'],
      ['usage', 'gpt-4o-mini · summarize, 1,204 calls', '2'],
      ['usage', 'gpt-4o-mini · summarize, 1 call (late usage before 2026-10-01)', '1'],
    ])
    expect(shown(sums, { lines_by: [] })).toHaveLength(2)
  })

  it('show units where they are by meter', () => {
    const sums = [sumOf({ keys: { meter: 'input_tokens' }, quantity: '1204000' })]
    expect(shown(sums, { lines_by: ['meter'] })).toEqual([['usage', 'input_tokens, 1,204,000 units', '1']])
  })

  it('keep the rates of events that were sold in the currency, and convert others at one', () => {
    const { lines, total } = draft(
      [
        sumOf({ soldIn: 'EUR', rate: '0.95', rateDate: '2026-10-03' }),
        sumOf({ soldIn: 'EUR', rate: '0.9', rateDate: '2026-10-02' }),
        sumOf({ soldIn: 'GBP', rate: '0.7', rateDate: '2026-10-02' }),
        sumOf({ sellCostUsd: '2' }),
      ],
      { currency: 'EUR' },
      { rate: { rate: '0.8', rateDate: '2026-10-30' } },
    )
    expect(lines[0]?.conversions).toEqual([
      { soldIn: 'EUR', rate: '0.9', rateDate: '2026-10-02', sellCostUsd: '1', amount: '0.9' },
      { soldIn: 'EUR', rate: '0.95', rateDate: '2026-10-03', sellCostUsd: '1', amount: '0.95' },
      { soldIn: 'GBP', rate: '0.8', rateDate: '2026-10-30', sellCostUsd: '1', amount: '0.8' },
      { soldIn: 'USD', rate: '0.8', rateDate: '2026-10-30', sellCostUsd: '2', amount: '1.6' },
    ])
    expect(total).toBe('4.25')
  })

  it('take the allowance, then the discount, then make up the minimum', () => {
    const sums = [sumOf({ sellCostUsd: '100' })]
    expect(shown(sums, { allowance: '20', discount: '0.1', minimum: '80' })).toEqual([
      ['usage', 'gpt-4o-mini, 1 call', '100'],
      ['allowance', 'Included usage', '-20'],
      ['discount', 'Discount of 10 %', '-8'],
      ['minimum', 'Minimum of 80 USD', '8'],
    ])
    expect(draft(sums, { allowance: '500', minimum: '7' }).total).toBe('7')
  })

  it('leave a credit a credit', () => {
    const sums = [sumOf({ sellCostUsd: '-5', isLate: true, events: -1 })]
    expect(shown(sums, { allowance: '20', discount: '0.1', minimum: '80' }).map(([kind]) => kind)).toEqual([
      'usage',
      'minimum',
    ])
    expect(draft(sums, { minimum: '80' }).total).toBe('75')
    expect(draft(sums)).toMatchObject({ total: '-5', reason: expect.stringContaining('negative') })
    expect(draft(sums, {}, { carriesOut: true })).toMatchObject({ total: '0', reason: null })
    expect(draft([sumOf({ sellCostUsd: '9' })], {}, { carriedIn: '-5' })).toMatchObject({
      total: '4',
      reason: null,
    })
  })

  it('are missing with a reason where they cannot be', () => {
    expect(draft([sumOf({})], { currency: 'EUR' })).toMatchObject({
      lines: [],
      reason: expect.stringContaining('No exchange rate from USD to EUR'),
    })
    expect(draft([sumOf({ sellCostUsd: '0' })], { currency: 'EUR' }).reason).toBeNull()
    expect(draft([], { system: 'stripe_meters' }).reason).toContain('stripe_customer_id')
  })

  it('tell of events without a price', () => {
    expect(draft([sumOf({ unpricedEvents: 1204 })])).toMatchObject({
      reason: null,
      unpricedEvents: 1204,
      notes: [expect.stringContaining('1,204 events have')],
    })
  })
})
