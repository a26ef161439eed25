/** What Stripe tells us. */
export { type ApplyContext, replayStripeEvents } from './apply-event.ts'
export { registerStripeWebhookRoutes, type StripeWebhookDependencies } from './routes.ts'
