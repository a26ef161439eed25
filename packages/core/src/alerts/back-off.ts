/** Waits between attempts, in milliseconds; together about 23 hours and 40 minutes. */
const WAITS_MS: readonly number[] = [
  1_000,
  5_000,
  30_000,
  2 * 60_000,
  10 * 60_000,
  30 * 60_000,
  3_600_000,
  2 * 3_600_000,
  4 * 3_600_000,
  8 * 3_600_000,
  8 * 3_600_000,
]

/** From a delivery's first attempt to the last one that is made. */
export const DELIVERY_WINDOW_MS = 24 * 3_600_000

/** Waits differ by up to this share, so that deliveries that failed together do not come back together. */
const JITTER_SHARE = 0.1

export interface FailedAttempt {
  /** Attempts made, this one included. */
  readonly attempts: number
  /** When the delivery came into being, UTC milliseconds. */
  readonly createdMs: number
  readonly nowMs: number
  /** What the receiver asked to wait (`Retry-After`), in milliseconds. */
  readonly retryAfterMs: number | undefined
  /** From 0 (included) to 1 (excluded). */
  readonly random: number
}

/**
 * When a delivery that failed is tried again, UTC milliseconds: after a second, then after ever longer waits, and
 * never sooner than the receiver asked for.
 *
 * @returns undefined when it is given up: all waits are used up, or the next would end after the window of a day
 */
export function nextAttemptMs(failed: FailedAttempt): number | undefined {
  const wait = WAITS_MS[failed.attempts - 1]
  if (wait === undefined) return undefined
  const spread = wait * (1 + JITTER_SHARE * (2 * failed.random - 1))
  const nextMs = failed.nowMs + Math.round(Math.max(spread, failed.retryAfterMs ?? 0))
  return nextMs - failed.createdMs > DELIVERY_WINDOW_MS ? undefined : nextMs
}

/**
 * Reads a `Retry-After` header (RFC 9110, 10.2.3): seconds, or a date.
 *
 * @returns milliseconds from now, at least 0; undefined when it is neither
 */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined
  if (/^\d{1,9}$/.test(header.trim())) return Number(header) * 1000
  const dateMs = Date.parse(header)
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs)
}
