import { DISPUTE_ORDER, INVOICE_PAYMENT_ORDER, supersedes } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { lockCustomerInvoices } from './lock.ts'

/**
 * What another system says of an invoice's payment. Messages come in any order, and again: each function here may be
 * called so, and the same state stands in the end.
 */

export interface Dispute {
  readonly id: string
  /** Decimal text. */
  readonly amount: string
  readonly currency: string
  readonly reason: string
  /** As Stripe names it: `needs_response`, `under_review`, `won`, `lost` … */
  readonly status: string
  readonly updatedAt: Date
}

export interface PaymentState {
  /** Why the last attempt to collect the payment failed; null: none did, or it is paid. */
  readonly lastPaymentError: string | null
  readonly lastPaymentFailedAt: Date | null
  /** Ids at Stripe; usually one. */
  readonly stripeInvoiceIds: readonly string[]
  readonly disputes: readonly Dispute[]
}

/** What is known of an invoice's payment beside its status. */
export async function paymentState(
  database: Pool | PoolClient,
  organizationId: string,
  invoiceId: string,
): Promise<PaymentState> {
  const { rows: failures } = await database.query<{ error: string; at: Date }>(
    `select error, at
     from (
       select last_payment_error as error, last_payment_failed_at as at
       from invoice
       where organization_id = $1 and invoice_id = $2 and status <> 'paid' and last_payment_error is not null
       union all
       select payment.last_error, payment.last_failed_at
       from stripe_invoice
       join stripe_payment as payment using (organization_id, stripe_invoice_id)
       join invoice using (organization_id, invoice_id)
       where organization_id = $1 and invoice_id = $2 and invoice.status <> 'paid'
         and payment.last_error is not null
     ) as failure
     order by at desc, error desc
     limit 1`,
    [organizationId, invoiceId],
  )
  const { rows: known } = await database.query<{ stripe_invoice_id: string }>(
    `select stripe_invoice_id from stripe_invoice
     where organization_id = $1 and invoice_id = $2
     order by stripe_invoice_id`,
    [organizationId, invoiceId],
  )
  const { rows: disputes } = await database.query<{
    dispute_id: string
    amount: string
    currency: string
    reason: string
    status: string
    status_at: Date
  }>(
    `select dispute.dispute_id, dispute.amount::text, dispute.currency, dispute.reason, dispute.status, dispute.status_at
     from stripe_invoice
     join stripe_payment using (organization_id, stripe_invoice_id)
     join invoice_dispute as dispute using (organization_id, payment_id)
     where organization_id = $1 and invoice_id = $2
     order by dispute.dispute_id`,
    [organizationId, invoiceId],
  )
  return {
    lastPaymentError: failures[0]?.error ?? null,
    lastPaymentFailedAt: failures[0]?.at ?? null,
    stripeInvoiceIds: known.map((row) => row.stripe_invoice_id),
    disputes: disputes.map((row) => ({
      id: row.dispute_id,
      amount: row.amount,
      currency: row.currency,
      reason: row.reason,
      status: row.status,
      updatedAt: row.status_at,
    })),
  }
}

/**
 * Notes which invoice of ours one at Stripe is, and lets nobody else settle the customer's invoices until the
 * transaction ends.
 *
 * @returns whether it is now known for the first time; undefined when we have no such invoice
 */
export async function learnStripeInvoice(
  client: PoolClient,
  organizationId: string,
  stripeInvoiceId: string,
  invoiceId: string,
): Promise<boolean | undefined> {
  const { rows } = await client.query<{ customer_id: string }>(
    'select customer_id from invoice where organization_id = $1 and invoice_id::text = $2',
    [organizationId, invoiceId.toLowerCase()],
  )
  if (rows[0] === undefined) return undefined
  // Before the invoice itself, as credit notes do: what follows may need both.
  await lockCustomerInvoices(client, organizationId, rows[0].customer_id)
  const { rowCount } = await client.query(
    `insert into stripe_invoice (organization_id, stripe_invoice_id, invoice_id) values ($1, $2, $3)
     on conflict do nothing`,
    [organizationId, stripeInvoiceId, invoiceId],
  )
  return rowCount === 1
}

/** The invoice of ours that one at Stripe is; undefined: not known. */
export async function invoiceOfStripe(
  client: PoolClient,
  organizationId: string,
  stripeInvoiceId: string,
): Promise<string | undefined> {
  const { rows } = await client.query<{ invoice_id: string }>(
    'select invoice_id from stripe_invoice where organization_id = $1 and stripe_invoice_id = $2',
    [organizationId, stripeInvoiceId],
  )
  return rows[0]?.invoice_id
}

