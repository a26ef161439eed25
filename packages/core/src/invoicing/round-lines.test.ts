import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import { roundLines, roundTo } from './round-lines.ts'

const texts = (amounts: readonly Decimal[]) => amounts.map(decimalText)
const sum = (amounts: readonly Decimal[]) => amounts.reduce((total, amount) => total.plus(amount), ZERO)

/** Amounts of up to twelve digits after the point, also negative. */
const amounts = fc.array(
  fc.bigInt({ min: -(10n ** 15n), max: 10n ** 15n }).map((units) => decimal(`${units}e-12`)),
  { maxLength: 40 },
)
const digits = fc.constantFrom(0, 2)

describe('rounding lines', () => {
  it.each([
    [['0.333', '0.333', '0.334'], 2, ['0.33', '0.33', '0.34']],
    [['0.005', '0.005'], 2, ['0.01', '0']],
    [['0.005'], 2, ['0']],
    [['0.015'], 2, ['0.02']],
    [['-0.004', '0.004'], 2, ['0', '0']],
    [['-0.006', '-0.006'], 2, ['0', '-0.01']],
    [['1.5', '1.5'], 0, ['2', '1']],
  ])('%j to %i digits', (exact, places, expected) => {
    const { amounts: rounded } = roundLines(exact.map(decimal), places)
    expect(texts(rounded)).toEqual(expected)
  })

  it('adds up to the exact sum rounded half to even, and moves no line by a whole unit', () => {
    fc.assert(
      fc.property(amounts, digits, (exact, places) => {
        const { total, amounts: rounded } = roundLines(exact, places)
        expect(sum(rounded).eq(total)).toBe(true)
        expect(
          total
            .minus(sum(exact))
            .abs()
            .lte(decimal(`5e-${places + 1}`)),
        ).toBe(true)
        for (const [index, amount] of rounded.entries()) {
          expect(
            amount
              .minus(exact[index] ?? ZERO)
              .abs()
              .lt(decimal(`1e-${places}`)),
          ).toBe(true)
        }
        // The larger remainder is not passed over for a smaller one.
        const unit = decimal(`1e-${places}`)
        const remainders = exact.map((amount, index) => {
          const up = (rounded[index] ?? ZERO).gt(amount)
          const remainder = amount.minus((rounded[index] ?? ZERO).minus(up ? unit : ZERO))
          return { up, remainder }
        })
        const least = remainders.filter(({ up }) => up).map(({ remainder }) => remainder)
        const most = remainders.filter(({ up }) => !up).map(({ remainder }) => remainder)
        for (const a of least) for (const b of most) expect(a.gte(b)).toBe(true)
      }),
    )
  })

  it('hands a rounded line out over the rows that it is made of, whichever way it was rounded', () => {
    fc.assert(
      fc.property(
        fc.array(
          amounts.filter(({ length }) => length > 0),
          { minLength: 1, maxLength: 6 },
        ),
        digits,
        (lines, places) => {
          const { amounts: rounded } = roundLines(lines.map(sum), places)
          for (const [index, rows] of lines.entries()) {
            const total = rounded[index] ?? ZERO
            expect(sum(roundTo(total, rows, places)).eq(total)).toBe(true)
          }
        },
      ),
    )
  })

  it('refuses a total that is none of these amounts', () => {
    expect(() => roundTo(decimal('2'), [decimal('0.5')], 0)).toThrow(RangeError)
    expect(() => roundTo(decimal('0'), [decimal('1')], 0)).toThrow(RangeError)
  })
})
