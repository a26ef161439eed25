import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decimal, decimalText, ZERO } from '../money/decimal.ts'
import { billingProfileSchema } from './billing-profile.ts'
import type { Invoice, InvoiceDocument, InvoiceLine, LineKind } from './invoice.ts'
import { creditNoteEntry, invoiceEntry, type JournalEntry, voidEntry } from './journal.ts'
import { DEFAULT_JOURNAL_ACCOUNTS, type JournalAccounts, journalAccountsSchema } from './journal-accounts.ts'

const accounts = journalAccountsSchema.parse({
  receivable: '1200',
  receivable_by_currency: { JPY: '1201' },
  revenue: '4000',
  revenue_rules: [
    { feature: 'chat', model: 'gpt-4o*', account: '4010' },
    { provider: 'anthropic', account: '4020' },
    { model: '*', account: '4030' },
  ],
  discounts: '4900',
  minimum: '4050',
  carried: '2300',
  cost_of_revenue: { expense: '5000', accrued: '2100' },
})

function line(values: Partial<InvoiceLine>): InvoiceLine {
  return {
    lineNo: 1,
    kind: 'usage',
    description: 'Usage',
    isLate: false,
    keys: {},
    events: 1,
    quantity: '0',
    listCostUsd: '0',
    sellCostUsd: '0',
    conversions: [],
    exactAmount: values.amount ?? '0',
    amount: '0',
    ...values,
  }
}

function documentOf(lines: readonly InvoiceLine[], values: Partial<Invoice> = {}): InvoiceDocument {
  const numbered = lines.map((one, index) => ({ ...one, lineNo: index + 1 }))
  const total = numbered.reduce((sum, { amount }) => sum.plus(decimal(amount)), ZERO)
  return {
    lines: numbered,
    invoice: {
      organizationId: 'o',
      id: 'i',
      customer: 'acme',
      number: 'INV-2026-000007',
      status: 'open',
      reason: null,
      notes: [],
      selection: { sinceMs: 0, startMs: 0, endMs: 1, previousPosition: null, position: 1 },
      currency: 'USD',
      profile: billingProfileSchema.parse({ starts_on: '2026-01-01' }),
      revision: 1,
      total: decimalText(total),
      credited: '0',
      createdAt: new Date('2026-12-01T00:00:00Z'),
      finalizedAt: new Date('2026-12-31T23:30:00Z'),
      dueAt: null,
      paidAt: null,
      voidedAt: null,
      ...values,
    },
  }
}

function booked({ lines }: JournalEntry): readonly string[] {
  return lines.map(({ account, side, amount }) => `${side} ${account} ${amount}`)
}

function sums({ lines }: JournalEntry): { debit: string; credit: string } {
  const of = (wanted: string) =>
    decimalText(
      lines.reduce((sum, { side, amount }) => (side === wanted ? sum.plus(decimal(amount)) : sum), ZERO),
    )
  return { debit: of('debit'), credit: of('credit') }
}

const usual = documentOf([
  line({ amount: '10', keys: { feature: 'chat', model: 'GPT-4o-mini' }, listCostUsd: '7.125' }),
  line({ amount: '5.5', keys: { provider: 'anthropic', model: 'claude' }, listCostUsd: '3.115' }),
  line({ amount: '-3', kind: 'allowance' }),
  line({ amount: '-1.25', kind: 'discount' }),
  line({ amount: '8.75', kind: 'minimum' }),
])

