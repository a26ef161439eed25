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
  'spend_anomaly',
  'unpriced_usage',
  'count_mismatch',
  'dead_letters',
] as const

export type AlertKind = (typeof ALERT_KINDS)[number]

export interface AlertLife {
  readonly state: AlertState
  /** UTC milliseconds; null unless `snoozed`. */
  readonly snoozedUntilMs: number | null
  /** UTC milliseconds: when there is nothing to act on any more. */
  readonly periodEndMs: number
}

/** Longest snooze. */
export const SNOOZE_MAX_MS = 366 * 24 * 3_600_000

/** What an alert is after the clock alone has moved. */
export function aged<Alert extends AlertLife>(alert: Alert, nowMs: number): Alert {
  if (alert.state === 'resolved') return alert
  if (nowMs >= alert.periodEndMs) return { ...alert, state: 'resolved', snoozedUntilMs: null }
  if (alert.state === 'snoozed' && nowMs >= (alert.snoozedUntilMs ?? 0)) {
    return { ...alert, state: 'fired', snoozedUntilMs: null }
  }
  return alert
}

/** Somebody has seen it. @returns undefined when it is resolved: there is nothing to see to any more */
export function acknowledged<Alert extends AlertLife>(alert: Alert): Alert | undefined {
  if (alert.state === 'resolved') return undefined
  return { ...alert, state: 'acknowledged', snoozedUntilMs: null }
}

/** Whether an alert in this state can be put off. What is acknowledged is already out of the way. */
export function maySnooze(state: AlertState): boolean {
  return state === 'fired' || state === 'snoozed'
}
