import type { PoolClient } from 'pg'
import { takeNumbers } from './numbers.ts'

const DAY_MS = 24 * 3_600_000

/**
 * Gives drafts their numbers, in the order given, and opens them; where nothing is owed they are paid at once, as Stripe
 * has it. They must be locked, and drafts.
 */
export async function openInvoices(
  client: PoolClient,
  organizationId: string,
  drafts: readonly { readonly id: string; readonly netDays: number }[],
  now: Date,
): Promise<void> {
  if (drafts.length === 0) return
  const numbers = await takeNumbers(client, organizationId, 'INV', now, drafts.length)
  await client.query(
    `update invoice
     set status = case when total = 0 then 'paid' else 'open' end, paid_at = case when total = 0 then $4::timestamptz end,
       number = given.number, finalized_at = $4, due_at = given.due_at
     from unnest($2::uuid[], $3::text[], $5::timestamptz[]) as given (invoice_id, number, due_at)
     where invoice.organization_id = $1 and invoice.invoice_id = given.invoice_id`,
    [
      organizationId,
      drafts.map(({ id }) => id),
      numbers,
      now,
      drafts.map(({ netDays }) => new Date(now.getTime() + netDays * DAY_MS)),
    ],
  )
}
