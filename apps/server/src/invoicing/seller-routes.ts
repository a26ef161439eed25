import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { problemSchema } from '../http/problem.ts'
import { insertSeller, sellerAt, sellerSchema } from './seller-store.ts'

export interface SellerRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

const tags = ['invoice documents']
const sellerJson = z.object({ ...sellerSchema.shape, name: z.string() })

/** Registers `/api/v1/invoicing-settings`. */
export function registerSellerRoutes(app: App, { pool, now }: SellerRouteDependencies): void {
  app.get(
    '/api/v1/invoicing-settings',
    {
      config: { scope: 'read' },
      schema: { tags, summary: 'Who issues invoices', response: { 200: sellerJson } },
    },
    async ({ organizationId }) => sellerAt(pool, organizationId, null),
  )

  app.put(
    '/api/v1/invoicing-settings',
    {
      config: { scope: 'admin' },
      schema: {
        tags,
        summary: 'Set who issues invoices',
        description:
          'Shown on documents of invoices that are finalized from now on, and on drafts. Documents of finalized invoices stay as they are.',
        body: sellerSchema,
        response: { 200: sellerJson, 400: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, body }) => {
      await insertSeller(pool, { organizationId, apiKeyId, now: now() }, body)
      return sellerAt(pool, organizationId, null)
    },
  )
}
