import type Stripe from 'stripe'
import type { GuardOptions } from '../http/guarded-request.ts'
import type { BillingSystem } from './billing-system.ts'
import { createChargebeeSystem } from './chargebee/chargebee-system.ts'
import { withDryRun } from './dry-run.ts'
import { createFileSystem } from './file/file-system.ts'
import { createJournalSystem } from './journal/journal-system.ts'
import type { KeepSecret } from './keep-secret.ts'
import { createNetsuiteSystem } from './netsuite/netsuite-system.ts'
import { createQuickbooksSystem } from './quickbooks/quickbooks-system.ts'
import { createStripe } from './stripe/index.ts'
import { createWebhookSystem } from './webhook/webhook-system.ts'

/** Other systems that are told of invoices, and the outbox that tells them. */
export type {
  BillingSystem,
  CreditNoteDocument,
  PlannedStep,
  StepContext,
  StepOutcome,
} from './billing-system.ts'
export { type JournalRouteDependencies, registerJournalRoutes } from './journal/routes.ts'
export { createKeepSecret } from './keep-secret.ts'
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
export { defineMeterJob, registerMeterRoutes } from './stripe-meters/index.ts'
export { registerStripeWebhookRoutes, replayStripeEvents } from './stripe-webhooks/index.ts'

export interface BillingSystemDependencies {
  /** Decides which addresses may be asked. */
  readonly guard: GuardOptions
  /** The folder that files of invoices are written below. */
  readonly documentsDir: string
  readonly keepSecret: KeepSecret
  /** A client of Stripe by API key. */
  readonly stripe: (apiKey: string) => Stripe
}

/** Every system that an organization can set up. */
export function createBillingSystems({
  guard,
  documentsDir,
  keepSecret,
  stripe,
}: BillingSystemDependencies): readonly BillingSystem[] {
  return [
    createStripe(stripe),
    createFileSystem(documentsDir),
    createWebhookSystem(guard),
    createChargebeeSystem(guard),
    createJournalSystem(),
    createQuickbooksSystem(guard, keepSecret),
    createNetsuiteSystem(guard),
  ].map((system) => withDryRun(system, documentsDir))
}
