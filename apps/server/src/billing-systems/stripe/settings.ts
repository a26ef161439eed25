import { z } from 'zod'
import { dryRunSetting } from '../dry-run.ts'

/** What an organization sets for Stripe. */
export const stripeSettingsSchema = z.strictObject({
  collection_method: z
    .enum(['send_invoice', 'charge_automatically'])
    .default('send_invoice')
    .describe('Whether Stripe mails the invoice, or charges the payment method of the customer.'),
  send: z.boolean().default(true).describe('Whether Stripe mails finalized invoices (`send_invoice`).'),
  automatic_tax: z.boolean().default(false).describe('Whether Stripe Tax adds the tax.'),
  dry_run: dryRunSetting,
})

export type StripeSettings = z.output<typeof stripeSettingsSchema>

/** The name of the secret that holds the organization's key: `sk_live_…`, or a restricted key `rk_live_…`. */
export const API_KEY = 'api_key'
/** The name of the secret that signs webhooks: `whsec_…`. */
export const WEBHOOK_SECRET = 'webhook_secret'
