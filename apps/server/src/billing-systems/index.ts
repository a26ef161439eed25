import type Stripe from 'stripe'
import type { BillingSystem } from './billing-system.ts'
import { createStripe } from './stripe/index.ts'

/** Other systems that are told of invoices, and the outbox that tells them. */
export type {
  BillingSystem,
  CreditNoteDocument,
  PlannedStep,
  StepContext,
  StepOutcome,
} from './billing-system.ts'
export {
  createHandOverAnnouncer,
  createOutboxAnnouncer,
  defineOutboxJobs,
  refreshOutboxMetrics,
} from './outbox/jobs.ts'
export { deliveriesOf } from './outbox/outbox-reads.ts'
export { registerOutboxRoutes } from './outbox/routes.ts'
export { registerSettingsRoutes } from './settings-routes.ts'
export { createStripeClients } from './stripe/client.ts'
export { defineReconcileJob } from './stripe/jobs.ts'
export { registerReconciliation } from './stripe/routes.ts'
export { registerStripeWebhookRoutes, replayStripeEvents } from './stripe-webhooks/index.ts'

/** Every system that an organization can set up. */
export function createBillingSystems({
  stripe,
}: {
  /** A client of Stripe by API key. */
  readonly stripe: (apiKey: string) => Stripe
}): readonly BillingSystem[] {
  return [createStripe(stripe)]
}
