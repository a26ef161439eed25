import type { UsageEvent } from '@tokentally/core'

/** Takes finished events. Never throws; returns once the event counts as metered. */
export interface EventSink {
  append(event: UsageEvent): void
  /**
   * Keeps an event that is still worked on, such as one whose tokens are being counted: if the process dies, it counts as it
   * is here.
   *
   * @returns lets go of it; to be called once the finished event was appended
   */
  hold(event: UsageEvent): () => void
}
