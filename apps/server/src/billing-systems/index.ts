import type { BillingSystem } from './billing-system.ts'

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
export { type Delivery, deliveriesOf } from './outbox/outbox-reads.ts'
export { deliveryJson, deliveryToJson, registerOutboxRoutes } from './outbox/routes.ts'
export { registerSettingsRoutes } from './settings-routes.ts'

/** Every system that an organization can set up. */
export function createBillingSystems(): readonly BillingSystem[] {
  return []
}
