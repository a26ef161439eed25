import { INVOICE_STATUSES, type Invoice, type InvoiceLine } from '@tokentally/core'
import { z } from 'zod'
import type { PaymentState } from './payment-state.ts'

/** Invoices as the API shows them. */

/** How far a system has been told of an invoice and of what became of it. */
export interface DeliveryState {
  readonly system: string
  /** `refused`: stopped until a person tries it again. */
  readonly status: 'waiting' | 'done' | 'refused'
  /** Of the step that it stands at; of the last one when all are done. */
  readonly attempts: number
  readonly lastError: string | null
  readonly nextAttemptAt: Date | null
}

const amount = z.string().describe("Decimal text, in the invoice's currency")
const usd = z.string().describe('Exact decimal text, US dollars')
const instant = z.string().nullable()

export const invoiceSchema = z.object({
  id: z.uuid(),
  customer_id: z.string(),
  number: z.string().nullable().describe('Given on finalization: `INV-2026-000001`.'),
  status: z.enum(INVOICE_STATUSES),
  reason: z.string().nullable().describe('Why it is blocked.'),
  notes: z.array(z.string()),
  period: z.object({ start: z.string(), end: z.string().describe('Excluded.') }),
  currency: z.string(),
  total: amount,
  credited: amount.describe('Credit notes on it.'),
  revision: z.number().int(),
  created_at: z.string(),
  finalized_at: instant,
  due_at: instant,
  paid_at: instant,
  voided_at: instant,
})

export const lineSchema = z.object({
  line_no: z.number().int(),
  kind: z.enum(['usage', 'allowance', 'discount', 'minimum', 'carried_out', 'carried_in']),
  description: z.string(),
  is_late: z.boolean().describe('Usage of an earlier cycle that came after its invoice.'),
  keys: z
    .record(z.string(), z.string().nullable())
    .describe('What the usage has in common, by `lines_by` of the profile.'),
  events: z.number().int().describe('Entries of the ledger; what takes an event back counts -1.'),
  quantity: z.string().describe('Input and output tokens; of a line by meter, its units.'),
  list_cost: usd,
  sell_cost: usd,
  conversions: z.array(
    z.object({
      sold_in: z.string(),
      rate: z.string().describe("Units of the invoice's currency for one US dollar."),
      rate_date: z.string().nullable().describe('The day that the rate was published for.'),
      sell_cost: usd,
      amount: amount.describe('Exact.'),
    }),
  ),
  exact_amount: amount.describe('Not rounded.'),
  amount,
})

export const invoiceWithLinesSchema = invoiceSchema.extend({
  profile: z.record(z.string(), z.unknown()).describe('The billing profile that it was computed by.'),
  selection: z
    .object({
      customer_id: z.string(),
      usage: z.object({
        start: z.string(),
        end: z.string(),
        up_to_position: z.number().int().describe('Of the ledger: what was committed by then.'),
      }),
      late_usage: z
        .object({
          start: z.string(),
          end: z.string(),
          after_position: z.number().int(),
          up_to_position: z.number().int(),
        })
        .nullable()
        .describe('Of earlier cycles, after the invoice before; null: there is none before.'),
    })
    .describe('The query that made it: which entries of the ledger belong to it.'),
  lines: z.array(lineSchema),
  payment: z
    .object({
      last_error: z
        .string()
        .nullable()
        .describe('Why the last attempt to collect it failed; null once it is paid.'),
      last_failed_at: instant,
      stripe_invoice_ids: z.array(z.string()),
      disputes: z.array(
        z.object({
          id: z.string(),
          amount: z.string(),
          currency: z.string(),
          reason: z.string(),
          status: z.string(),
          updated_at: z.string(),
        }),
      ),
    })
    .describe('What Stripe says of its payment.'),
  delivery: z
    .array(
      z.object({
        system: z.string(),
        status: z
          .enum(['waiting', 'done', 'refused'])
          .describe('`refused`: not tried again until POST /api/v1/outbox/retry.'),
        attempts: z.number().int(),
        last_error: z.string().nullable(),
        next_attempt_at: instant,
      }),
    )
    .describe('How far other systems have been told of it.'),
})

/** What stands beside an invoice and changes after it. */
export interface InvoiceSurroundings {
  readonly payment: PaymentState
  readonly deliveries: readonly DeliveryState[]
}

export function invoiceToJson(invoice: Invoice): z.infer<typeof invoiceSchema> {
  return {
    id: invoice.id,
    customer_id: invoice.customer,
    number: invoice.number,
    status: invoice.status,
    reason: invoice.reason,
    notes: [...invoice.notes],
    period: { start: isoOf(invoice.selection.startMs), end: isoOf(invoice.selection.endMs) },
    currency: invoice.currency,
    total: invoice.total,
    credited: invoice.credited,
    revision: invoice.revision,
    created_at: invoice.createdAt.toISOString(),
    finalized_at: invoice.finalizedAt?.toISOString() ?? null,
    due_at: invoice.dueAt?.toISOString() ?? null,
    paid_at: invoice.paidAt?.toISOString() ?? null,
    voided_at: invoice.voidedAt?.toISOString() ?? null,
  }
}

export function invoiceWithLinesToJson(
  invoice: Invoice,
  lines: readonly InvoiceLine[],
  { payment, deliveries }: InvoiceSurroundings,
): z.infer<typeof invoiceWithLinesSchema> {
  const { sinceMs, startMs, endMs, previousPosition, position } = invoice.selection
  return {
    ...invoiceToJson(invoice),
    profile: { ...invoice.profile },
    selection: {
      customer_id: invoice.customer,
      usage: { start: isoOf(startMs), end: isoOf(endMs), up_to_position: position },
      late_usage:
        previousPosition === null
          ? null
          : {
              start: isoOf(sinceMs),
              end: isoOf(startMs),
              after_position: previousPosition,
              up_to_position: position,
            },
    },
    lines: lines.map(lineToJson),
    payment: {
      last_error: payment.lastPaymentError,
      last_failed_at: payment.lastPaymentFailedAt?.toISOString() ?? null,
      stripe_invoice_ids: [...payment.stripeInvoiceIds],
      disputes: payment.disputes.map(({ updatedAt, ...dispute }) => ({
        ...dispute,
        updated_at: updatedAt.toISOString(),
      })),
    },
    delivery: deliveries.map(({ system, status, attempts, lastError, nextAttemptAt }) => ({
      system,
      status,
      attempts,
      last_error: lastError,
      next_attempt_at: nextAttemptAt?.toISOString() ?? null,
    })),
  }
}

function lineToJson(line: InvoiceLine): z.infer<typeof lineSchema> {
  return {
    line_no: line.lineNo,
    kind: line.kind,
    description: line.description,
    is_late: line.isLate,
    keys: { ...line.keys },
    events: line.events,
    quantity: line.quantity,
    list_cost: line.listCostUsd,
    sell_cost: line.sellCostUsd,
    conversions: line.conversions.map(({ soldIn, rate, rateDate, sellCostUsd, amount: exact }) => ({
      sold_in: soldIn,
      rate,
      rate_date: rateDate,
      sell_cost: sellCostUsd,
      amount: exact,
    })),
    exact_amount: line.exactAmount,
    amount: line.amount,
  }
}

function isoOf(instantMs: number): string {
  return new Date(instantMs).toISOString()
}
