import type Stripe from 'stripe'
import type { BillingSystem } from '../billing-system.ts'
import { planCreditNote } from './credit-note-steps.ts'
import { stripeAmount } from './minor-amount.ts'
import { performStripeStep } from './perform.ts'
import { planInvoice, planVoid } from './plan.ts'
import { API_KEY, stripeSettingsSchema, WEBHOOK_SECRET } from './settings.ts'

/**
 * Stripe by its own library: one invoice for each of ours, of customers whose profile says `stripe_invoices`.
 *
 * @param clientFor a client by API key
 */
export function createStripe(clientFor: (apiKey: string) => Stripe): BillingSystem {
  return {
    name: 'stripe',
    reach: 'customer',
    profileSystems: ['stripe_invoices'],
    settingsSchema: stripeSettingsSchema,
    secretNames: [API_KEY, WEBHOOK_SECRET],
    invoiceSteps: planInvoice,
    creditNoteSteps: (document) => planCreditNote(document, stripeAmount),
    voidSteps: planVoid,
    perform: (step, context) => performStripeStep(clientFor, step, context),
  }
}
