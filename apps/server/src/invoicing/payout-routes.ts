import { hash } from 'node:crypto'
import { decimal, decimalText, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { inTransaction } from '../database/transaction.ts'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import { Problem } from '../http/problem.ts'
import type { CreatedPosition } from './credit-note-store.ts'
import { idempotencyKeyOf, idempotencyKeySchema } from './idempotency-key.ts'
import { findPayout, insertPayout, listPayouts, PAYOUT_STATUSES, type Payout } from './payout-store.ts'

export interface PayoutRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly newPayoutId: () => string
  /** Told within the transaction that records a payout of an id at Stripe: what was said of it before counts now. */
  readonly onRecorded: (client: PoolClient, organizationId: string, externalId: string) => Promise<void>
}

const TAGS = ['payouts']
const PAGE_MAX = 500

const text = z
  .string()
  .min(1)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed text without NUL')
const instant = z.union([z.iso.datetime({ offset: true }), z.iso.date()], 'must be RFC 3339 or a date')

const bodySchema = z
  .strictObject({
    recipient: text.max(512).describe('Whom it goes to: the owner of a model, as you name them.'),
    amount: z
      .string()
      .regex(/^\d{1,15}(\.\d{1,18})?$/, 'must be an amount as a decimal string such as "12.50"')
      .refine((value) => !/^[0.]*$/.test(value), 'must be above zero'),
    currency: z.string().regex(/^[A-Z]{3}$/, 'must be an ISO 4217 code such as EUR'),
    external_id: z
      .string()
      .regex(/^(po|tr)_\w{1,200}$/, 'must be the id of a payout or transfer at Stripe: po_… or tr_…')
      .optional()
      .describe("By which Stripe's webhooks find it."),
    period_start: instant.optional().describe('What it is for; the end is excluded.'),
    period_end: instant.optional(),
    note: text.max(1_000).optional(),
    idempotency_key: idempotencyKeySchema
      .optional()
      .describe('A repeat with the same key is the same payout. Or the header Idempotency-Key.'),
  })
  .superRefine(({ period_start: start, period_end: end }, context) => {
    if ((start === undefined) !== (end === undefined)) {
      context.addIssue({ code: 'custom', path: ['period_end'], message: 'goes together with period_start' })
    } else if (start !== undefined && end !== undefined && Date.parse(start) >= Date.parse(end)) {
      context.addIssue({ code: 'custom', path: ['period_end'], message: 'must lie after period_start' })
    }
  })

const payoutJson = z.object({
  id: z.string(),
  recipient: z.string(),
  amount: z.string().describe('Exact decimal.'),
  currency: z.string(),
  status: z.enum(PAYOUT_STATUSES),
  failure_reason: z.string().nullable(),
  external_id: z.string().nullable(),
  period_start: z.string().nullable(),
  period_end: z.string().nullable(),
  arrival_date: z.string().nullable(),
  note: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
})
const listJson = z.object({ payouts: z.array(payoutJson), next_cursor: z.string().nullable() })
const listQuery = z.strictObject({
  recipient: text.max(512).optional(),
  status: z.enum(PAYOUT_STATUSES).optional(),
  start: instant.optional().describe('Payouts whose period ends after this.'),
  end: instant.optional().describe('Payouts whose period begins before this.'),
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(100),
  cursor: z.string().max(500).optional(),
})
const position = z
  .tuple([z.number().int(), z.guid()])
  .transform(([createdAtMs, id]): CreatedPosition => ({ createdAtMs, id }))

/** Registers everything under `/api/v1/payouts`. */
export function registerPayoutRoutes(app: App, dependencies: PayoutRouteDependencies): void {
  const { pool, now, newPayoutId, onRecorded } = dependencies

  app.post(
    '/api/v1/payouts',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Record a payout',
        description:
          'Moves no money: it records what was, or will be, paid. Its status follows from webhooks.',
        body: bodySchema,
        response: { 200: payoutJson, 201: payoutJson },
      },
    },
    async (request, reply) => {
      const { organizationId, apiKeyId, body } = request
      const { idempotency_key: field, ...content } = body
      const id = newPayoutId()
      const idempotencyKey = idempotencyKeyOf(request.headers, field) ?? id
      const amount = decimalText(decimal(body.amount).plus(ZERO))
      const requestHash = hash('sha256', JSON.stringify({ ...content, amount }), 'buffer')
      const { payout, isNew } = await inTransaction(pool, async (client) => {
        const isNew = await insertPayout(client, organizationId, {
          ...{ id, apiKeyId, idempotencyKey, requestHash, amount, createdAt: now() },
          ...{ recipient: body.recipient, currency: body.currency, status: 'pending' },
          ...{ externalId: body.external_id ?? null, note: body.note ?? null, arrivalDate: null },
          periodStart: dateOf(body.period_start) ?? null,
          periodEnd: dateOf(body.period_end) ?? null,
        })
        if (isNew && body.external_id !== undefined) {
          await onRecorded(client, organizationId, body.external_id)
        }
        return { payout: await findPayout(client, organizationId, { idempotencyKey }), isNew }
      })
      if (payout === undefined) throw taken('external_id', 'belongs to another payout')
      if (!payout.requestHash.equals(requestHash)) throw taken('idempotency_key', 'belongs to another payout')
      return reply.code(isNew ? 201 : 200).send(payoutToJson(payout))
    },
  )

  app.get(
    '/api/v1/payouts',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Payouts, newest first',
        querystring: listQuery,
        response: { 200: listJson },
      },
    },
    async (request) => {
      const { query } = request
      const payouts = await listPayouts(pool, {
        organizationId: request.organizationId,
        recipient: query.recipient,
        status: query.status,
        start: dateOf(query.start),
        end: dateOf(query.end),
        after: query.cursor === undefined ? undefined : parseCursor(query.cursor, position),
        limit: query.limit + 1,
      })
      const { page, nextCursor } = pageOf(payouts, query.limit, ({ createdAt, id }) => [
        createdAt.getTime(),
        id,
      ])
      return { payouts: page.map(payoutToJson), next_cursor: nextCursor }
    },
  )

  app.get(
    '/api/v1/payouts/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'A payout',
        params: z.object({ id: z.guid('must be a UUID') }),
        response: { 200: payoutJson },
      },
    },
    async (request) => {
      const payout = await findPayout(pool, request.organizationId, { id: request.params.id })
      if (payout === undefined) {
        throw new Problem({ code: 'not-found', detail: 'There is no payout with this id.' })
      }
      return payoutToJson(payout)
    },
  )
}

function dateOf(value: string | undefined): Date | undefined {
  return value === undefined ? undefined : new Date(value)
}

function taken(path: string, message: string): Problem {
  return new Problem({
    code: 'conflict',
    detail: 'Another payout has this, and stands.',
    errors: [{ path, message }],
  })
}

function payoutToJson(payout: Payout): z.input<typeof payoutJson> {
  return {
    id: payout.id,
    recipient: payout.recipient,
    amount: payout.amount,
    currency: payout.currency,
    status: payout.status,
    failure_reason: payout.failureReason,
    external_id: payout.externalId,
    period_start: payout.periodStart?.toISOString() ?? null,
    period_end: payout.periodEnd?.toISOString() ?? null,
    arrival_date: payout.arrivalDate,
    note: payout.note,
    created_at: payout.createdAt.toISOString(),
    updated_at: payout.updatedAt.toISOString(),
  }
}
