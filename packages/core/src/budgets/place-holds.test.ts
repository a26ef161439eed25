import fc from 'fast-check'
import { expect, it } from 'vitest'
import { decimal, ZERO } from '../money/decimal.ts'
import { type HardLimit, placeHolds } from './place-holds.ts'

const amount = fc
  .integer({ min: 0, max: 1_000_000 })
  .map((units) => decimal(BigInt(units)).times(decimal('0.0001')))
const limit = fc.record({
  limitUsd: amount,
  spentUsd: amount,
  heldUsd: amount,
  basis: fc.constantFrom('list' as const, 'sell' as const),
})

it('never grants more than a limit has left, and refuses only what would', () => {
  fc.assert(
    fc.property(
      fc.array(limit, { minLength: 1, maxLength: 4 }),
      fc.array(fc.record({ listUsd: amount, sellUsd: amount, under: fc.array(fc.nat(3), { maxLength: 4 }) })),
      (limits, asked) => {
        const holds = asked.map(({ under, ...hold }) => ({
          ...hold,
          limits: [...new Set(under)].flatMap((index) => limits[index] ?? []),
        }))
        const total = new Map<HardLimit, ReturnType<typeof decimal>>()
        const left = (one: HardLimit) =>
          one.limitUsd
            .minus(one.spentUsd)
            .minus(one.heldUsd)
            .minus(total.get(one) ?? ZERO)
        const amountIn = (one: HardLimit, hold: (typeof holds)[number]) =>
          one.basis === 'list' ? hold.listUsd : hold.sellUsd
        placeHolds(holds).forEach((verdict, index) => {
          const hold = holds[index]
          if (hold === undefined) throw new Error('there are more verdicts than holds')
          if (verdict.ok) {
            for (const one of hold.limits) {
              expect(amountIn(one, hold).lte(left(one)) && left(one).gt(ZERO)).toBe(true)
            }
            for (const one of hold.limits) total.set(one, (total.get(one) ?? ZERO).plus(amountIn(one, hold)))
            for (const one of hold.limits) expect(verdict.remaining.get(one)?.eq(left(one))).toBe(true)
          } else {
            const { refusedBy } = verdict
            expect(amountIn(refusedBy, hold).gt(left(refusedBy)) || left(refusedBy).lte(ZERO)).toBe(true)
          }
        })
      },
    ),
  )
})

it('says whether a hold is kept out by other holds or by what is spent', () => {
  const one = {
    limitUsd: decimal('10'),
    spentUsd: decimal('4'),
    heldUsd: decimal('5'),
    basis: 'sell',
  } as const
  const ask = (usd: string) => ({ listUsd: ZERO, sellUsd: decimal(usd), limits: [one] })
  expect(placeHolds([ask('2'), ask('7'), ask('1'), ask('0')])).toMatchObject([
    { ok: false, isHeldUp: true },
    { ok: false, isHeldUp: false },
    { ok: true },
    { ok: false, isHeldUp: true },
  ])
})
