import { INVOICE_STATUSES, type Invoice } from '@tokentally/core'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { type ClosingDependencies, closeCycles } from './close-cycles.ts'
import { computeInvoices } from './compute-invoice.ts'
import {
  carryForward,
  existingInvoice,
  finalizeInvoice,
  type InvoiceId,
  recalculateInvoice,
  reissueInvoice,
  voidInvoice,
} from './invoice-actions.ts'
import {
  type DeliveryState,
  invoiceSchema,
  invoiceToJson,
  invoiceWithLinesSchema,
  invoiceWithLinesToJson,
} from './invoice-json.ts'
import { listInvoices } from './invoice-list.ts'
import { linesOf } from './invoice-store.ts'
import { listLineEntries } from './line-entries.ts'
import { whyNothingWasClosed } from './nothing-due.ts'
import { paymentState } from './payment-state.ts'

const TAGS = ['invoices']
const customerId = z.string().min(1).max(512)
const pageParameters = {
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().max(2000).optional().describe('`next_cursor` of the page before.'),
}
const invoicePosition = z.tuple([z.iso.datetime(), z.uuid()])
const entryPosition = z.tuple([z.iso.datetime(), z.string(), z.enum(['event', 'late_rating'])])

const entrySchema = z.object({
  event_id: z.string(),
  ts: z.string(),
  source: z
    .enum(['event', 'late_rating'])
    .describe('`late_rating`: the price of an event that had none when it arrived.'),
  entry_kind: z.enum(['usage', 'reversal', 'replacement']),
  provider_request_id: z.string().nullable(),
  price_version_id: z.string().nullable(),
  markup_rule_id: z.string().nullable(),
  quantity: z.string(),
  list_cost: z.string().describe('US dollars'),
  sell_cost: z.string().describe('US dollars'),
  sold_in: z.string(),
  fx_rate: z.string().nullable(),
  fx_date: z.string().nullable(),
  amount: z.string().describe("Exact, in the invoice's currency; a line's add up to its `exact_amount`."),
})

export interface InvoiceRouteDependencies extends ClosingDependencies {
  /** How far other systems have been told of an invoice. */
  readonly deliveriesOf: (organizationId: string, invoiceId: string) => Promise<readonly DeliveryState[]>
  /** Invoices may have been opened or voided: other systems are to be told. */
  readonly onChanged: () => void
}

/** Registers what is under `/api/v1/invoices`. */
export function registerInvoiceRoutes(app: App, dependencies: InvoiceRouteDependencies): void {
  registerReading(app, dependencies)
  registerClosing(app, dependencies)
  registerAction(app, dependencies, 'finalize', finalizeInvoice, {
    summary: 'Finalize a draft',
    description: 'Gives it its number and opens it: from here on it never changes.',
  })
  registerAction(app, dependencies, 'void', voidInvoice, {
    summary: 'Void an invoice',
    description: 'Its cycle stays closed; what it was made of is invoiced again only when it is reissued.',
  })
  registerAction(app, dependencies, 'reissue', reissueInvoice, {
    summary: 'Make a new invoice of what a voided one was made of',
    description: 'Computed by the billing profile of now. A voided invoice can be reissued once.',
  })
  registerAction(app, dependencies, 'recalculate', recalculateInvoice, {
    summary: 'Compute the lines of a draft or blocked invoice anew',
    description: 'From the same entries of the ledger, by the billing profile of now: a new revision.',
  })
  registerAction(app, dependencies, 'carry-forward', carryForward, {
    summary: 'Hand a negative total on to the next invoice',
    description:
      'The invoice becomes a draft of zero; the next that is computed has the rest as `carried_in`.',
  })
}

