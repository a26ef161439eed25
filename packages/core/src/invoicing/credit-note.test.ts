import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import {
  type CreditableInvoice,
  type CreditedLine,
  planCorrectionCredit,
  planCredit,
  usageCharge,
} from './credit-note.ts'

const invoice: CreditableInvoice = {
  currency: 'EUR',
  total: '135',
  credited: '0',
  lines: [
    { lineNo: 1, kind: 'usage', amount: '100', credited: '0' },
    { lineNo: 2, kind: 'usage', amount: '50', credited: '0' },
    { lineNo: 3, kind: 'discount', amount: '-15', credited: '0' },
  ],
}
const NO_TERMS = { allowance: '0', discount: '0', minimum: '0' }
const sum = (amounts: readonly string[]): Decimal =>
  amounts.reduce((total, amount) => total.plus(decimal(amount)), ZERO)

function after(before: CreditableInvoice, lines: readonly CreditedLine[]): CreditableInvoice {
  return {
    ...before,
    credited: decimalText(decimal(before.credited).plus(sum(lines.map(({ amount }) => amount)))),
    lines: before.lines.map((line) => ({
      ...line,
      credited: decimalText(
        sum([line.credited, ...lines.filter((one) => one.lineNo === line.lineNo).map((one) => one.amount)]),
      ),
    })),
  }
}

describe('a credit note', () => {
  it('in full is what is left of the total, by what is left of each line', () => {
    expect(planCredit(invoice, { full: true })).toEqual({
      ok: true,
      total: '135',
      lines: [
        { lineNo: 1, amount: '90' },
        { lineNo: 2, amount: '45' },
      ],
    })
    const partly = after(invoice, [{ lineNo: 1, amount: '99.99' }])
    expect(planCredit(partly, { full: true })).toMatchObject({ total: '35.01' })
    const wholly = after(invoice, [
      { lineNo: 1, amount: '90' },
      { lineNo: 2, amount: '45' },
    ])
    expect(planCredit(wholly, { full: true })).toMatchObject({ ok: false, issues: [{ path: 'full' }] })
  })

  it.each([
    ['more than the line', [{ lineNo: 2, amount: '50.01' }], 'lines.0.amount'],
    ['a line that is no charge', [{ lineNo: 3, amount: '1' }], 'lines.0.line_no'],
    ['a line that is not there', [{ lineNo: 9, amount: '1' }], 'lines.0.line_no'],
    ['a part of a cent', [{ lineNo: 1, amount: '0.001' }], 'lines.0.amount'],
    ['nothing', [{ lineNo: 1, amount: '0' }], 'lines.0.amount'],
    [
      'a line twice',
      [
        { lineNo: 1, amount: '1' },
        { lineNo: 1, amount: '1' },
      ],
      'lines.1.line_no',
    ],
    [
      'more than the invoice',
      [
        { lineNo: 1, amount: '100' },
        { lineNo: 2, amount: '50' },
      ],
      'lines',
    ],
  ])('is never %s', (_what, lines, path) => {
    expect(planCredit(invoice, { lines })).toMatchObject({ ok: false, issues: [{ path }] })
  })

  it('is never more than its lines and its invoice, whatever was credited before', () => {
    const amounts = fc.array(fc.integer({ min: 1, max: 1_000_000 }), { minLength: 1, maxLength: 6 })
    const text = (cents: number) => decimalText(decimal(String(cents)).times(decimal('0.01')))
    fc.assert(
      fc.property(
        amounts,
        fc.integer({ min: 0, max: 100 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: -1, max: 500_000 })), {
          maxLength: 12,
        }),
        (lineCents, discount, credits) => {
          const usage = lineCents.reduce((total, cents) => total + cents, 0)
          const off = Math.floor((usage * discount) / 100)
          let standing: CreditableInvoice = {
            currency: 'USD',
            total: text(usage - off),
            credited: '0',
            lines: [
              ...lineCents.map((cents, index) => ({
                lineNo: index + 1,
                kind: 'usage' as const,
                amount: text(cents),
                credited: '0',
              })),
              { lineNo: lineCents.length + 1, kind: 'discount', amount: text(-off), credited: '0' },
            ],
          }
          for (const [lineNo, cents] of credits) {
            const plan = planCredit(standing, { lines: [{ lineNo, amount: text(cents) }] })
            if (plan.ok) standing = after(standing, plan.lines)
          }
          const rest = planCredit(standing, { full: true })
          if (rest.ok) standing = after(standing, rest.lines)
          for (const line of standing.lines) {
            expect(
              decimal(line.credited).lte(decimal(line.amount).gt(ZERO) ? decimal(line.amount) : ZERO),
            ).toBe(true)
          }
          // What is left is nothing: the last one was in full.
          expect(decimal(standing.credited).eq(decimal(standing.total))).toBe(true)
          expect(sum(standing.lines.map((line) => line.credited)).eq(decimal(standing.credited))).toBe(true)
        },
      ),
    )
  })
})

