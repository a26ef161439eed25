import type { Pool } from 'pg'
import type Stripe from 'stripe'
import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { Problem, problemSchema } from '../../http/problem.ts'
import { findSettings, openSystemSecrets } from '../settings-store.ts'
import { DIFFERENCE_KINDS, type Difference } from './compare.ts'
import { outcomeOfFailure } from './failures.ts'
import { INVOICES_MAX, reconcile } from './reconcile.ts'
import { API_KEY } from './settings.ts'

export interface StripeRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly secretKey: Buffer
  readonly clientFor: (apiKey: string) => Stripe
}

const DEFAULT_SPAN_MS = 31 * 86_400_000

const instant = z.iso.datetime({ offset: true })
const differenceJson = z.object({
  kind: z.enum(DIFFERENCE_KINDS),
  invoice_id: z.string(),
  number: z.string().nullable(),
  stripe_invoice_id: z.string().nullable(),
  line: z.string().nullable(),
  ours: z.string().nullable(),
  theirs: z.string().nullable(),
  cause: z.string(),
})

/** Registers the comparison with Stripe. */
export function registerReconciliation(app: App, dependencies: StripeRouteDependencies): void {
  const { pool, now, secretKey, clientFor } = dependencies
  app.get(
    '/api/v1/billing-systems/stripe/reconciliation',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['billing systems'],
        summary: 'Compare invoices with Stripe, both ways',
        description: `Totals, lines, customer, currency and status of at most ${INVOICES_MAX} invoices; each costs a call to Stripe.`,
        querystring: z.strictObject({
          from: instant.optional().describe('Finalized since. Default: 31 days before `to`.'),
          to: instant.optional().describe('Finalized before. Default: now.'),
        }),
        response: {
          200: z.object({
            from: z.string(),
            to: z.string(),
            checked: z.number().int().describe('Invoices here that were compared.'),
            differences: z.array(differenceJson),
          }),
          400: problemSchema,
          404: problemSchema,
          503: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const to = query.to === undefined ? now() : new Date(query.to)
      const from = query.from === undefined ? new Date(to.getTime() - DEFAULT_SPAN_MS) : new Date(query.from)
      if (from >= to) throw invalid('from', 'must lie before `to`')
      const settings = await findSettings(pool, organizationId, 'stripe')
      const apiKey = settings === undefined ? undefined : openSystemSecrets(secretKey, settings)[API_KEY]
      if (apiKey === undefined) {
        throw new Problem({ code: 'not-found', detail: 'stripe is not set up, or has no api_key.' })
      }
      const result = await reconcile(pool, clientFor(apiKey), { organizationId, from, to }).catch(
        (error: unknown) => {
          const outcome = outcomeOfFailure(error, now().getTime())
          if (outcome === undefined || outcome.kind === 'done') throw error
          throw new Problem({ code: 'unavailable', detail: outcome.reason, cause: error })
        },
      )
      if (result === undefined) {
        throw invalid('from', `reaches over more than ${INVOICES_MAX} invoices; ask for a shorter time`)
      }
      return {
        from: from.toISOString(),
        to: to.toISOString(),
        checked: result.checked,
        differences: result.differences.map(differenceToJson),
      }
    },
  )
}

function invalid(path: string, message: string): Problem {
  return new Problem({ code: 'invalid-request', errors: [{ path, message }] })
}

function differenceToJson(difference: Difference): z.infer<typeof differenceJson> {
  const { invoiceId: invoice_id, stripeInvoiceId: stripe_invoice_id, ...others } = difference
  return { invoice_id, stripe_invoice_id, ...others }
}
