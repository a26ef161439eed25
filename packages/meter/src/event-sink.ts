import type { UsageEvent } from '@tokentally/core'

/** Takes finished events. Never throws; returns once the event counts as metered. */
export interface EventSink {
  append(event: UsageEvent): void
}
