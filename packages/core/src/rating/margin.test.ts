import { expect, it } from 'vitest'
import { decimal } from '../money/decimal.ts'
import { marginOf } from './margin.ts'

it.each([
  ['1', '1.2', '0.2', '16.67'],
  ['1', '1', '0', '0'],
  ['0', '5', '5', '100'],
  ['2', '1', '-1', '-100'],
  ['1', '0', '-1', null],
  ['0', '0', '0', null],
  // Less than a hundredth of a percent
  ['0.99999', '1', '0.00001', '0'],
  ['0.000210000000001', '0.0002800000000000001', '0.0000699999999990001', '25'],
])('bought at %s and sold at %s leaves %s, %s %%', (list, sell, margin, marginPercent) => {
  expect(marginOf(decimal(list), decimal(sell))).toEqual({ margin, marginPercent })
})
