import { pino } from 'pino'
import { handOver } from '../../apps/server/src/billing-systems/outbox/hand-over.ts'
import { performSteps } from '../../apps/server/src/billing-systems/outbox/perform-steps.ts'
import { createStripeClients } from '../../apps/server/src/billing-systems/stripe/client.ts'
import { createStripe } from '../../apps/server/src/billing-systems/stripe/index.ts'
import { createPool } from '../../apps/server/src/database/pool.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'

/** A worker of the outbox to be killed. Its clock runs fast, so that waits between attempts are short. */

const CLOCK_SPEED = 20
const startedMs = Number(process.env['CLOCK_START_MS'])
const logger = pino({ level: 'silent' })
const pool = createPool({
  url: process.env['DATABASE_URL'] ?? '',
  maxConnections: 6,
  applicationName: 'outbox worker',
  logger,
})
const dependencies = {
  pool,
  systems: [createStripe(createStripeClients({ url: process.env['STRIPE_URL'], timeoutMs: 300 }))],
  secretKey: Buffer.alloc(32, 7),
  now: () => new Date(startedMs + CLOCK_SPEED * (Date.now() - startedMs)),
  random: Math.random,
  logger,
  metrics: createMetrics(),
  // A second and a half: longer than any step of this Stripe takes, timeouts included.
  leaseMs: 1_500 * CLOCK_SPEED,
}
for (;;) {
  await handOver(dependencies)
  await performSteps(dependencies)
  await new Promise((resolve) => setTimeout(resolve, 20))
}
