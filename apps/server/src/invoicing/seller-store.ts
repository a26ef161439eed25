import type { Pool } from 'pg'
import { z } from 'zod'

/** Who issues an organization's invoices, as documents show it. Settings are appended; each is kept with its time. */

const line = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine(
    (value) => value.isWellFormed() && !/\p{Cc}/u.test(value),
    'must be one line of well-formed Unicode',
  )

export const sellerSchema = z.strictObject({
  name: line.nullish().describe("Default: the organization's name."),
  address: z.array(line).max(8).default([]).describe('Lines under the name.'),
  email: z.email().max(320).nullish(),
  tax_id: line.nullish().describe('As it is to be shown: "VAT DE 123 456 789".'),
  footer: z
    .array(line)
    .max(4)
    .default([])
    .describe('Lines at the foot of each page: bank account, register …'),
})

export type Seller = z.output<typeof sellerSchema>

/** A seller whose name is known. */
export type NamedSeller = Seller & { readonly name: string }

/**
 * The seller of documents that were issued at a time: the last settings before, or the first ones where there
 * were none yet.
 *
 * @param issuedAt null: not issued, the present settings
 */
export async function sellerAt(
  pool: Pool,
  organizationId: string,
  issuedAt: Date | null,
): Promise<NamedSeller> {
  const { rows } = await pool.query<{ name: string; definition: Seller | null }>(
    `select organization.name, (
       select seller.definition
       from invoice_seller as seller
       where seller.organization_id = organization.id
       order by
         case when $2::timestamptz is null or seller.set_at <= $2 then seller.setting_id end desc nulls last,
         seller.setting_id
       limit 1
     ) as definition
     from organization
     where organization.id = $1`,
    [organizationId, issuedAt],
  )
  const [row] = rows
  if (row === undefined) throw new Error(`there is no organization ${organizationId}`)
  const seller = row.definition ?? sellerSchema.parse({})
  return { ...seller, name: seller.name ?? row.name }
}

export async function insertSeller(
  pool: Pool,
  { organizationId, apiKeyId, now }: { organizationId: string; apiKeyId: string; now: Date },
  seller: Seller,
): Promise<void> {
  await pool.query(
    'insert into invoice_seller (organization_id, set_at, definition, api_key_id) values ($1, $2, $3, $4)',
    [organizationId, now, JSON.stringify(seller), apiKeyId],
  )
}
