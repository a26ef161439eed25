import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal, decimalText } from './decimal.ts'
import { decimalOfUnits, SCALED_MAX, scaleOf, textOfUnits, unitsOf, unitsOfText } from './scaled.ts'

/** What plain decimals say of a whole number of 10^-scale. */
const plainly = (units: number, scale: number) =>
  decimal(String(units)).times(decimal(`1${scale === 0 ? '' : `e-${scale}`}`))

const units = fc.oneof(
  fc.nat(1000),
  fc.integer({ min: 0, max: SCALED_MAX }),
  fc.tuple(fc.nat(999), fc.nat(12)).map(([digits, zeros]) => digits * 10 ** zeros),
)
const scale = fc.nat(24)

describe('whole numbers of a small part of a dollar', () => {
  it('are the same decimal and the same text', () => {
    fc.assert(
      fc.property(units, scale, (count, places) => {
        const expected = plainly(count, places)
        const value = decimalOfUnits(count, places)
        expect(value.eq(expected)).toBe(true)
        expect([value.s, value.e, value.c]).toEqual([expected.s, expected.e, expected.c])
        expect(decimalText(value)).toBe(decimalText(expected))
        expect(textOfUnits(count, places)).toBe(decimalText(expected))
      }),
      { numRuns: 2000 },
    )
  })

  it('compute on as any decimal does', () => {
    fc.assert(
      fc.property(units, scale, units, scale, (a, aPlaces, b, bPlaces) => {
        const sum = decimalOfUnits(a, aPlaces).plus(decimalOfUnits(b, bPlaces))
        expect(decimalText(sum)).toBe(decimalText(plainly(a, aPlaces).plus(plainly(b, bPlaces))))
        const product = decimalOfUnits(a, aPlaces).times(decimalOfUnits(b, bPlaces))
        expect(decimalText(product)).toBe(decimalText(plainly(a, aPlaces).times(plainly(b, bPlaces))))
      }),
    )
  })

  it('are read from a decimal only without loss', () => {
    fc.assert(
      fc.property(units, scale, scale, (count, places, wanted) => {
        const value = plainly(count, places)
        const read = unitsOf(value, wanted)
        if (read === undefined) return
        expect(Number.isSafeInteger(read)).toBe(true)
        expect(plainly(read, wanted).eq(value)).toBe(true)
      }),
      { numRuns: 2000 },
    )
    fc.assert(
      fc.property(units, scale, scale, (count, places, wanted) => {
        const text = textOfUnits(count, places)
        const read = unitsOfText(text, wanted)
        if (read !== undefined) expect(textOfUnits(read, wanted)).toBe(text)
      }),
      { numRuns: 2000 },
    )
    expect(['0', '12', '0.15', '0.0000264'].map((text) => unitsOfText(text, 7))).toEqual([
      0, 120_000_000, 1_500_000, 264,
    ])
    expect(unitsOf(decimal('0.15'), 2)).toBe(15)
    expect(unitsOf(decimal('0.15'), 1)).toBeUndefined()
    expect(unitsOf(decimal('1000000000000'), 6)).toBeUndefined()
    expect(['0', '10', '0.1', '0.0105'].map((text) => scaleOf(decimal(text)))).toEqual([0, 0, 1, 4])
  })
})
