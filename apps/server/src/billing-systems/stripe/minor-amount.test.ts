import { decimal, invoiceDigits } from '@tokentally/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { amountOfStripe, stripeAmount } from './minor-amount.ts'

test.each([
  ['10', 'USD', 1000],
  ['0.01', 'EUR', 1],
  ['-12.5', 'EUR', -1250],
  ['500', 'JPY', 500],
  ['5', 'ISK', 500],
  ['5', 'UGX', 500],
  ['5.12', 'KWD', 5120],
  ['0', 'XOF', 0],
  ['999999999999.99', 'USD', 99_999_999_999_999],
])('%s %s is %i', (amount, currency, units) => {
  expect(stripeAmount(amount, currency)).toBe(units)
  expect(decimal(amountOfStripe(units, currency)).eq(decimal(amount))).toBe(true)
})

test.each([
  ['0.001', 'USD'],
  ['0.5', 'JPY'],
  ['5.124', 'KWD'],
  ['5.5', 'ISK'],
  ['999999999999999', 'USD'],
])('%s %s cannot be told', (amount, currency) => {
  expect(() => stripeAmount(amount, currency)).toThrow(RangeError)
})

test('every amount that an invoice can show can be told, and sums stay sums', () => {
  const currencies = ['USD', 'JPY', 'ISK', 'UGX', 'KWD', 'HUF', 'TWD', 'MGA']
  fc.assert(
    fc.property(
      fc.constantFrom(...currencies.filter((one) => one !== 'MGA')),
      fc.array(fc.integer({ min: -1_000_000_000, max: 1_000_000_000 }), { minLength: 1, maxLength: 20 }),
      (currency, units) => {
        const smallest = invoiceDigits(currency) === 0 ? '1' : '0.01'
        const amounts = units.map((unit) => decimal(String(unit)).times(decimal(smallest)))
        const sum = amounts.reduce((one, other) => one.plus(other))
        const told = amounts.map((amount) => stripeAmount(amount.toFixed(), currency))
        expect(told.reduce((one, other) => one + other, 0)).toBe(stripeAmount(sum.toFixed(), currency))
      },
    ),
  )
})
