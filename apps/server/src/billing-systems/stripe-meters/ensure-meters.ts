import type { Pool } from 'pg'
import { inTransaction } from '../../database/transaction.ts'
import { appendSteps } from '../outbox/outbox-store.ts'
import { ensureMeterStep } from '../stripe/meter-steps.ts'
import type { StripeSettings } from '../stripe/settings.ts'

/**
 * Plans that the meters of the settings are made at Stripe, each once and in a stream of its own, `meter:EVENT_NAME`. What a
 * dry run made is not there: it is made when the dry run ends.
 *
 * @returns the event names of those that are not there yet
 */
export async function ensureMeters(
  pool: Pool,
  organizationId: string,
  { meters, dry_run }: StripeSettings,
  now: Date,
): Promise<readonly string[]> {
  return inTransaction(pool, async (client) => {
    await client.query("select pg_advisory_xact_lock(hashtext('tokentally.stripe_meters'), hashtext($1))", [
      organizationId,
    ])
    const streams = meters.map(({ event_name }) => streamOf(event_name))
    const { rows } = await client.query<LastStep>(
      `select distinct on (stream) stream, step_no, status, coalesce(result -> 'dry_run' = 'true', false) as was_dry
       from outbox_step
       where organization_id = $1 and system = 'stripe' and stream = any($2)
       order by stream, step_no desc`,
      [organizationId, streams],
    )
    const last = new Map(rows.map((step) => [step.stream, step]))
    for (const meter of meters) {
      const stream = streamOf(meter.event_name)
      const before = last.get(stream)
      if (before !== undefined && !isOnlyDry(before, dry_run)) continue
      const about = `meter:${(before?.step_no ?? 0) + 1}`
      const steps = [ensureMeterStep(meter)]
      await appendSteps(client, { organizationId, system: 'stripe', stream, about, steps }, now)
    }
    return meters
      .map(({ event_name }) => event_name)
      .filter((eventName) => {
        const step = last.get(streamOf(eventName))
        return step?.status !== 'done' || isOnlyDry(step, dry_run)
      })
  })
}

interface LastStep {
  readonly stream: string
  readonly step_no: number
  readonly status: string
  readonly was_dry: boolean
}

function isOnlyDry({ status, was_dry }: LastStep, isDryRun: boolean): boolean {
  return status === 'done' && was_dry && !isDryRun
}

function streamOf(eventName: string): string {
  return `meter:${eventName}`
}