function registerReading(app: App, dependencies: InvoiceRouteDependencies): void {
  const { pool } = dependencies
  app.get(
    '/api/v1/invoices',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Invoices, newest first',
        querystring: z.strictObject({
          customer_id: customerId.optional(),
          status: z.enum(INVOICE_STATUSES).optional(),
          period: z
            .string()
            .regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'must be a month such as 2026-11')
            .optional()
            .describe("Cycles that begin in this month, by the customer's own calendar."),
          ...pageParameters,
        }),
        response: {
          200: z.object({ invoices: z.array(invoiceSchema), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, invoicePosition)
      const invoices = await listInvoices(pool, {
        organizationId,
        customer: query.customer_id,
        status: query.status,
        period: query.period,
        limit: query.limit + 1,
        after: after === undefined ? undefined : { createdAt: new Date(after[0]), id: after[1] },
      })
      const { page, nextCursor } = pageOf(invoices, query.limit, ({ createdAt, id }) => [
        createdAt.toISOString(),
        id,
      ])
      return { invoices: page.map(invoiceToJson), next_cursor: nextCursor }
    },
  )

  app.get(
    '/api/v1/invoices/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'One invoice with its lines and the query that made it',
        params: z.object({ id: z.uuid() }),
        response: { 200: invoiceWithLinesSchema, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => withLines(dependencies, { organizationId, invoiceId: params.id }),
  )

  app.get(
    '/api/v1/invoices/:id/lines/:line_no/events',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'What an invoice line is made of',
        description: 'The earliest first. A line that is no usage has no events.',
        params: z.object({ id: z.uuid(), line_no: z.coerce.number().int().min(1) }),
        querystring: z.strictObject(pageParameters),
        response: {
          200: z.object({
            currency: z.string(),
            events: z.array(entrySchema),
            next_cursor: z.string().nullable(),
          }),
          400: problemSchema,
          404: problemSchema,
        },
      },
    },
    async ({ organizationId, params, query }) => {
      const invoice = await existingInvoice(pool, { organizationId, invoiceId: params.id })
      const line = (await linesOf(pool, invoice)).find(({ lineNo }) => lineNo === params.line_no)
      if (line === undefined)
        throw new Problem({ code: 'not-found', detail: 'The invoice has no such line.' })
      const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, entryPosition)
      const entries =
        line.kind === 'usage'
          ? await listLineEntries(pool, invoice, line, {
              limit: query.limit + 1,
              after:
                after === undefined
                  ? undefined
                  : { ts: new Date(after[0]), eventId: after[1], source: after[2] },
            })
          : []
      const { page, nextCursor } = pageOf(entries, query.limit, ({ ts, eventId, source }) => [
        ts.toISOString(),
        eventId,
        source,
      ])
      return {
        currency: invoice.currency,
        events: page.map((entry) => ({
          event_id: entry.eventId,
          ts: entry.ts.toISOString(),
          source: entry.source,
          entry_kind: entry.entryKind,
          provider_request_id: entry.providerRequestId,
          price_version_id: entry.priceVersionId,
          markup_rule_id: entry.markupRuleId,
          quantity: entry.quantity,
          list_cost: entry.listCostUsd,
          sell_cost: entry.sellCostUsd,
          sold_in: entry.soldIn,
          fx_rate: entry.rate,
          fx_date: entry.rateDate,
          amount: entry.amount,
        })),
        next_cursor: nextCursor,
      }
    },
  )
}

function registerClosing(app: App, dependencies: InvoiceRouteDependencies): void {
  const { pool, now } = dependencies
  app.post(
    '/api/v1/invoices/close',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Close the cycles that are due',
        description:
          'As the service does every few minutes: cycles that ended and waited for late events become invoices. 409 when that of the customer named is closed already, or is not due.',
        body: z.strictObject({
          customer_id: customerId.optional().describe('Default: all customers.'),
          until: z.iso.datetime({ offset: true }).optional().describe('Only cycles that ended by then.'),
        }),
        response: {
          200: z.object({
            closed: z.number().int(),
            invoice_ids: z.array(z.uuid()),
          }),
          400: problemSchema,
          404: problemSchema,
          409: problemSchema,
        },
      },
    },
    async ({ organizationId, body }) => {
      const request = {
        organizationId,
        customer: body.customer_id,
        untilMs: body.until === undefined ? undefined : Date.parse(body.until),
      }
      const closed = await closeCycles(dependencies, request)
      if (closed.length === 0 && request.customer !== undefined) {
        throw await whyNothingWasClosed(pool, {
          ...request,
          customer: request.customer,
          nowMs: now().getTime(),
        })
      }
      await computeInvoices(dependencies, { organizationId })
      dependencies.onChanged()
      return { closed: closed.length, invoice_ids: [...closed] }
    },
  )
}

function registerAction(
  app: App,
  dependencies: InvoiceRouteDependencies,
  name: string,
  act: (dependencies: ClosingDependencies, which: InvoiceId) => Promise<Invoice>,
  words: { readonly summary: string; readonly description: string },
): void {
  app.post(
    `/api/v1/invoices/:id/${name}`,
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        ...words,
        params: z.object({ id: z.uuid() }),
        response: { 200: invoiceWithLinesSchema, 404: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const { id } = await act(dependencies, { organizationId, invoiceId: params.id })
      dependencies.onChanged()
      return withLines(dependencies, { organizationId, invoiceId: id })
    },
  )
}

async function withLines(
  { pool, deliveriesOf }: InvoiceRouteDependencies,
  which: InvoiceId,
): Promise<z.infer<typeof invoiceWithLinesSchema>> {
  const { organizationId, invoiceId } = which
  const invoice = await existingInvoice(pool, which)
  return invoiceWithLinesToJson(invoice, await linesOf(pool, invoice), {
    payment: await paymentState(pool, organizationId, invoiceId),
    deliveries: await deliveriesOf(organizationId, invoiceId),
  })
}
