import { randomUUID } from 'node:crypto'
import { billingProfileSchema, decimal, type Invoice, type InvoiceStatus, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { Problem } from '../http/problem.ts'
import type { ClosingDependencies } from './close-cycles.ts'
import { insertPending } from './closing-store.ts'
import { computeInvoices } from './compute-invoice.ts'
import { openInvoices } from './finalize.ts'
import { findInvoice } from './invoice-store.ts'

/** What people do with invoices. Each answers 409 when the invoice is in no state for it. */

export interface InvoiceId {
  readonly organizationId: string
  readonly invoiceId: string
}

/** Gives a draft its number and opens it. @throws Problem */
export async function finalizeInvoice(
  { pool, now }: ClosingDependencies,
  which: InvoiceId,
): Promise<Invoice> {
  await inTransaction(pool, async (client) => {
    const { id, profile } = await locked(client, which, ['draft'], 'finalized')
    await openInvoices(client, which.organizationId, [{ id, netDays: profile.net_days }], now())
  })
  return existingInvoice(pool, which)
}

/**
 * Voids an invoice: nothing is owed, and its cycle stays closed. What it was made of is invoiced again only when it is
 * reissued.
 * @throws Problem
 */
export async function voidInvoice({ pool, now }: ClosingDependencies, which: InvoiceId): Promise<Invoice> {
  await inTransaction(pool, async (client) => {
    const statuses: InvoiceStatus[] = ['draft', 'blocked', 'open', 'uncollectible']
    // One of zero is paid from the start, and nobody has paid it.
    const isFree = ({ status, total }: Invoice) => status === 'paid' && decimal(total).eq(ZERO)
    const { id } = await locked(client, which, statuses, 'voided', isFree)
    const settled = await client.query(
      `select from credited_entry as entry
       join credit_note as note using (organization_id, credit_note_id)
       where organization_id = $1 and note.invoice_id = $2
       limit 1`,
      [which.organizationId, id],
    )
    if (settled.rowCount !== 0) {
      throw conflict(
        'A credit note on it has settled corrections: what they took back would be invoiced again.',
      )
    }
    await client.query(
      `update invoice set status = 'void', reason = null, paid_at = null, voided_at = $3 where organization_id = $1 and invoice_id = $2`,
      [which.organizationId, id, now()],
    )
  })
  return existingInvoice(pool, which)
}

/** Makes a new invoice of what a voided one was made of, by the profile of now. @throws Problem */
export async function reissueInvoice(dependencies: ClosingDependencies, which: InvoiceId): Promise<Invoice> {
  const { organizationId } = which
  const id = randomUUID()
  await inTransaction(dependencies.pool, async (client) => {
    const { customer, selection, profile, id: replaces } = await locked(client, which, ['void'], 'reissued')
    const current = await currentProfile(client, organizationId, customer)
    const written = await insertPending(
      client,
      organizationId,
      [{ id, customer, selection, replaces, profile: current ?? profile }],
      dependencies.now(),
    )
    if (written.length === 0) throw conflict('The invoice was reissued already.')
  })
  await computeInvoices(dependencies, { organizationId, invoiceIds: [id] })
  return existingInvoice(dependencies.pool, { organizationId, invoiceId: id })
}

/** Computes the lines anew, by the profile of now: a new revision. @throws Problem */
export async function recalculateInvoice(
  dependencies: ClosingDependencies,
  which: InvoiceId,
): Promise<Invoice> {
  await inTransaction(dependencies.pool, (client) =>
    locked(client, which, ['pending', 'draft', 'blocked'], 'computed anew'),
  )
  await computeInvoices(dependencies, { organizationId: which.organizationId, invoiceIds: [which.invoiceId] })
  return existingInvoice(dependencies.pool, which)
}

/** Makes a negative invoice one of zero, and hands the rest on to the customer's next. @throws Problem */
export async function carryForward(dependencies: ClosingDependencies, which: InvoiceId): Promise<Invoice> {
  await inTransaction(dependencies.pool, async (client) => {
    const { total } = await locked(client, which, ['blocked'], 'carried forward')
    if (!total.startsWith('-'))
      throw conflict('The invoice is not negative: there is nothing to carry forward.')
  })
  await computeInvoices(dependencies, {
    organizationId: which.organizationId,
    invoiceIds: [which.invoiceId],
    carriesOut: true,
  })
  return existingInvoice(dependencies.pool, which)
}

/** @throws Problem `not-found` */
export async function existingInvoice(
  database: Pool | PoolClient,
  { organizationId, invoiceId }: InvoiceId,
): Promise<Invoice> {
  const invoice = await findInvoice(database, organizationId, invoiceId)
  if (invoice === undefined) throw new Problem({ code: 'not-found', detail: 'There is no such invoice.' })
  return invoice
}

async function locked(
  client: PoolClient,
  which: InvoiceId,
  statuses: readonly InvoiceStatus[],
  done: string,
  isExcepted: (invoice: Invoice) => boolean = () => false,
): Promise<Invoice> {
  await client.query('select from invoice where organization_id = $1 and invoice_id::text = $2 for update', [
    which.organizationId,
    which.invoiceId,
  ])
  const invoice = await existingInvoice(client, which)
  if (statuses.includes(invoice.status) || isExcepted(invoice)) return invoice
  const why = invoice.reason === null ? '' : ` Its reason: ${invoice.reason}`
  throw conflict(`The invoice is ${invoice.status}; what is ${statuses.join(', ')} can be ${done}.${why}`)
}

async function currentProfile(client: PoolClient, organizationId: string, customer: string) {
  const { rows } = await client.query<{ definition: unknown }>(
    'select definition from billing_profile where organization_id = $1 and customer_id = $2',
    [organizationId, customer],
  )
  return rows[0] === undefined ? undefined : billingProfileSchema.parse(rows[0].definition)
}

function conflict(detail: string): Problem {
  return new Problem({ code: 'conflict', detail })
}
