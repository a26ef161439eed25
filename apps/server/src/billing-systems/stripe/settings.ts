import { z } from 'zod'
import { dryRunSetting } from '../dry-run.ts'

/** What a meter of Stripe's counts beside the meters of usage. */
export const TOKENS = 'tokens'
export const REQUESTS = 'requests'
export const SELL_AMOUNT = 'sell_amount'

const METERS_MAX = 20

const meterSchema = z.strictObject({
  event_name: z
    .string()
    .regex(/^[\w.:-]{1,100}$/, 'must be 1 to 100 letters, digits, and _ . : -')
    .describe('Names the meter at Stripe.'),
  display_name: z.string().min(1).max(250).nullable().default(null).describe('Default: the event name.'),
  value: z
    .string()
    .regex(
      /^[a-z][a-z0-9_]{0,63}$/,
      'must be a meter such as input_tokens, or one of tokens, requests, sell_amount',
    )
    .describe('What it counts.'),
})

/** A meter of Stripe's. */
export type MeterSetting = z.output<typeof meterSchema>

/** What an organization sets for Stripe. */
export const stripeSettingsSchema = z.strictObject({
  collection_method: z
    .enum(['send_invoice', 'charge_automatically'])
    .default('send_invoice')
    .describe('Whether Stripe mails the invoice, or charges the payment method of the customer.'),
  send: z.boolean().default(true).describe('Whether Stripe mails finalized invoices (`send_invoice`).'),
  automatic_tax: z.boolean().default(false).describe('Whether Stripe Tax adds the tax.'),
  meters: z
    .array(meterSchema)
    .max(METERS_MAX)
    .superRefine((meters, context) => {
      for (const [index, { event_name }] of meters.entries()) {
        if (meters.findIndex((other) => other.event_name === event_name) === index) continue
        context.addIssue({ code: 'custom', path: [index, 'event_name'], message: 'is another meter, too' })
      }
    })
    .default([])
    .describe('Of customers whose billing profile says `stripe_meters`.'),
  dry_run: dryRunSetting,
})

export type StripeSettings = z.output<typeof stripeSettingsSchema>

/** The name of the secret that holds the organization's key: `sk_live_…`, or a restricted key `rk_live_…`. */
export const API_KEY = 'api_key'
/** The name of the secret that signs webhooks: `whsec_…`. */
export const WEBHOOK_SECRET = 'webhook_secret'
