import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal, decimalText, ZERO } from '../money/decimal.ts'
import type { Finding } from './finding.ts'
import { savingInterval } from './saving-interval.ts'
import { AdviceTally } from './tally.ts'

const finding = (usd: string, more: Partial<Finding> = {}): Finding => ({
  kind: 'cheaper_model',
  scope: { dimension: 'feature', value: '/chat' },
  subject: { provider: 'openai', model: 'big' },
  alternative: { model: 'small' },
  calledAs: { provider: 'openai', model: 'big' },
  events: 100,
  currentUsd: decimal(usd),
  alternativeUsd: ZERO,
  priceVersionIds: ['a'],
  isGuess: false,
  ...more,
})

function adviceAfter(days: number, daily: (day: number) => readonly Finding[]) {
  const tally = new AdviceTally(days)
  for (let day = 0; day < days; day++) tally.add(day, daily(day))
  return tally.advice()
}

describe('savingInterval', () => {
  it('of days that are all alike is 30 times a day, without doubt', () => {
    const interval = savingInterval(Array.from({ length: 28 }, () => decimal('0.1')))
    expect(interval && [interval.usd, interval.lowUsd, interval.highUsd].map(decimalText)).toEqual([
      '3',
      '3',
      '3',
    ])
  })
  it('is there from a week on', () => {
    expect(savingInterval(Array.from({ length: 6 }, () => ZERO))).toBeUndefined()
  })
  it('contains its middle, and scales with the amounts', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 7, maxLength: 40 }), (cents) => {
        const one = savingInterval(cents.map((cent) => decimal(String(cent))))
        const ten = savingInterval(cents.map((cent) => decimal(String(10 * cent))))
        if (one === undefined || ten === undefined) throw new Error('no interval')
        expect(one.lowUsd.lte(one.usd) && one.usd.lte(one.highUsd)).toBe(true)
        expect(
          ten.lowUsd
            .minus(one.lowUsd.times(decimal('10')))
            .abs()
            .lt(decimal('0.001')),
        ).toBe(true)
      }),
    )
  })
})

describe('advice', () => {
  it('says what was found, and the best of several proposals', () => {
    const [first, ...rest] = adviceAfter(28, () => [
      finding('0.1'),
      finding('0.2', { alternative: { model: 'smallest' }, priceVersionIds: ['b'] }),
    ])
    expect(rest).toEqual([])
    expect(first).toMatchObject({
      alternative: { model: 'smallest' },
      confidence: 'high',
      events: 2800,
      priceVersionIds: ['b'],
    })
    expect(first && decimalText(first.saving.usd)).toBe('6')
    expect(first?.others.map(({ alternative }) => alternative)).toEqual([{ model: 'small' }])
  })
  it('is silent about little money, few calls, short histories, and days that differ too much', () => {
    expect(adviceAfter(28, () => [finding('0.01')])).toEqual([])
    expect(adviceAfter(28, () => [finding('1', { events: 2 })])).toEqual([])
    expect(adviceAfter(13, () => [finding('1')])).toEqual([])
    expect(adviceAfter(28, (day) => (day === 11 ? [finding('100', { events: 5000 })] : []))).toEqual([])
    expect(adviceAfter(28, () => [finding('0', { alternativeUsd: decimal('5') })])).toEqual([])
  })
  it('is less sure of a guess, and of a shorter history', () => {
    expect(adviceAfter(28, () => [finding('1', { isGuess: true })])[0]?.confidence).toBe('medium')
    expect(adviceAfter(14, () => [finding('1')])[0]?.confidence).toBe('medium')
  })
})