describe('an invoice in the books', () => {
  test('owes its total, and each line stands in the account of its rule', () => {
    const entry = invoiceEntry(usual, accounts)
    expect(entry).toMatchObject({
      id: 'invoice:i',
      reference: 'INV-2026-000007',
      date: '2026-12-31',
      currency: 'USD',
    })
    expect(booked(entry)).toEqual([
      'debit 1200 20',
      'credit 4010 10',
      'credit 4020 5.5',
      'debit 4900 3',
      'debit 4900 1.25',
      'credit 4050 8.75',
      // Half to even: 7.125 and 3.115.
      'debit 5000 7.12',
      'credit 2100 7.12',
      'debit 5000 3.12',
      'credit 2100 3.12',
    ])
  })

  test('can be one line for each account and side', () => {
    const entry = invoiceEntry(usual, { ...accounts, detail: 'account' })
    expect(booked(entry)).toEqual([
      'debit 1200 20',
      'credit 4010 10',
      'credit 4020 5.5',
      'debit 4900 4.25',
      'credit 4050 8.75',
      'debit 5000 10.24',
      'credit 2100 10.24',
    ])
  })

  test('is booked on the day of the books, not of UTC', () => {
    expect(invoiceEntry(usual, { ...accounts, timezone: 'Europe/Paris' }).date).toBe('2027-01-01')
  })

  test('costs are converted at the rate of the line, or of the invoice where the line sold for nothing', () => {
    const conversion = {
      soldIn: 'USD',
      rate: '150.5',
      rateDate: '2026-11-30',
      sellCostUsd: '2',
      amount: '301',
    }
    const document = documentOf(
      [
        line({
          amount: '301',
          sellCostUsd: '2',
          exactAmount: '301',
          listCostUsd: '1',
          conversions: [conversion],
        }),
        line({ listCostUsd: '2' }),
      ],
      { currency: 'JPY' },
    )
    const entry = invoiceEntry(document, accounts)
    expect(entry.ratePerUsd).toBe('150.5')
    expect(booked(entry)).toEqual([
      'debit 1201 301',
      'credit 4000 301',
      'debit 5000 150',
      'credit 2100 150',
      'debit 5000 301',
      'credit 2100 301',
    ])
  })

  test('a negative invoice hands its rest on, and the next one takes it', () => {
    const first = documentOf([line({ amount: '-4' }), line({ kind: 'carried_out', amount: '4' })])
    const next = documentOf([line({ amount: '9' }), line({ kind: 'carried_in', amount: '-4' })])
    expect(booked(invoiceEntry(first, accounts))).toEqual(['debit 4000 4', 'credit 2300 4'])
    expect(booked(invoiceEntry(next, accounts))).toEqual(['debit 1200 5', 'credit 4000 9', 'debit 2300 4'])
  })

  test('a voided one is turned round on the day it was voided', () => {
    const voided = documentOf(usual.lines, { status: 'void', voidedAt: new Date('2027-01-05T12:00:00Z') })
    const entry = voidEntry(voided, accounts)
    expect(entry).toMatchObject({
      id: 'invoice_void:i',
      reference: 'INV-2026-000007-V',
      date: '2027-01-05',
    })
    const swapped = booked(invoiceEntry(voided, accounts)).map((one) =>
      one.startsWith('debit') ? one.replace('debit', 'credit') : one.replace('credit', 'debit'),
    )
    expect(booked(entry)).toEqual(swapped)
  })

  test('a credit note leaves the accounts of its lines', () => {
    const note = {
      id: 'n',
      number: 'CN-2026-000001',
      total: '6.5',
      createdAt: new Date('2027-01-06T00:00:00Z'),
      lines: [
        { lineNo: 1, amount: '4' },
        { lineNo: 5, amount: '2.5' },
      ],
      invoice: usual,
    }
    const entry = creditNoteEntry(note, accounts)
    expect(entry).toMatchObject({ id: 'credit_note:n', reference: 'CN-2026-000001' })
    expect(booked(entry)).toEqual(['credit 1200 6.5', 'debit 4010 4', 'debit 4050 2.5'])
    expect(() => creditNoteEntry({ ...note, total: '6.51' }, accounts)).toThrow('does not add up')
    expect(() => creditNoteEntry({ ...note, lines: [{ lineNo: 9, amount: '6.5' }] }, accounts)).toThrow(
      'line 9',
    )
  })

  test('lines that do not add up to the total are never booked', () => {
    const wrong = documentOf(usual.lines, { total: '20.01' })
    expect(() => invoiceEntry(wrong, accounts)).toThrow('does not add up')
  })
})

const kinds: readonly LineKind[] = ['usage', 'allowance', 'discount', 'minimum', 'carried_in', 'carried_out']
const cents = fc.bigInt(-(10n ** 11n), 10n ** 11n).map((value) => decimalText(decimal(`${value}e-2`)))
const anyKeys = fc.record(
  {
    feature: fc.option(fc.constantFrom('chat', 'search'), { nil: null }),
    model: fc.option(fc.constantFrom('gpt-4o', 'claude', ''), { nil: null }),
    provider: fc.option(fc.constantFrom('openai', 'anthropic'), { nil: null }),
  },
  { requiredKeys: [] },
)
const anyLine = fc
  .record({
    kind: fc.constantFrom(...kinds),
    amount: cents,
    keys: anyKeys,
    listCostUsd: fc.bigInt(-(10n ** 15n), 10n ** 15n).map((value) => decimalText(decimal(`${value}e-9`))),
    sellCostUsd: fc.bigInt(-(10n ** 15n), 10n ** 15n).map((value) => decimalText(decimal(`${value}e-9`))),
  })
  .map((values) => line(values))
const anyAccounts: fc.Arbitrary<JournalAccounts> = fc
  .record({
    base: fc.constantFrom(accounts, DEFAULT_JOURNAL_ACCOUNTS),
    detail: fc.constantFrom('line' as const, 'account' as const),
    withRules: fc.boolean(),
  })
  .map(({ base, detail, withRules }) => ({
    ...base,
    detail,
    revenue_rules: withRules ? base.revenue_rules : [],
  }))

test('debits equal credits, whatever the lines; every line has an account; a void leaves nothing', () => {
  fc.assert(
    fc.property(
      fc.array(anyLine, { maxLength: 20 }),
      fc.constantFrom('USD', 'EUR'),
      anyAccounts,
      (lines, currency, books) => {
        const document = documentOf(lines, { currency, voidedAt: new Date('2027-01-01T00:00:00Z') })
        const entry = invoiceEntry(document, books)
        const { debit, credit } = sums(entry)
        expect(debit).toBe(credit)
        for (const { account, amount } of entry.lines) {
          expect(account).not.toBe('')
          expect(amount).toMatch(/^\d+(\.\d{1,2})?$/)
        }
        const undone = sums(voidEntry(document, books))
        expect(undone).toEqual({ debit: credit, credit: debit })
      },
    ),
  )
})
