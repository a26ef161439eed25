import {
  type BillingProfile,
  billingProfileSchema,
  cycleFrom,
  firstCycleStartMs,
  startOfDayMs,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import { inTransaction } from '../database/transaction.ts'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { lockCustomerInvoices } from './lock.ts'
import {
  deleteProfile,
  findProfile,
  lastInvoicedEnds,
  listProfiles,
  type StoredProfile,
  writeProfile,
} from './profile-store.ts'

export interface ProfileRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

const HOUR_MS = 3_600_000
const tags = ['billing profiles']
const params = z.object({
  customer_id: z
    .string()
    .min(1)
    .max(512)
    .refine((id) => id.isWellFormed() && !id.includes('\0'), 'must be well-formed Unicode without NUL'),
})

const profileJson = z.object({
  customer_id: z.string(),
  ...billingProfileSchema.shape,
  invoiced_until: z
    .string()
    .nullable()
    .describe('The end of the last cycle that has an invoice; the next cycle begins there.'),
  next_cycle: z
    .object({
      start: z.string(),
      end: z.string(),
      closes_at: z.string().describe('Its end and the hours of grace: its invoice is made then.'),
    })
    .nullable()
    .describe('The next cycle without an invoice; null: `ends_on` lies before it.'),
  created_at: z.string(),
  updated_at: z.string(),
})

/** Registers everything under `/api/v1/billing-profiles`. */
export function registerProfileRoutes(app: App, dependencies: ProfileRouteDependencies): void {
  registerReading(app, dependencies)
  registerWriting(app, dependencies)
}

function registerReading(app: App, { pool }: ProfileRouteDependencies): void {
  app.get(
    '/api/v1/billing-profiles',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'How customers are invoiced, by customer id',
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(1000).default(100),
          cursor: z.string().optional().describe('`next_cursor` of the page before.'),
        }),
        response: {
          200: z.object({ billing_profiles: z.array(profileJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, positionSchema)[0]
      const profiles = await listProfiles(pool, { organizationId, limit: query.limit + 1, after })
      const { page, nextCursor } = pageOf(profiles, query.limit, ({ customer }) => [customer])
      const ends = await lastInvoicedEnds(
        pool,
        organizationId,
        page.map(({ customer }) => customer),
      )
      return {
        billing_profiles: page.map((stored) => profileToJson(stored, ends.get(stored.customer))),
        next_cursor: nextCursor,
      }
    },
  )

  app.get(
    '/api/v1/billing-profiles/:customer_id',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'How a customer is invoiced',
        params,
        response: { 200: profileJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params: { customer_id: customer } }) => {
      const stored = await findProfile(pool, organizationId, customer)
      if (stored === undefined) throw notFound(customer)
      return profileToJson(stored, (await lastInvoicedEnds(pool, organizationId, [customer])).get(customer))
    },
  )
}

function registerWriting(app: App, { pool, now }: ProfileRouteDependencies): void {
  app.put(
    '/api/v1/billing-profiles/:customer_id',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Set how a customer is invoiced',
        description:
          'The whole profile; what is left out gets its default. It counts for all cycles that have no invoice yet, the running one too: that one begins where the last invoice ended and ends where the new profile says. Once there are invoices, `starts_on` stays, and `ends_on` cannot lie in what is invoiced.',
        params,
        body: billingProfileSchema,
        response: { 200: profileJson, 201: profileJson, 400: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, params: { customer_id: customer }, body }, reply) => {
      if (!Intl.supportedValuesOf('currency').includes(body.currency)) {
        throw new Problem({
          code: 'invalid-request',
          errors: [{ path: 'currency', message: 'is no currency of ISO 4217' }],
        })
      }
      const written = await inTransaction(pool, async (client) => {
        // A cycle that is closed meanwhile is closed by the profile before or by this one, and seen here or not yet made.
        await lockCustomerInvoices(client, organizationId, customer)
        const before = await findProfile(client, organizationId, customer)
        const end = (await lastInvoicedEnds(client, organizationId, [customer])).get(customer)
        if (before !== undefined && end !== undefined) refuseRewriting(before.profile, body, end)
        const stored = await writeProfile(client, organizationId, customer, body, now())
        return { isNew: before === undefined, json: profileToJson(stored, end) }
      })
      return reply.code(written.isNew ? 201 : 200).send(written.json)
    },
  )

  app.delete(
    '/api/v1/billing-profiles/:customer_id',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Remove the profile of a customer without invoices',
        description: 'A customer with invoices is ended by `ends_on`: late usage still needs its profile.',
        params,
        response: { 204: z.null(), 404: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, params: { customer_id: customer } }, reply) => {
      await inTransaction(pool, async (client) => {
        await lockCustomerInvoices(client, organizationId, customer)
        if ((await lastInvoicedEnds(client, organizationId, [customer])).has(customer)) {
          throw new Problem({
            code: 'conflict',
            detail: 'The customer has invoices. Set ends_on to invoice no further days.',
          })
        }
        if (!(await deleteProfile(client, organizationId, customer))) throw notFound(customer)
      })
      return reply.code(204).send(null)
    },
  )
}

/**
 * What is invoiced is settled: no profile may move the days that invoices stand for.
 *
 * @param invoicedUntil the end of the last cycle that has an invoice
 * @throws Problem `conflict` naming the fields
 */
function refuseRewriting(before: BillingProfile, after: BillingProfile, invoicedUntil: Date): void {
  const errors = []
  if (after.starts_on !== before.starts_on) {
    errors.push({
      path: 'starts_on',
      message: `cannot change once there are invoices; it is ${before.starts_on}`,
    })
  }
  if (
    after.ends_on !== undefined &&
    after.ends_on !== null &&
    startOfDayMs(after.ends_on, after.timezone) < invoicedUntil.getTime()
  ) {
    errors.push({
      path: 'ends_on',
      message: `lies before ${invoicedUntil.toISOString()}, up to which is invoiced`,
    })
  }
  if (errors.length === 0) return
  throw new Problem({ code: 'conflict', detail: 'The customer has invoices.', errors })
}

const positionSchema = z.tuple([z.string()])

function notFound(customer: string): Problem {
  return new Problem({ code: 'not-found', detail: `The customer "${customer}" has no billing profile.` })
}

function profileToJson({ customer, profile, createdAt, updatedAt }: StoredProfile, invoicedUntil?: Date) {
  const next = cycleFrom(profile, invoicedUntil?.getTime() ?? firstCycleStartMs(profile))
  return {
    customer_id: customer,
    ...profile,
    invoiced_until: invoicedUntil?.toISOString() ?? null,
    next_cycle:
      next === undefined
        ? null
        : {
            start: new Date(next.startMs).toISOString(),
            end: new Date(next.endMs).toISOString(),
            closes_at: new Date(next.endMs + profile.grace_hours * HOUR_MS).toISOString(),
          },
    created_at: createdAt.toISOString(),
    updated_at: updatedAt.toISOString(),
  }
}
