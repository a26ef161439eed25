import { randomUUID } from 'node:crypto'
import { decimal, decimalText } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import { inOneSnapshot } from '../../database/transaction.ts'
import type { App } from '../../http/app.ts'
import { Problem } from '../../http/problem.ts'
import { heldIn, heldScopeOfCredit } from '../holds/held-amounts.ts'
import { changeBudgets } from '../store.ts'
import { creditAccounts } from './balance.ts'
import { type CreditEntry, insertEntry, listEntries, openAccount, setAutoRefill } from './credit-store.ts'

const TAGS = ['credit']
/** Most that is paid in at once; beyond it somebody mistyped. US dollars. */
const AMOUNT_MAX_USD = 1_000_000_000
const ENTRIES_SHOWN = 100

const params = z.object({
  customer_id: z
    .string()
    .min(1)
    .max(512)
    .refine((value) => !value.includes('\0'), 'must not contain NUL'),
})
const positive = z
  .string()
  .regex(/^\d{1,12}(\.\d{1,18})?$/, 'must be US dollars as a decimal string such as "25"')
  .refine((value) => !/^[0.]*$/.test(value), 'must be above zero')
  .refine((value) => Number(value) <= AMOUNT_MAX_USD, `must be at most ${AMOUNT_MAX_USD}`)
const signed = z
  .string()
  .regex(/^-?\d{1,12}(\.\d{1,18})?$/, 'must be US dollars as a decimal string such as "25" or "-3.50"')
  .refine((value) => !/^-?[0.]*$/.test(value), 'must not be zero')
  .refine((value) => Math.abs(Number(value)) <= AMOUNT_MAX_USD, `must be at most ${AMOUNT_MAX_USD}`)

const bodySchema = z
  .strictObject({
    kind: z.enum(['top_up', 'adjustment']).default('top_up'),
    amount: signed.describe('US dollars, a decimal string; negative only for an adjustment.'),
    idempotency_key: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('A repeat with the same key is the same entry. Without one every request is another.'),
    note: z.string().max(1_000).optional(),
  })
  .superRefine(({ kind, amount }, context) => {
    if (kind === 'top_up' && amount.startsWith('-'))
      context.addIssue({
        code: 'custom',
        path: ['amount'],
        message: 'must be above zero; use the kind adjustment to take something back',
      })
  })
const refillSchema = z.strictObject({
  auto_refill: z
    .strictObject({
      threshold: positive.describe('Tops up once the balance is below this.'),
      amount: positive,
      max_per_month: z.number().int().min(1).max(1_000).describe('Of a UTC month.'),
    })
    .nullable()
    .describe('Null: no auto-refill.'),
})

const money = z.string().describe('US dollars, exact decimal')
const entryJson = z.object({
  id: z.string(),
  kind: z.enum(['top_up', 'adjustment', 'auto_refill']),
  amount: money,
  note: z.string().nullable(),
  idempotency_key: z.string(),
  created_at: z.string(),
})
const creditJson = z.object({
  customer_id: z.string(),
  currency: z.literal('USD'),
  balance: money.describe('Paid in less used; below zero when calls under way cost more than was left.'),
  held: money.describe('Reserved for calls that are under way. US dollars, exact decimal'),
  paid_in: money,
  used: money.describe("The sell cost of the customer's usage since credit was switched on."),
  started_at: z.string(),
  auto_refill: refillSchema.shape.auto_refill,
  entries: z.array(entryJson).describe(`The last ${ENTRIES_SHOWN}, newest first.`),
})

/** Registers everything under `/api/v1/customers/{customer_id}/credit`. */
export function registerCreditRoutes(
  app: App,
  { pool, now }: { readonly pool: Pool; readonly now: () => Date },
): void {
  app.post(
    '/api/v1/customers/:customer_id/credit',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: "Top up or adjust a customer's prepaid credit",
        description:
          'The first entry switches credit on: usage that reaches the ledger from then on is paid by it, and calls are blocked once it is used up.',
        params,
        body: bodySchema,
        response: { 200: creditJson, 201: creditJson },
      },
    },
    async (request, reply) => {
      const { organizationId, apiKeyId, body } = request
      const customer = request.params.customer_id
      const { entry, isNew } = await changeBudgets(pool, organizationId, async (client) => {
        await openAccount(client, organizationId, customer, now())
        return insertEntry(client, {
          organizationId,
          customer,
          kind: body.kind,
          amountUsd: body.amount,
          note: body.note ?? null,
          idempotencyKey: body.idempotency_key ?? randomUUID(),
          apiKeyId,
          at: now(),
        })
      })
      if (!isNew && (entry.kind !== body.kind || !decimal(entry.amountUsd).eq(decimal(body.amount)))) {
        throw new Problem({
          code: 'conflict',
          detail: 'Another entry has this key, and stands.',
          errors: [{ path: 'idempotency_key', message: 'belongs to an entry of another amount or kind' }],
        })
      }
      return reply.code(isNew ? 201 : 200).send(await creditOf(organizationId, customer))
    },
  )

  app.get(
    '/api/v1/customers/:customer_id/credit',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: "A customer's prepaid credit",
        params,
        response: { 200: creditJson },
      },
    },
    async (request) => creditOf(request.organizationId, request.params.customer_id),
  )

  app.put(
    '/api/v1/customers/:customer_id/credit/auto-refill',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Set or remove the rule by which credit tops itself up',
        params,
        body: refillSchema,
        response: { 200: creditJson },
      },
    },
    async (request) => {
      const { organizationId } = request
      const customer = request.params.customer_id
      const rule = request.body.auto_refill
      const refill =
        rule === null
          ? null
          : { thresholdUsd: rule.threshold, amountUsd: rule.amount, maxPerMonth: rule.max_per_month }
      const isSet = await changeBudgets(pool, organizationId, (client) =>
        setAutoRefill(client, organizationId, customer, refill, now()),
      )
      if (!isSet) throw noCredit()
      return creditOf(organizationId, customer)
    },
  )

  async function creditOf(organizationId: string, customer: string): Promise<z.input<typeof creditJson>> {
    const { account, held } = await inOneSnapshot(pool, async (client) => {
      const [account] = await creditAccounts(client, organizationId, [customer])
      const [held] = await heldIn(client, organizationId, now(), [heldScopeOfCredit(customer)])
      return { account, held }
    })
    if (account === undefined) throw noCredit()
    const entries = await listEntries(pool, organizationId, customer, ENTRIES_SHOWN)
    const { autoRefill } = account
    return {
      customer_id: customer,
      currency: 'USD',
      balance: decimalText(account.balanceUsd),
      held: held === undefined ? '0' : decimalText(held),
      paid_in: decimalText(account.paidInUsd),
      used: decimalText(account.usedUsd),
      started_at: account.startedAt.toISOString(),
      auto_refill:
        autoRefill === null
          ? null
          : {
              threshold: autoRefill.thresholdUsd,
              amount: autoRefill.amountUsd,
              max_per_month: autoRefill.maxPerMonth,
            },
      entries: entries.map(entryToJson),
    }
  }
}

function noCredit(): Problem {
  return new Problem({
    code: 'not-found',
    detail: 'This customer has no prepaid credit. The first top-up switches it on.',
  })
}

function entryToJson(entry: CreditEntry): z.input<typeof entryJson> {
  return {
    id: entry.id,
    kind: entry.kind,
    amount: entry.amountUsd,
    note: entry.note,
    idempotency_key: entry.idempotencyKey,
    created_at: entry.createdAt.toISOString(),
  }
}
