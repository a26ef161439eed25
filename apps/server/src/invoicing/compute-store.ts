import type { Invoice } from '@tokentally/core'
import { type BillingProfile, billingProfileSchema, type InvoiceDraft } from '@tokentally/core'
import type { PoolClient } from 'pg'
import { insertLines, invoiceOf, SELECT_INVOICES } from './invoice-store.ts'

/** What the computation of invoices reads and writes. */

/** An invoice whose lines are to be computed. */
export interface ComputedTarget {
  readonly invoice: Invoice
  /** The customer's profile as it is now; that of the invoice where the customer has none any more. */
  readonly profile: BillingProfile
  /** It handed a negative total on before: it does so again. */
  readonly hadCarriedOut: boolean
}

type TargetRow = Parameters<typeof invoiceOf>[0] & {
  readonly definition: unknown
  readonly had_carried_out: boolean
}

/**
 * Locks invoices whose lines can still be computed, in the order of cycles.
 *
 * @param ids undefined: those that are pending
 */
export async function lockTargets(
  client: PoolClient,
  organizationId: string,
  ids: readonly string[] | undefined,
  limit: number,
): Promise<readonly ComputedTarget[]> {
  const { rows } = await client.query<TargetRow>(
    `with target as materialized (
       select organization_id, invoice_id
       from invoice
       where organization_id = $1
         and ${ids === undefined ? "status = 'pending' and $2::uuid[] is null" : "invoice_id = any($2) and status in ('pending', 'draft', 'blocked')"}
       order by period_start, customer_id, invoice_id
       limit $3
       for update
     )
     select invoice.*, profile.definition, exists (
       select from invoice_line as line
       where line.organization_id = invoice.organization_id and line.invoice_id = invoice.invoice_id
         and line.revision = invoice.revision and line.kind = 'carried_out'
     ) as had_carried_out
     from (${SELECT_INVOICES} join target using (organization_id, invoice_id)) as invoice
     left join billing_profile as profile
       on profile.organization_id = invoice.organization_id and profile.customer_id = invoice.customer_id
     order by invoice.period_start, invoice.customer_id, invoice.invoice_id`,
    [organizationId, ids ?? null, limit],
  )
  return rows.map((row) => ({
    invoice: invoiceOf(row),
    profile: row.definition === null ? row.profile : billingProfileSchema.parse(row.definition),
    hadCarriedOut: row.had_carried_out,
  }))
}

/**
 * What negative invoices of customers handed on and no other has taken yet: decimal text, negative, by
 * `balanceKey`.
 *
 * @param except invoices that are computed anew: what they took or handed on does not count
 */
export async function carriedBalances(
  client: PoolClient,
  organizationId: string,
  customers: readonly string[],
  except: readonly string[],
): Promise<Map<string, string>> {
  const { rows } = await client.query<{ customer_id: string; currency: string; balance: string }>(
    `select invoice.customer_id, invoice.currency, (-sum(line.amount))::text as balance
     from invoice
     join invoice_line as line using (organization_id, invoice_id, revision)
     where invoice.organization_id = $1 and invoice.customer_id = any($2) and invoice.status <> 'void'
       and line.kind in ('carried_in', 'carried_out') and invoice.invoice_id <> all($3)
     group by invoice.customer_id, invoice.currency`,
    [organizationId, customers, except],
  )
  return new Map(rows.map((row) => [balanceKey(row.customer_id, row.currency), row.balance]))
}

export function balanceKey(customer: string, currency: string): string {
  return `${currency}/${customer}`
}

/** An invoice with what was computed. */
export interface ComputedInvoice {
  readonly target: ComputedTarget
  readonly draft: InvoiceDraft
}

/** Writes a new revision of locked invoices. */
export async function writeRevisions(
  client: PoolClient,
  organizationId: string,
  computed: readonly ComputedInvoice[],
): Promise<void> {
  await client.query(
    `update invoice
     set status = case when given.reason is null then 'draft' else 'blocked' end, reason = given.reason,
       notes = given.notes, currency = given.profile ->> 'currency', profile = given.profile,
       revision = given.revision, total = given.total
     from unnest($2::uuid[], $3::text[], $4::jsonb[], $5::jsonb[], $6::int[], $7::numeric[])
       as given (invoice_id, reason, notes, profile, revision, total)
     where invoice.organization_id = $1 and invoice.invoice_id = given.invoice_id`,
    [
      organizationId,
      computed.map(({ target }) => target.invoice.id),
      computed.map(({ draft }) => draft.reason),
      computed.map(({ draft }) => JSON.stringify(draft.notes)),
      computed.map(({ target }) => JSON.stringify(target.profile)),
      computed.map(({ target }) => target.invoice.revision + 1),
      computed.map(({ draft }) => draft.total),
    ],
  )
  await insertLines(
    client,
    organizationId,
    computed.map(({ target, draft }) => ({
      invoiceId: target.invoice.id,
      revision: target.invoice.revision + 1,
      lines: draft.lines,
    })),
  )
}
