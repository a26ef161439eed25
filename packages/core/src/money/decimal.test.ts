import { expect, it } from 'vitest'
import { decimal, decimalText, ZERO } from './decimal.ts'

it('zero has no sign, wherever it comes from', () => {
  const zeros = [decimal('-0'), ZERO.times(decimal('-1')), decimal('-2').plus(decimal('2')), decimal('-0.00')]
  expect(zeros.map(decimalText)).toEqual(['0', '0', '0', '0'])
})
