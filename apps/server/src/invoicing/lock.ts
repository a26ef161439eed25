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

/** The same for many customers; whoever takes several takes them in the same order. */
export async function lockInvoicesOf(
  client: PoolClient,
  organizationId: string,
  customers: readonly string[],
): Promise<void> {
  await client.query(
    `select pg_advisory_xact_lock(hashtext('tokentally.invoices'), key)
     from (
       select distinct hashtext($1 || '/' || customer) as key
       from unnest($2::text[]) as customer
       order by key
       offset 0
     ) as locks`,
    [organizationId, customers],
  )
}
