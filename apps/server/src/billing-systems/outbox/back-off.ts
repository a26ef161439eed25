/** The first wait; each is twice the one before. */
const FIRST_WAIT_MS = 1_000
/** Steps are never given up: what is owed stays owed, and a system may be away for days. */
const LONGEST_WAIT_MS = 3_600_000
/** Waits differ by up to this share, so that steps that failed together do not come back together. */
const JITTER_SHARE = 0.25

export interface FailedTry {
  /** Attempts made, this one included. */
  readonly attempts: number
  readonly nowMs: number
  /** What the other system asked to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined
  /** From 0 (included) to 1 (excluded). */
  readonly random: number
}

/** When a step that failed is tried again, UTC milliseconds; never sooner than the other system asked for. */
export function nextTryMs({ attempts, nowMs, retryAfterMs, random }: FailedTry): number {
  const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempts - 1, 30))
  const spread = wait * (1 + JITTER_SHARE * (2 * random - 1))
  return nowMs + Math.round(Math.max(spread, retryAfterMs ?? 0))
}
