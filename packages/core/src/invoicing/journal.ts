import { formatInstant } from '../calendar/time-zone.ts'
import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import { divideToSignificant } from '../money/divide.ts'
import { invoiceDigits } from '../money/minor-units.ts'
import type { InvoiceDocument, InvoiceLine } from './invoice.ts'
import { accountOfLine, type JournalAccounts, receivableAccount } from './journal-accounts.ts'

/**
 * Invoices as entries of the general ledger, by double entry: what an invoice charges is debited to the receivables and
 * credited to revenue; allowances and discounts are debited to contra revenue; a negative line stands on the other side.
 * A credit note, and the voiding of an invoice, are entries of their own that turn the sides round: nothing that is booked is
 * ever changed. The debits of an entry equal its credits to the smallest unit of its currency.
 */

export type JournalEntryKind = 'invoice' | 'credit_note' | 'invoice_void'

export interface JournalLine {
  readonly account: string
  readonly side: 'debit' | 'credit'
  /** Above zero, decimal text. */
  readonly amount: string
  readonly memo: string
  /** Whether it stands in the account of receivables, which books of a customer are kept by. */
  readonly isReceivable: boolean
}

export interface JournalEntry {
  /** The same for the same thing, whenever it is made: `invoice:ID`, `credit_note:ID`, `invoice_void:ID`. */
  readonly id: string
  readonly kind: JournalEntryKind
  /** At most 21 characters: the invoice's number, with `-V` when it is voided, or the credit note's. */
  readonly reference: string
  /** The day it is booked on, `YYYY-MM-DD`. */
  readonly date: string
  readonly customer: string
  /** ISO 4217. */
  readonly currency: string
  /** Units of `currency` for one US dollar that the invoice was made with, decimal text; null: it converted nothing. */
  readonly ratePerUsd: string | null
  readonly memo: string
  readonly lines: readonly JournalLine[]
}

/** What an entry needs to know of a credit note. */
export interface BookedCreditNote {
  readonly id: string
  readonly number: string
  readonly total: string
  readonly createdAt: Date
  readonly lines: readonly { readonly lineNo: number; readonly amount: string }[]
  readonly invoice: InvoiceDocument
}

interface Posting extends Omit<JournalLine, 'side' | 'amount'> {
  /** Debits are above zero, credits below. */
  readonly debit: Decimal
}

/** Digits of a rate that is derived from two amounts. */
const RATE_DIGITS = 15

/**
 * The entry of a finalized invoice.
 *
 * @throws Error when the invoice is not finalized, or when its lines do not add up to its total
 */
export function invoiceEntry(document: InvoiceDocument, accounts: JournalAccounts): JournalEntry {
  const { invoice } = document
  const number = numberOf(document)
  if (invoice.finalizedAt === null) throw new Error(`invoice ${invoice.id} is not finalized`)
  return entry(document, accounts, {
    id: `invoice:${invoice.id}`,
    kind: 'invoice',
    reference: number,
    at: invoice.finalizedAt,
    memo: `Invoice ${number}`,
    postings: invoicePostings(document, accounts),
  })
}

/**
 * The entry that takes a voided invoice's entry back.
 *
 * @throws Error when the invoice is not voided
 */
export function voidEntry(document: InvoiceDocument, accounts: JournalAccounts): JournalEntry {
  const { invoice } = document
  const number = numberOf(document)
  if (invoice.voidedAt === null) throw new Error(`invoice ${invoice.id} is not voided`)
  return entry(document, accounts, {
    id: `invoice_void:${invoice.id}`,
    kind: 'invoice_void',
    reference: `${number}-V`,
    at: invoice.voidedAt,
    memo: `Invoice ${number} voided`,
    postings: invoicePostings(document, accounts).map(reversed),
  })
}

/**
 * The entry of a credit note: what it gives back of each line leaves the account that the line was booked to. Costs stay:
 * the vendor is owed what the calls cost.
 *
 * @throws Error when it names a line that the invoice has not, or does not add up
 */
export function creditNoteEntry(note: BookedCreditNote, accounts: JournalAccounts): JournalEntry {
  const { currency, customer } = note.invoice.invoice
  const postings = note.lines.map(({ lineNo, amount }): Posting => {
    const line = note.invoice.lines.find((one) => one.lineNo === lineNo)
    if (line === undefined)
      throw new Error(`credit note ${note.number} names line ${lineNo}, which is not there`)
    return {
      account: accountOfLine(line, accounts, currency),
      debit: decimal(amount),
      memo: line.description,
      isReceivable: false,
    }
  })
  mustAddUp(`credit note ${note.number}`, postings, decimal(note.total))
  return entry(note.invoice, accounts, {
    id: `credit_note:${note.id}`,
    kind: 'credit_note',
    reference: note.number,
    at: note.createdAt,
    memo: `Credit note ${note.number} on invoice ${numberOf(note.invoice)}`,
    postings: [
      receivable(accounts, currency, decimal(note.total).neg(), `${note.number} ${customer}`),
      ...postings,
    ],
  })
}

