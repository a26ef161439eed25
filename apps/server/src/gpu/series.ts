/** A model on a target: GPUs that serve the same thing, whose time is attributed together. */
export interface Series {
  readonly organizationId: string
  readonly target: string
  readonly provider: string
  readonly model: string
}

/** GPU time is closed by the minute: a minute lies in one bucket of every rollup and report. */
export const INTERVAL_MS = 60_000