describe('a credit note from a correction', () => {
  const corrected = (lineNo: number, ...amounts: string[]) => ({
    lineNo,
    entries: amounts.map((amount, index) => ({ eventId: `${lineNo}-${index}`, amount: decimal(amount) })),
  })

  it('gives back the decrease of each line, and leaves lines that increase to the next invoice', () => {
    const result = planCorrectionCredit(invoice, NO_TERMS, decimal('150'), [
      corrected(1, '-10.004', '4'),
      corrected(2, '-1', '3'),
    ])
    expect(result).toMatchObject({ kind: 'credit', total: '6', lines: [{ lineNo: 1, amount: '6' }] })
    expect(result.kind === 'credit' && result.settled.map(({ lineNo }) => lineNo)).toEqual([1])
  })

  it('gives back what the invoice would have been less', () => {
    const terms = { allowance: '20', discount: '0.1', minimum: '60' }
    const one = { ...invoice, total: '117' }
    const credit = (decrease: string) =>
      planCorrectionCredit(one, terms, decimal('150'), [corrected(1, `-${decrease}`)])
    expect(credit('10')).toMatchObject({ total: '9' })
    expect(credit('90')).toMatchObject({ total: '57' })
    expect(planCorrectionCredit(one, terms, decimal('80'), [corrected(1, '-10')])).toMatchObject({
      kind: 'nothing',
    })
  })

  it('is never more than what is left of a line', () => {
    const partly = after(invoice, [{ lineNo: 1, amount: '95' }])
    expect(planCorrectionCredit(partly, NO_TERMS, decimal('150'), [corrected(1, '-10')])).toMatchObject({
      total: '5',
    })
    expect(
      planCorrectionCredit(after(invoice, [{ lineNo: 1, amount: '100' }]), NO_TERMS, decimal('150'), [
        corrected(1, '-10'),
      ]),
    ).toMatchObject({ kind: 'nothing' })
  })

  it('adds up to the decrease, rounded half to even once', () => {
    const parts = fc.array(fc.integer({ min: 1, max: 10_000_000 }), { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(parts, (micros) => {
        const exact = micros.map((micro) => decimal(String(micro)).times(decimal('0.000001')))
        const lines = exact.map((_, index) => ({
          lineNo: index + 1,
          kind: 'usage' as const,
          amount: '1000',
          credited: '0',
        }))
        const result = planCorrectionCredit(
          { currency: 'USD', total: String(1000 * lines.length), credited: '0', lines },
          NO_TERMS,
          decimal(String(1000 * lines.length)),
          exact.map((amount, index) => corrected(index + 1, `-${decimalText(amount)}`)),
        )
        const wanted = exact.reduce((total, amount) => total.plus(amount), ZERO).round(2, 2)
        expect(result.kind === 'credit' ? result.total : '0').toBe(decimalText(wanted))
      }),
    )
  })
})

it.each([
  ['100', '100'],
  ['10', '50'],
  ['-5', '45'],
])('usage of %s is charged as an invoice charges it', (usage, charged) => {
  expect(decimalText(usageCharge({ allowance: '0', discount: '0', minimum: '50' }, decimal(usage)))).toBe(
    charged,
  )
})
