import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal, decimalText } from '../money/decimal.ts'
import { divideToSignificant, percentText } from '../money/divide.ts'
import { buildCurrencyBook, type CustomerCurrency, crossRate, type PublishedRate } from './currency-book.ts'

const ORGANIZATION = '0197a1b2-0000-7000-8000-000000000001'
const day = (text: string) => Date.parse(`${text}T00:00:00Z`)
const ecb = (date: string, currency: string, unitsPerEur: string): PublishedRate => ({
  organizationId: null,
  source: 'ecb',
  currency,
  validFromMs: day(date),
  unitsPerEur,
})
const pays = (currency: string, from = '2026-11-20', source = 'ecb'): CustomerCurrency => ({
  organizationId: ORGANIZATION,
  customer: 'acme',
  currency,
  source,
  effectiveFromMs: day(from),
})
/** Thursday, Friday, Monday; on Monday the pound was not published. */
const RATES = [
  ecb('2026-11-19', 'USD', '1.1000'),
  ecb('2026-11-19', 'GBP', '0.8800'),
  ecb('2026-11-20', 'USD', '1.0870'),
  ecb('2026-11-20', 'GBP', '0.8362'),
  ecb('2026-11-23', 'USD', '1.0905'),
]

describe('the currency of an event', () => {
  const at = (book: ReturnType<typeof buildCurrencyBook>, ts: string) =>
    book.conversion(ORGANIZATION, 'acme', Date.parse(ts))

  it('is converted by the last rate for its UTC day or before', () => {
    const book = buildCurrencyBook([pays('GBP')], RATES)
    const friday = { currency: 'GBP', rate: '0.7692732291', rateDate: '2026-11-20' }
    expect(at(book, '2026-11-19T23:59:59.999Z')).toEqual({
      currency: 'GBP',
      rate: '0.8',
      rateDate: '2026-11-19',
    })
    expect(at(book, '2026-11-20T00:00:00Z')).toEqual(friday)
    // Saturday and Sunday have no rate; Monday has none for the pound.
    expect(at(book, '2026-11-22T12:00:00Z')).toEqual(friday)
    expect(at(book, '2026-11-23T12:00:00Z')).toEqual(friday)
    expect(at(book, '2026-11-18T12:00:00Z')).toBeNull()
  })

  it('is the euro by the reciprocal of the dollar', () => {
    const book = buildCurrencyBook([pays('EUR')], RATES)
    expect(at(book, '2026-11-24T00:00:00Z')).toEqual({
      currency: 'EUR',
      rate: '0.9170105456',
      rateDate: '2026-11-23',
    })
  })

  it('is the first one for everything before, and each later one from its time on', () => {
    const book = buildCurrencyBook(
      [pays('EUR', '2026-11-20'), pays('USD', '2026-11-22'), pays('GBP', '2026-11-24')],
      RATES,
    )
    expect(at(book, '2026-11-19T12:00:00Z')?.currency).toBe('EUR')
    expect(at(book, '2026-11-21T23:59:59Z')?.currency).toBe('EUR')
    expect(at(book, '2026-11-22T00:00:00Z')).toBeNull()
    expect(at(book, '2026-11-24T00:00:00Z')?.currency).toBe('GBP')
  })

  it('is by the rates of its source alone', () => {
    const desk = (ts: string, currency: string, unitsPerEur: string) => ({
      organizationId: ORGANIZATION,
      source: 'desk',
      currency,
      validFromMs: Date.parse(ts),
      unitsPerEur,
    })
    const book = buildCurrencyBook(
      [pays('GBP', '2026-11-20', 'desk')],
      [...RATES, desk('2026-11-20T09:30:00Z', 'USD', '1.25'), desk('2026-11-20T09:30:00Z', 'GBP', '1')],
    )
    expect(at(book, '2026-11-20T09:29:59Z')).toBeNull()
    expect(at(book, '2026-11-20T09:30:00Z')).toEqual({ currency: 'GBP', rate: '0.8', rateDate: '2026-11-20' })
  })

  it("is by the organization's own rate where it has one, and never by another's", () => {
    const own = { ...ecb('2026-11-20', 'GBP', '1.087'), organizationId: ORGANIZATION }
    const foreign = { ...ecb('2026-11-23', 'GBP', '2'), organizationId: 'another' }
    const book = buildCurrencyBook([pays('GBP')], [own, foreign, ...RATES])
    expect(at(book, '2026-11-23T12:00:00Z')).toEqual({ currency: 'GBP', rate: '1', rateDate: '2026-11-20' })
    expect(at(book, '2026-11-19T12:00:00Z')?.rate).toBe('0.8')
  })

  it('is US dollars for everybody else', () => {
    const book = buildCurrencyBook([pays('GBP')], RATES)
    expect(book.conversion(ORGANIZATION, 'beta', day('2026-11-20'))).toBeNull()
    expect(book.conversion(ORGANIZATION, undefined, day('2026-11-20'))).toBeNull()
    expect(book.conversion('another', 'acme', day('2026-11-20'))).toBeNull()
  })
})

describe('division', () => {
  it.each([
    ['1', '3', 10, '0.3333333333'],
    ['2', '3', 10, '0.6666666667'],
    ['1', '8', 2, '0.12'],
    ['3', '8', 2, '0.38'],
    ['161.84', '1.087', 10, '148.8868445'],
    ['999999', '1000000', 3, '1'],
    ['17345.2', '1.087', 4, '15960'],
    ['1', '1000', 3, '0.001'],
  ])('%s by %s to %i digits is %s', (a, b, digits, expected) => {
    expect(decimalText(divideToSignificant(decimal(a), decimal(b), digits))).toBe(expected)
  })

  const rate = fc.tuple(fc.integer({ min: 1, max: 9_999_999 }), fc.integer({ min: 0, max: 6 }))
  const text = ([units, places]: readonly [number, number]) => decimalText(decimal(`${units}e-${places}`))

  it('is never further from the exact quotient than half of its last digit', () => {
    fc.assert(
      fc.property(rate, rate, (a, b) => {
        const rounded = decimal(crossRate(text(a), text(b)))
        // |rounded × b − a| ≤ b × half a unit of the tenth significant digit, without dividing
        const error = rounded
          .times(decimal(text(b)))
          .minus(decimal(text(a)))
          .abs()
        const unit = decimal(`1e${rounded.e - 9}`)
        expect(error.times(decimal('2')).lte(unit.times(decimal(text(b))))).toBe(true)
      }),
    )
  })

  it('of a share is in percent, half to even', () => {
    expect(percentText(decimal('1'), decimal('3'), 2)).toBe('33.33')
    expect(percentText(decimal('0.2'), decimal('1.2'), 2)).toBe('16.67')
    expect(percentText(decimal('-1'), decimal('2'), 2)).toBe('-50')
    expect(percentText(decimal('0.00005'), decimal('1'), 2)).toBe('0')
    expect(percentText(decimal('0.00015'), decimal('1'), 2)).toBe('0.02')
    expect(() => percentText(decimal('1'), decimal('0'), 2)).toThrow(RangeError)
  })
})
