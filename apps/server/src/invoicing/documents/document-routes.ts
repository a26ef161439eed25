import type { InvoiceDocument } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { Problem, problemSchema } from '../../http/problem.ts'
import { findInvoiceDocument } from '../invoice-store.ts'
import { sellerAt } from '../seller-store.ts'
import { invoiceDocumentJson, invoiceDocumentToJson } from './document-json.ts'
import { fileNameOf } from './document-text.ts'
import { invoiceCsv } from './invoice-csv.ts'
import type * as InvoicePdf from './invoice-pdf.ts'

export interface DocumentRouteDependencies {
  readonly pool: Pool
}

const tags = ['invoice documents']
const params = z.object({ id: z.uuid() })
// So that the ending is none of the id, and "GET /api/v1/invoices/:id" goes without one.
const PATH = '/api/v1/invoices/:id(^[^.]+)'

/** Registers `GET /api/v1/invoices/{id}.json`, `.csv` and `.pdf`. */
export function registerDocumentRoutes(app: App, { pool }: DocumentRouteDependencies): void {
  app.get(
    `${PATH}.json`,
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'An invoice as JSON, as its recipient may see it',
        params,
        response: { 200: invoiceDocumentJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const document = await existing(pool, organizationId, params.id)
      const seller = await sellerAt(pool, organizationId, document.invoice.finalizedAt)
      return invoiceDocumentToJson(document, seller)
    },
  )

  app.get(
    `${PATH}.csv`,
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'The lines of an invoice as CSV',
        params,
        produces: ['text/csv'],
        response: { 200: z.string().describe('RFC 4180, with a header.'), 404: problemSchema },
      },
    },
    async ({ organizationId, params }, reply) => {
      const document = await existing(pool, organizationId, params.id)
      return reply
        .header('content-type', 'text/csv; charset=utf-8')
        .header('content-disposition', `attachment; filename="${fileNameOf(document.invoice, 'csv')}"`)
        .send(invoiceCsv(document))
    },
  )

  app.get(
    `${PATH}.pdf`,
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'An invoice as a PDF document',
        description:
          'A4. The same invoice gives the same bytes. Drafts and void invoices say so on each page.',
        params,
        produces: ['application/pdf'],
        response: { 200: z.unknown().describe('The file.'), 404: problemSchema },
      },
    },
    async ({ organizationId, params }, reply) => {
      const document = await existing(pool, organizationId, params.id)
      const seller = await sellerAt(pool, organizationId, document.invoice.finalizedAt)
      return reply
        .header('content-type', 'application/pdf')
        .header('content-disposition', `inline; filename="${fileNameOf(document.invoice, 'pdf')}"`)
        .send(await pdfOf(document, seller))
    },
  )
}

async function existing(pool: Pool, organizationId: string, id: string): Promise<InvoiceDocument> {
  const document = await findInvoiceDocument(pool, organizationId, id)
  if (document === undefined) {
    throw new Problem({ code: 'not-found', detail: 'There is no invoice with this id.' })
  }
  return document
}

/** The library of PDF documents takes a while to load: it waits until one is asked for. */
async function pdfOf(...[document, seller]: Parameters<typeof InvoicePdf.invoicePdf>): Promise<Buffer> {
  const { invoicePdf } = await import('./invoice-pdf.ts')
  return invoicePdf(document, seller)
}
