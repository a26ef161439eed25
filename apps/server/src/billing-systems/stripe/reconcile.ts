import type { Pool } from 'pg'
import type Stripe from 'stripe'
import { findInvoice, findInvoiceDocument } from '../../invoicing/index.ts'
import { deliveriesOf, invoiceStream } from '../outbox/outbox-reads.ts'
import { compareInvoice, type Difference, type InvoiceAtStripe } from './compare.ts'
import { METADATA } from './plan.ts'

/** Invoices of one comparison; their lines take a call to Stripe each. */
export const INVOICES_MAX = 1_000
const PAGE = 100
/** Calls at once. */
const AT_ONCE = 8
const DAY_MS = 86_400_000

export interface Reconciliation {
  /** Invoices here that were compared. */
  readonly checked: number
  readonly differences: readonly Difference[]
}

export interface ReconcileRequest {
  readonly organizationId: string
  /** When invoices were finalized; `to` is excluded. */
  readonly from: Date
  readonly to: Date
}

/**
 * Compares invoices here with those at Stripe that name them in their metadata, both ways.
 *
 * @returns undefined when there are more than `INVOICES_MAX`
 * @throws what the Stripe client throws
 */
export async function reconcile(
  pool: Pool,
  stripe: Stripe,
  { organizationId, from, to }: ReconcileRequest,
): Promise<Reconciliation | undefined> {
  const ids = await listFinalized(pool, { organizationId, from, to })
  if (ids.length > INVOICES_MAX) return undefined
  const theirs = await listAtStripe(stripe, { organizationId, from, to })
  const deliveries = await deliveriesOf(pool, organizationId, ids)
  const created = await listCreated(pool, organizationId, ids)
  const differences: Difference[] = []
  for (const id of ids) {
    const document = await findInvoiceDocument(pool, organizationId, id)
    if (document === undefined) continue
    const delivery = deliveries.get(id)?.find(({ system }) => system === 'stripe')
    const own = created.get(id)
    // The one that was made from here comes before copies of it.
    const found = (theirs.get(id) ?? []).toSorted((a, b) => Number(b.id === own) - Number(a.id === own))
    differences.push(...compareInvoice(document, found, delivery))
  }
  const known = new Set(ids)
  for (const [id, invoices] of theirs) {
    if (known.has(id)) continue
    // One of another time is at the border of the two clocks, and no difference.
    if ((await findInvoice(pool, organizationId, id)) !== undefined) continue
    for (const invoice of invoices) {
      differences.push({
        kind: 'unknown_here',
        invoiceId: id,
        number: null,
        stripeInvoiceId: invoice.id,
        line: null,
        ours: null,
        theirs: invoice.status,
        cause:
          'Its metadata names an invoice that is not here: the database is older than Stripe, or it was copied.',
      })
    }
  }
  return { checked: ids.length, differences }
}

async function listFinalized(
  pool: Pool,
  { organizationId, from, to }: ReconcileRequest,
): Promise<readonly string[]> {
  const { rows } = await pool.query<{ invoice_id: string }>(
    `select invoice_id from invoice
     where organization_id = $1 and finalized_at >= $2 and finalized_at < $3
       and profile ->> 'system' = 'stripe_invoices'
       -- a dry run told Stripe nothing
       and not exists (
         select from outbox_step
         where outbox_step.organization_id = $1 and system = 'stripe' and stream = 'invoice:' || invoice_id
           and about = 'invoice' and action = 'create_invoice' and result ->> 'dry_run' = 'true'
       )
     order by finalized_at, invoice_id limit $4`,
    [organizationId, from, to, INVOICES_MAX + 1],
  )
  return rows.map((row) => row.invoice_id)
}

/** By the id here, the ids of the invoices that the outbox made at Stripe. */
async function listCreated(
  pool: Pool,
  organizationId: string,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { rows } = await pool.query<{ stream: string; invoice: string }>(
    `select stream, result ->> 'invoice' as invoice from outbox_step
     where organization_id = $1 and system = 'stripe' and stream = any($2) and about = 'invoice'
       and action = 'create_invoice' and status = 'done'`,
    [organizationId, ids.map(invoiceStream)],
  )
  return new Map(rows.map(({ stream, invoice }) => [stream.slice(invoiceStream('').length), invoice]))
}

/** By the id here, invoices at Stripe that were made since; how late, nobody knows: an outage may have held them up. */
async function listAtStripe(
  stripe: Stripe,
  { organizationId, from }: ReconcileRequest,
): Promise<ReadonlyMap<string, readonly InvoiceAtStripe[]>> {
  const found: { readonly invoice: Stripe.Invoice; readonly invoiceId: string }[] = []
  const gte = Math.floor((from.getTime() - DAY_MS) / 1000)
  for await (const invoice of stripe.invoices.list({ created: { gte }, limit: PAGE })) {
    const invoiceId = invoice.metadata?.[METADATA.invoice]
    if (invoiceId === undefined || invoice.metadata?.[METADATA.organization] !== organizationId) continue
    found.push({ invoice, invoiceId })
  }
  const byId = new Map<string, InvoiceAtStripe[]>()
  const work = found[Symbol.iterator]()
  const next = async (): Promise<void> => {
    for (const { invoice, invoiceId } of work) {
      const list = byId.get(invoiceId) ?? []
      byId.set(invoiceId, list)
      list.push(await atStripe(stripe, invoice, invoiceId))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next))
  return byId
}

async function atStripe(
  stripe: Stripe,
  invoice: Stripe.Invoice,
  invoiceId: string,
): Promise<InvoiceAtStripe> {
  const items: { label: string | null; amount: number }[] = []
  for await (const item of stripe.invoiceItems.list({ invoice: invoice.id, limit: PAGE })) {
    items.push({ label: item.metadata?.[METADATA.line] ?? null, amount: item.amount })
  }
  const { customer } = invoice
  return {
    id: invoice.id,
    invoiceId,
    status: invoice.status,
    currency: invoice.currency,
    customer: typeof customer === 'string' ? customer : (customer?.id ?? null),
    total: invoice.subtotal,
    items,
  }
}