function invoicePostings({ invoice, lines }: InvoiceDocument, accounts: JournalAccounts): readonly Posting[] {
  const { currency, customer, number } = invoice
  const total = decimal(invoice.total)
  const charged = lines.map(
    (line): Posting => ({
      account: accountOfLine(line, accounts, currency),
      debit: decimal(line.amount).neg(),
      memo: line.description,
      isReceivable: false,
    }),
  )
  mustAddUp(`invoice ${invoice.id}`, charged, total.neg())
  const owed = receivable(accounts, currency, total, `${number ?? ''} ${customer}`)
  return [owed, ...charged, ...costPostings(lines, accounts, currency)]
}

function receivable(accounts: JournalAccounts, currency: string, debit: Decimal, memo: string): Posting {
  return { account: receivableAccount(accounts, currency), debit, memo, isReceivable: true }
}

/** List cost of usage, converted at the rate that the line itself was, rounded half to even line by line. */
function costPostings(
  lines: readonly InvoiceLine[],
  { cost_of_revenue: books }: JournalAccounts,
  currency: string,
): readonly Posting[] {
  if (books === undefined) return []
  return lines.flatMap((line) => {
    if (line.kind !== 'usage') return []
    const rate = rateOf(line, currency) ?? ratePerUsd(lines, currency)
    if (rate === null) return []
    const cost = decimal(line.listCostUsd).times(rate).round(invoiceDigits(currency), HALF_EVEN)
    const posting = { memo: line.description, isReceivable: false }
    return [
      { ...posting, account: books.expense, debit: cost },
      { ...posting, account: books.accrued, debit: cost.neg() },
    ]
  })
}

/** As big.js numbers its rounding modes. */
const HALF_EVEN = 2

/** Units of the invoice's currency for one US dollar of a line; null: the line does not tell. */
function rateOf(line: InvoiceLine, currency: string): string | null {
  if (currency === 'USD') return '1'
  const [first, second] = line.conversions
  if (first !== undefined && second === undefined && isAbove(first.rate)) return first.rate
  const sold = decimal(line.sellCostUsd).abs()
  const charged = decimal(line.exactAmount).abs()
  if (sold.eq(ZERO) || charged.eq(ZERO)) return null
  return decimalText(divideToSignificant(charged, sold, RATE_DIGITS))
}

function isAbove(rate: string): boolean {
  return decimal(rate).gt(ZERO)
}

/** The last rate that the invoice converted at; null: it converted nothing. */
function ratePerUsd(lines: readonly InvoiceLine[], currency: string): string | null {
  if (currency === 'USD') return '1'
  let last: { rate: string; day: string } | undefined
  for (const { conversions } of lines) {
    for (const { rate, rateDate } of conversions) {
      if (!isAbove(rate) || rateDate === null) continue
      if (last === undefined || rateDate > last.day) last = { rate, day: rateDate }
    }
  }
  return last?.rate ?? null
}

function entry(
  { invoice, lines }: InvoiceDocument,
  accounts: JournalAccounts,
  made: {
    readonly id: string
    readonly kind: JournalEntryKind
    readonly reference: string
    readonly at: Date
    readonly memo: string
    readonly postings: readonly Posting[]
  },
): JournalEntry {
  const { id, kind, reference, memo } = made
  const postings = accounts.detail === 'account' ? gathered(made.postings, memo) : made.postings
  mustAddUp(memo, postings, ZERO)
  return {
    id,
    kind,
    reference,
    date: formatInstant(made.at.getTime(), accounts.timezone).slice(0, 10),
    customer: invoice.customer,
    currency: invoice.currency,
    ratePerUsd: ratePerUsd(lines, invoice.currency),
    memo,
    lines: postings.flatMap(({ debit, ...line }) =>
      debit.eq(ZERO)
        ? []
        : [{ ...line, side: debit.gt(ZERO) ? 'debit' : 'credit', amount: decimalText(debit.abs()) }],
    ),
  }
}

/** One posting for each account and side, in the order they first come in. */
function gathered(postings: readonly Posting[], memo: string): readonly Posting[] {
  const sums = new Map<string, Posting>()
  for (const posting of postings) {
    const { account, debit, isReceivable } = posting
    const key = JSON.stringify([account, debit.gt(ZERO), isReceivable])
    const sum = sums.get(key)
    sums.set(key, sum === undefined ? { ...posting, memo } : { ...sum, debit: sum.debit.plus(debit) })
  }
  return [...sums.values()]
}

function reversed(posting: Posting): Posting {
  return { ...posting, debit: posting.debit.neg() }
}

/** @throws Error when the postings' sum is not the one expected: nothing unbalanced is ever booked */
function mustAddUp(what: string, postings: readonly Posting[], expected: Decimal): void {
  const sum = postings.reduce((total, { debit }) => total.plus(debit), ZERO)
  if (!sum.eq(expected)) {
    throw new Error(`${what} does not add up: ${decimalText(sum)} instead of ${decimalText(expected)}`)
  }
}

function numberOf({ invoice }: InvoiceDocument): string {
  if (invoice.number === null) throw new Error(`invoice ${invoice.id} has no number`)
  return invoice.number
}
