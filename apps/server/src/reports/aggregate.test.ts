import { describe, expect, it } from 'vitest'
import { moneyText } from './aggregate.ts'

describe('money in reports', () => {
  it.each([
    ['0', '0'],
    ['100', '100'],
    ['0.0000000000', '0'],
    ['1.2300', '1.23'],
    ['10.0', '10'],
    ['0.00000000000015', '0.00000000000015'],
  ])('%s is shown as %s', (stored, shown) => {
    expect(moneyText(stored)).toBe(shown)
  })
})
