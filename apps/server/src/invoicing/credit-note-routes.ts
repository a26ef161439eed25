import { z } from 'zod'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import {
  type CreatedPosition,
  type CreditNote,
  findCreditNote,
  listCreditNotes,
} from './credit-note-store.ts'
import { idempotencyKeyOf, idempotencyKeySchema } from './idempotency-key.ts'
import {
  type CreditNoteDependencies,
  creditCorrection,
  type Issued,
  issueCreditNote,
  noSuchNote,
  voidCreditNote,
} from './issue-credit-note.ts'

const TAGS = ['invoices']
const PAGE_MAX = 500

const text = z
  .string()
  .min(1)
  .max(1_000)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed text without NUL')
const idParams = z.object({ id: z.guid('must be a UUID') })
const preview = z.boolean().default(false).describe('Only show what would be issued.')

const byHandSchema = z
  .strictObject({
    reason: text,
    full: z.literal(true).optional().describe('What is left of the invoice.'),
    lines: z
      .array(
        z.strictObject({
          line_no: z.number().int().min(1),
          amount: z
            .string()
            .regex(/^\d{1,15}(\.\d{1,18})?$/, 'must be an amount as a decimal string such as "12.50"')
            .describe("In the invoice's currency."),
        }),
      )
      .min(1)
      .max(10_000)
      .optional(),
    idempotency_key: idempotencyKeySchema
      .optional()
      .describe('A repeat with the same key is the same note. Or the header Idempotency-Key.'),
    preview,
  })
  .superRefine(({ full, lines }, context) => {
    if ((full === undefined) === (lines === undefined)) {
      context.addIssue({ code: 'custom', path: ['lines'], message: 'give either lines or full' })
    }
  })

const fromCorrectionSchema = z.strictObject({
  correction_id: z.guid('must be a UUID'),
  customer_id: text.max(512).optional().describe('Default: every customer that the correction concerns.'),
  reason: text.optional().describe('Default: names the correction.'),
  preview,
})

const noteJson = z.object({
  id: z.string().nullable().describe('Null in a preview.'),
  number: z.string().nullable(),
  status: z.enum(['preview', 'issued', 'void']),
  invoice_id: z.string(),
  invoice_number: z.string().nullable(),
  customer_id: z.string(),
  reason: z.string(),
  correction_id: z.string().nullable(),
  issued_by: z.enum(['api', 'stripe']),
  currency: z.string(),
  total: z.string().describe('Exact decimal.'),
  lines: z.array(z.object({ line_no: z.number(), description: z.string(), amount: z.string() })),
  created_at: z.string().nullable(),
  voided_at: z.string().nullable(),
})
const issuedJson = z.object({
  preview: z.boolean(),
  credit_notes: z.array(noteJson),
  not_credited: z
    .array(z.object({ customer_id: z.string(), entries: z.number(), reason: z.string() }))
    .describe(
      'Entries of the correction that no note settles: they come into the next invoice, or are in one.',
    ),
})
const listJson = z.object({ credit_notes: z.array(noteJson), next_cursor: z.string().nullable() })

const listQuery = z.strictObject({
  invoice_id: z.guid('must be a UUID').optional(),
  customer_id: text.max(512).optional(),
  correction_id: z.guid('must be a UUID').optional(),
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(100),
  cursor: z.string().max(500).optional(),
})
const position = z
  .tuple([z.number().int(), z.guid()])
  .transform(([createdAtMs, id]): CreatedPosition => ({ createdAtMs, id }))

export interface CreditNoteRouteDependencies extends CreditNoteDependencies {
  /** Notes were issued: other systems are to be told. */
  readonly onIssued: () => void
}

