import { decimal, decimalText, type InvoiceDocument, type InvoiceLine, ZERO } from '@tokentally/core'
import type { PlannedStep } from '../billing-system.ts'
import type { JsonObject } from '../json.ts'
import { stripeAmount } from './minor-amount.ts'
import { stripeSettingsSchema } from './settings.ts'

/** Stripe lets an invoice have at most so many items (docs.stripe.com/api/invoiceitems/create). */
const ITEMS_MAX = 250
/** Of an item: Stripe takes 5,000 characters; more than this no one reads. */
const DESCRIPTION_CHARS_MAX = 500
/** Values of metadata and of custom fields. */
const CUSTOM_FIELD_CHARS_MAX = 140
const DAY_S = 86_400

/** By which both sides know an invoice and a line of it. */
export const METADATA = {
  organization: 'tokentally_organization',
  invoice: 'tokentally_invoice_id',
  number: 'tokentally_number',
  line: 'tokentally_line',
} as const

/** An invoice as one draft with one item a line, then finalized and sent. */
export function planInvoice(
  { invoice, lines }: InvoiceDocument,
  settingsJson: JsonObject,
): readonly PlannedStep[] {
  const settings = stripeSettingsSchema.parse(settingsJson)
  const customer = invoice.profile.stripe_customer_id ?? ''
  const currency = invoice.currency.toLowerCase()
  const isSent = settings.collection_method === 'send_invoice'
  const metadata = { [METADATA.organization]: invoice.organizationId, [METADATA.invoice]: invoice.id }
  const period = `${dayOf(invoice.selection.startMs)} to ${dayOf(invoice.selection.endMs - 1)}`
  const create = step('create_invoice', {
    invoice_id: invoice.id,
    // Where a repeat looks whether it is there.
    not_before: secondsOf((invoice.finalizedAt ?? invoice.createdAt).getTime()) - DAY_S,
    params: {
      customer,
      currency,
      collection_method: settings.collection_method,
      ...(isSent && { days_until_due: invoice.profile.net_days }),
      auto_advance: false,
      pending_invoice_items_behavior: 'exclude',
      automatic_tax: { enabled: settings.automatic_tax },
      description: `Usage from ${period}`,
      custom_fields: [
        { name: 'Invoice', value: (invoice.number ?? '').slice(0, CUSTOM_FIELD_CHARS_MAX) },
        { name: 'Period', value: period },
      ],
      metadata: { ...metadata, [METADATA.number]: invoice.number ?? '' },
    },
  })
  const items = withinLimit(lines).map(({ label, isLate, description, amount }) => {
    const { sinceMs, startMs, endMs } = invoice.selection
    return step(`add_item:${label}`, {
      line: label,
      params: {
        customer,
        currency,
        amount: stripeAmount(amount, invoice.currency),
        description: clipped(description),
        // A coupon of the customer's must not change what was agreed here.
        discountable: false,
        ...(settings.automatic_tax && { tax_behavior: 'exclusive' }),
        period: isLate
          ? { start: secondsOf(sinceMs), end: secondsOf(startMs) }
          : { start: secondsOf(startMs), end: secondsOf(endMs) },
        metadata: { ...metadata, [METADATA.line]: label },
      },
    })
  })
  const finalize = step('finalize_invoice', {
    total: stripeAmount(invoice.total, invoice.currency),
    auto_advance: !isSent,
  })
  const send = isSent && settings.send ? [step('send_invoice', {})] : []
  return [create, ...items, finalize, ...send]
}

/** Takes an invoice back, at whichever stage it is. */
export function planVoid(): readonly PlannedStep[] {
  return [step('void_invoice', {})]
}

interface Item {
  /** Of the line, or of the lines that stand together: `3`, `250-312`. */
  readonly label: string
  readonly isLate: boolean
  readonly description: string
  readonly amount: string
}

/** One item a line; beyond what Stripe allows, the last lines stand together, so that the total is the same. */
function withinLimit(lines: readonly InvoiceLine[]): readonly Item[] {
  const item = ({ lineNo, isLate, description, amount }: InvoiceLine): Item => ({
    label: String(lineNo),
    isLate,
    description: isLate ? `${description} (late)` : description,
    amount,
  })
  if (lines.length <= ITEMS_MAX) return lines.map(item)
  const rest = lines.slice(ITEMS_MAX - 1)
  return [
    ...lines.slice(0, ITEMS_MAX - 1).map(item),
    {
      label: `${rest[0]?.lineNo ?? ''}-${rest.at(-1)?.lineNo ?? ''}`,
      isLate: false,
      description: `${rest.length} further lines`,
      amount: decimalText(rest.reduce((sum, { amount }) => sum.plus(decimal(amount)), ZERO)),
    },
  ]
}

/** The lines' amounts as Stripe has them, by the label of the item. */
export function expectedItems({ invoice, lines }: InvoiceDocument): ReadonlyMap<string, number> {
  return new Map(
    withinLimit(lines).map(({ label, amount }) => [label, stripeAmount(amount, invoice.currency)]),
  )
}

function step(action: string, payload: JsonObject): PlannedStep {
  return { action, payload }
}

function clipped(text: string): string {
  return text.length <= DESCRIPTION_CHARS_MAX ? text : `${text.slice(0, DESCRIPTION_CHARS_MAX - 1)}…`
}

function secondsOf(ms: number): number {
  return Math.floor(ms / 1000)
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
