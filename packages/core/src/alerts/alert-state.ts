/**
 * The life of an alert.
 *
 * ```
 *            ┌──────── until passes ────────┐
 *            ▼                              │
 *   (new) ─ fired ─ snooze ─────────────▶ snoozed
 *            │ ack                          │ ack
 *            ▼                              ▼
 *        acknowledged ◀──────────────────────
 *
 *   each of them ─ the period ends ─▶ resolved (final)
 * ```
 *
 * It is fired once: what it is about (kind, subject, period, threshold) is a unique key of the data. A snooze that
 * runs out makes it `fired` again and is told once more as a reminder; nothing else is ever told twice.
 */
export type AlertState = 'fired' | 'acknowledged' | 'snoozed' | 'resolved'

export const ALERT_STATES = ['fired', 'acknowledged', 'snoozed', 'resolved'] as const

/** What alerts are about. */
export const ALERT_KINDS = [
  'budget_threshold',
  'budget_forecast',
  'spend_anomaly',
  'unpriced_usage',
  'count_mismatch',
  'dead_letters',
] as const

export type AlertKind = (typeof ALERT_KINDS)[number]

/** Longest snooze. */
export const SNOOZE_MAX_MS = 366 * 24 * 3_600_000

/** What may follow on each state; to repeat a step changes nothing. */
const NEXT: Readonly<Record<AlertState, readonly AlertState[]>> = {
  fired: ['acknowledged', 'snoozed', 'resolved'],
  acknowledged: ['acknowledged', 'resolved'],
  snoozed: ['fired', 'acknowledged', 'snoozed', 'resolved'],
  resolved: [],
}

/** The states that an alert can be in before it comes to another one. */
export function statesBefore(next: AlertState): readonly AlertState[] {
  return ALERT_STATES.filter((state) => NEXT[state].includes(next))
}