/**
 * Moves a finalized invoice to the status that another system says it has.
 *
 * @returns whether it stands now
 */
export async function applyInvoiceStatus(
  client: PoolClient,
  organizationId: string,
  invoiceId: string,
  { status, at }: { readonly status: string; readonly at: Date },
): Promise<boolean> {
  const { rows } = await client.query<{ status: string; payment_status_at: Date | null }>(
    `select status, payment_status_at from invoice
     where organization_id = $1 and invoice_id = $2 and finalized_at is not null
     for no key update`,
    [organizationId, invoiceId],
  )
  const [standing] = rows
  if (standing === undefined) return false
  const isNext = supersedes(
    INVOICE_PAYMENT_ORDER,
    { status, atMs: at.getTime() },
    { status: standing.status, atMs: standing.payment_status_at?.getTime() ?? null },
  )
  if (!isNext) return false
  await client.query(
    `update invoice
     set status = $3, payment_status_at = $4,
       paid_at = case when $3 = 'paid' then $4::timestamptz end,
       voided_at = case when $3 = 'void' then $4::timestamptz end
     where organization_id = $1 and invoice_id = $2`,
    [organizationId, invoiceId, status, at],
  )
  return true
}

/** Notes why a payment of an invoice failed; the latest reason stands. */
export async function noteInvoiceFailure(
  client: PoolClient,
  organizationId: string,
  invoiceId: string,
  { reason, at }: { readonly reason: string; readonly at: Date },
): Promise<void> {
  await client.query(
    `update invoice set last_payment_error = $3, last_payment_failed_at = $4
     where organization_id = $1 and invoice_id = $2
       and (last_payment_failed_at is null or (last_payment_failed_at, last_payment_error) < ($4, $3))`,
    [organizationId, invoiceId, reason, at],
  )
}

/** Notes which invoice at Stripe a payment pays, or why it failed. */
export async function notePayment(
  client: PoolClient,
  organizationId: string,
  payment: {
    readonly id: string
    readonly stripeInvoiceId?: string
    readonly failure?: { readonly reason: string; readonly at: Date }
  },
): Promise<void> {
  const { id, stripeInvoiceId, failure } = payment
  await client.query(
    `insert into stripe_payment (organization_id, payment_id, stripe_invoice_id) values ($1, $2, $3)
     on conflict (organization_id, payment_id) do update
     set stripe_invoice_id = coalesce(stripe_payment.stripe_invoice_id, excluded.stripe_invoice_id)`,
    [organizationId, id, stripeInvoiceId ?? null],
  )
  if (failure === undefined) return
  await client.query(
    `update stripe_payment set last_error = $3, last_failed_at = $4
     where organization_id = $1 and payment_id = $2
       and (last_failed_at is null or (last_failed_at, last_error) < ($4, $3))`,
    [organizationId, id, failure.reason, failure.at],
  )
}

/** Notes a dispute, or what became of it. @returns whether its status stands now */
export async function applyDispute(
  client: PoolClient,
  organizationId: string,
  dispute: Omit<Dispute, 'updatedAt'> & { readonly paymentId: string; readonly at: Date },
): Promise<boolean> {
  const { id, paymentId, amount, currency, reason, status, at } = dispute
  const { rowCount } = await client.query(
    `insert into invoice_dispute (organization_id, dispute_id, payment_id, amount, currency, reason, status, status_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)
     on conflict do nothing`,
    [organizationId, id, paymentId, amount, currency, reason, status, at],
  )
  if (rowCount === 1) return true
  const { rows } = await client.query<{ status: string; status_at: Date }>(
    'select status, status_at from invoice_dispute where organization_id = $1 and dispute_id = $2 for update',
    [organizationId, id],
  )
  const [standing] = rows
  if (standing === undefined) return false
  const isNext = supersedes(
    DISPUTE_ORDER,
    { status, atMs: at.getTime() },
    { status: standing.status, atMs: standing.status_at.getTime() },
  )
  if (!isNext) return false
  await client.query(
    `update invoice_dispute set amount = $3, reason = $4, status = $5, status_at = $6
     where organization_id = $1 and dispute_id = $2`,
    [organizationId, id, amount, reason, status, at],
  )
  return true
}
