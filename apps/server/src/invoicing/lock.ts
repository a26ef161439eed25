import type { PoolClient } from 'pg'

/**
 * Lets one at a time settle what a customer's invoices are made of, until its transaction ends: the closing of a cycle, and a
 * credit note that settles entries which a later invoice would have.
 */
export async function lockCustomerInvoices(
  client: PoolClient,
  organizationId: string,
  customer: string,
): Promise<void> {
  await client.query(
    "select pg_advisory_xact_lock(hashtext('tokentally.invoices'), hashtext($1 || '/' || $2))",
    [organizationId, customer],
  )
}
