import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Alert, AlertCandidate } from './alert.ts'
import { insertAlerts, wakeSnoozed } from './alert-store.ts'
import { isWanted } from './channel.ts'
import { listChannels } from './channel-store.ts'
import { type DeliveryId, insertDeliveries, type NewDelivery } from './delivery-store.ts'
import { alertMessage } from './message.ts'

export interface FireDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly publicUrl: string | undefined
  readonly metrics: Pick<Metrics, 'alertsFired'>
  /** Asks for a delivery at once; a failure is forgotten, because the schedule comes by anyway. */
  readonly announce: (delivery: DeliveryId) => void
}

/**
 * Fires those candidates of a group that have not fired yet, and writes in the same transaction what each channel
 * is told: one message about the last of the group that it wants, which lists the others. Order a group by
 * importance, the most important last.
 *
 * @returns what fired now
 */
export async function fire(
  { pool, now, publicUrl, metrics, announce }: FireDependencies,
  organizationId: string,
  group: readonly AlertCandidate[],
): Promise<readonly Alert[]> {
  if (group.length === 0) return []
  const candidates = group.map((candidate) => ({ ...candidate, id: randomUUID() }))
  const { fired, deliveries } = await inTransaction(pool, async (client) => {
    // Written in one order everywhere, so that two processes wait for each other and never in a circle.
    const written = await insertAlerts(client, organizationId, candidates.toSorted(bySubject), now())
    const fired = candidates.flatMap(({ id }) => written.get(id) ?? [])
    const deliveries: NewDelivery[] = []
    if (fired.length > 0) {
      for (const channel of await listChannels(client, organizationId)) {
        if (!channel.enabled) continue
        const wanted = fired.filter((alert) => isWanted(channel, alert))
        const alert = wanted.at(-1)
        if (alert === undefined) continue
        deliveries.push({
          organizationId,
          id: randomUUID(),
          channelId: channel.id,
          alertId: alert.id,
          cause: 'fired',
          message: alertMessage('alert.fired', alert, wanted.slice(0, -1).reverse(), publicUrl),
        })
      }
      await insertDeliveries(client, deliveries, now())
    }
    return { fired, deliveries }
  })
  for (const { details } of fired) metrics.alertsFired.inc({ kind: details.kind })
  for (const { id } of deliveries) announce({ organizationId, deliveryId: id })
  return fired
}

function bySubject(one: AlertCandidate, other: AlertCandidate): number {
  if (one.subjectKey === other.subjectKey) return one.threshold - other.threshold
  return one.subjectKey < other.subjectKey ? -1 : 1
}

/** Brings back alerts whose snooze is over, and reminds of each once. */
export async function remind({ pool, now, publicUrl, announce }: FireDependencies): Promise<void> {
  const deliveries = await inTransaction(pool, async (client) => {
    const deliveries: NewDelivery[] = []
    for (const { alert, snoozedUntil } of await wakeSnoozed(client, now())) {
      const { organizationId } = alert
      for (const channel of await listChannels(client, organizationId)) {
        if (!channel.enabled || !isWanted(channel, alert)) continue
        deliveries.push({
          organizationId,
          id: randomUUID(),
          channelId: channel.id,
          alertId: alert.id,
          cause: `reminder:${snoozedUntil.toISOString()}`,
          message: alertMessage('alert.reminder', alert, [], publicUrl),
        })
      }
    }
    await insertDeliveries(client, deliveries, now())
    return deliveries
  })
  for (const { organizationId, id } of deliveries) announce({ organizationId, deliveryId: id })
}
