import type { BillingProfile, LineDimension } from './billing-profile.ts'

/**
 * Invoices, as in Stripe.
 *
 * States: a closed cycle begins as `pending`: what belongs to it is settled, its lines are not computed yet. Then it
 * is a `draft`, or `blocked` with the reason when it cannot be one (a negative total, no Stripe customer …); a blocked one is
 * computed anew on request. Finalizing a draft gives it its number and makes it `open`: from here on it never
 * changes. It ends `paid`, `void` or `uncollectible`.
 */
export const INVOICE_STATUSES = [
  'pending',
  'draft',
  'blocked',
  'open',
  'paid',
  'void',
  'uncollectible',
] as const
export type InvoiceStatus = (typeof INVOICE_STATUSES)[number]

/**
 * Which entries of the ledger belong to an invoice: the query that made it. An entry is an event, a reversal, a
 * replacement or a late rating, each with the position of its own batch (`ledger_batch.position`).
 *
 * - Usage of the cycle: `ts` from `startMs` to before `endMs`, at most at `position`.
 * - Late usage: `ts` from `sinceMs` to before `startMs`, beyond `previousPosition` and at most at `position`, unless a credit note has
 *   settled it (`credited_entry`).
 *
 * Each invoice goes on where the customer's last one ended, so that every entry is in exactly one of them.
 */
export interface InvoiceSelection {
  /** When the customer's first cycle began, UTC milliseconds. */
  readonly sinceMs: number
  /** The cycle, UTC milliseconds; the end is excluded. */
  readonly startMs: number
  readonly endMs: number
  /** The position of the customer's invoice before; null: there is none. */
  readonly previousPosition: number | null
  readonly position: number
}

/** What an amount was converted at. One for each rate, in the order of their days. */
export interface LineConversion {
  /** ISO 4217 code that the events were sold in; USD where they were sold in US dollars. */
  readonly soldIn: string
  /** Units of the invoice's currency for one US dollar, exact decimal text; "1" where no conversion was needed. */
  readonly rate: string
  /** The day that the rate was published for, `YYYY-MM-DD`; null where no conversion was needed. */
  readonly rateDate: string | null
  /** Exact sums, decimal text: US dollars, and the invoice's currency. */
  readonly sellCostUsd: string
  readonly amount: string
}

/**
 * - `usage`: sums of the ledger. Others have no events.
 * - `allowance`: usage that is included, negative. `discount`: negative. `minimum`: what is missing to the least.
 * - `carried_out`: what a negative invoice hands on to the next, which has it as `carried_in`.
 */
export type LineKind = 'usage' | 'allowance' | 'discount' | 'minimum' | 'carried_out' | 'carried_in'

export interface InvoiceLine {
  /** From 1, in the order shown. */
  readonly lineNo: number
  readonly kind: LineKind
  readonly description: string
  /** Usage of an earlier cycle that came after its invoice. */
  readonly isLate: boolean
  /** The values of the profile's `lines_by`; null: events without one. Empty unless the kind is `usage`. */
  readonly keys: Readonly<Partial<Record<LineDimension, string | null>>>
  /** Entries; reversals count -1. */
  readonly events: number
  /** Input and output tokens together; of a line by meter, its units. Exact decimal text. */
  readonly quantity: string
  /** Exact sums in US dollars, decimal text. */
  readonly listCostUsd: string
  readonly sellCostUsd: string
  readonly conversions: readonly LineConversion[]
  /** Not rounded, in the invoice's currency, decimal text. */
  readonly exactAmount: string
  /** What is charged: rounded to `invoiceDigits` of the currency, decimal text. */
  readonly amount: string
}

export interface Invoice {
  readonly organizationId: string
  readonly id: string
  readonly customer: string
  /** Given on finalization, without gaps in an organization and year: `INV-2026-000001`. */
  readonly number: string | null
  readonly status: InvoiceStatus
  /** Why it is blocked; else null. */
  readonly reason: string | null
  /** What a reader should know: events without a price, late usage … */
  readonly notes: readonly string[]
  readonly selection: InvoiceSelection
  readonly currency: string
  /** As it was when the lines were computed. */
  readonly profile: BillingProfile
  /** Lines of a draft can be computed anew: a new revision. */
  readonly revision: number
  /** The sum of all lines, decimal text. */
  readonly total: string
  /** Credit notes on it, decimal text. */
  readonly credited: string
  readonly createdAt: Date
  readonly finalizedAt: Date | null
  readonly dueAt: Date | null
  readonly paidAt: Date | null
  readonly voidedAt: Date | null
}

/** A finalized invoice with its lines, as other systems and documents need it. */
export interface InvoiceDocument {
  readonly invoice: Invoice
  readonly lines: readonly InvoiceLine[]
}