/** Registers everything under `/api/v1/credit-notes`, and the notes of an invoice. */
export function registerCreditNoteRoutes(app: App, dependencies: CreditNoteRouteDependencies): void {
  const { pool, onIssued } = dependencies

  app.post(
    '/api/v1/invoices/:id/credit-notes',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Issue a credit note on an invoice',
        description: 'Tied to lines: never more than is left of each, nor of the invoice.',
        params: idParams,
        body: byHandSchema,
        response: { 200: noteJson, 201: noteJson },
      },
    },
    async (request, reply) => {
      const { organizationId, apiKeyId, body } = request
      const issued = await issueCreditNote(
        dependencies,
        { organizationId, apiKeyId },
        {
          invoiceId: request.params.id,
          reason: body.reason,
          credit:
            body.lines === undefined
              ? { full: true }
              : { lines: body.lines.map(({ line_no: lineNo, amount }) => ({ lineNo, amount })) },
          idempotencyKey: idempotencyKeyOf(request.headers, body.idempotency_key),
          preview: body.preview,
        },
      )
      if (issued.kind === 'issued') onIssued()
      return reply.code(issued.kind === 'issued' ? 201 : 200).send(issuedToJson(issued))
    },
  )

  app.post(
    '/api/v1/credit-notes',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Issue the credit notes of a correction',
        description:
          'One for each finalized invoice that the correction makes less. Without it, corrections come into the next invoice as late usage.',
        body: fromCorrectionSchema,
        response: { 200: issuedJson, 201: issuedJson },
      },
    },
    async (request, reply) => {
      const { organizationId, apiKeyId, body } = request
      const { notes, left } = await creditCorrection(
        dependencies,
        { organizationId, apiKeyId },
        {
          correctionId: body.correction_id,
          customer: body.customer_id,
          reason: body.reason,
          preview: body.preview,
        },
      )
      const isIssued = notes.some(({ kind }) => kind === 'issued')
      if (isIssued) onIssued()
      return reply.code(isIssued ? 201 : 200).send({
        preview: body.preview,
        credit_notes: notes.map(issuedToJson),
        not_credited: left.map(({ customer, entries, reason }) => ({
          customer_id: customer,
          entries,
          reason,
        })),
      })
    },
  )

  app.get(
    '/api/v1/credit-notes',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Credit notes, newest first',
        querystring: listQuery,
        response: { 200: listJson },
      },
    },
    async (request) => {
      const { query } = request
      const notes = await listCreditNotes(pool, {
        organizationId: request.organizationId,
        invoiceId: query.invoice_id,
        customer: query.customer_id,
        correctionId: query.correction_id,
        after: query.cursor === undefined ? undefined : parseCursor(query.cursor, position),
        limit: query.limit + 1,
      })
      const { page, nextCursor } = pageOf(notes, query.limit, ({ createdAt, id }) => [
        createdAt.getTime(),
        id,
      ])
      return { credit_notes: page.map(noteToJson), next_cursor: nextCursor }
    },
  )

  app.get(
    '/api/v1/credit-notes/:id',
    {
      config: { scope: 'read' },
      schema: { tags: TAGS, summary: 'A credit note', params: idParams, response: { 200: noteJson } },
    },
    async (request) => {
      const note = await findCreditNote(pool, request.organizationId, { id: request.params.id })
      if (note === undefined) throw noSuchNote()
      return noteToJson(note)
    },
  )

  app.post(
    '/api/v1/credit-notes/:id/void',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Void a credit note that was issued by hand',
        params: idParams,
        response: { 200: noteJson },
      },
    },
    async (request) =>
      noteToJson(await voidCreditNote(dependencies, request.organizationId, request.params.id)),
  )
}

function issuedToJson(issued: Issued): z.input<typeof noteJson> {
  if (issued.kind !== 'preview') return noteToJson(issued.note)
  const { invoice, reason, correctionId, total, lines } = issued.note
  return {
    ...{ id: null, number: null, status: 'preview', created_at: null, voided_at: null, issued_by: 'api' },
    ...{ invoice_id: invoice.id, invoice_number: invoice.number, customer_id: invoice.customer },
    ...{ reason, correction_id: correctionId, currency: invoice.currency, total, lines: linesToJson(lines) },
  }
}

function noteToJson(note: CreditNote): z.input<typeof noteJson> {
  return {
    id: note.id,
    number: note.number,
    status: note.voidedAt === null ? 'issued' : 'void',
    invoice_id: note.invoiceId,
    invoice_number: note.invoiceNumber,
    customer_id: note.customer,
    reason: note.reason,
    correction_id: note.correctionId,
    issued_by: note.externalId === null ? 'api' : 'stripe',
    currency: note.currency,
    total: note.total,
    lines: linesToJson(note.lines),
    created_at: note.createdAt.toISOString(),
    voided_at: note.voidedAt?.toISOString() ?? null,
  }
}

function linesToJson(lines: CreditNote['lines']): z.input<typeof noteJson>['lines'] {
  return lines.map(({ lineNo, description, amount }) => ({ line_no: lineNo, description, amount }))
}
