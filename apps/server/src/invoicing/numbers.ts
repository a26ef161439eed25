import type { PoolClient } from 'pg'

/**
 * Takes the next numbers of a series of this year (UTC): `INV-2026-000001`. Without gaps: the series is locked until
 * the transaction ends, and what is rolled back gives its numbers back.
 *
 * @param prefix `INV` for invoices, `CN` for credit notes
 */
export async function takeNumbers(
  client: PoolClient,
  organizationId: string,
  prefix: 'INV' | 'CN',
  now: Date,
  count: number,
): Promise<readonly string[]> {
  const series = `${prefix}-${now.getUTCFullYear()}`
  const { rows } = await client.query<{ last_number: number }>(
    `insert into invoice_number (organization_id, series, last_number)
     values ($1, $2, $3)
     on conflict (organization_id, series) do update
     set last_number = invoice_number.last_number + excluded.last_number
     returning last_number`,
    [organizationId, series, count],
  )
  const last = rows[0]?.last_number ?? 0
  return Array.from(
    { length: count },
    (_, index) => `${series}-${String(last - count + 1 + index).padStart(6, '0')}`,
  )
}
