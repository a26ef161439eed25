import { retryAfterMs } from '@tokentally/core'
import Stripe from 'stripe'
import type { StepOutcome } from '../billing-system.ts'

/** A wrong key is mended by a person; until then there is no use in asking often. */
const UNAUTHORIZED_WAIT_MS = 5 * 60_000

/**
 * What a failed call means (docs.stripe.com/error-low-level).
 *
 * - Connection failed, timed out: nobody knows whether it was done. Again, with the same key.
 * - 409, 429: not done, nothing kept. Again, with the same key.
 * - 500 and more: nobody knows, and Stripe answers this key with the same 500 from now on. Looked for, then
 *   again with another key.
 * - Key used with other parameters: the same.
 * - 401, 403: not done. Again; a person must change the key.
 * - 400, 402, 404: it would never succeed. Refused.
 *
 * @returns undefined when the error does not come from a call to Stripe
 */
export function outcomeOfFailure(error: unknown, nowMs: number): StepOutcome | undefined {
  if (!(error instanceof Stripe.errors.StripeError)) return undefined
  const { statusCode = 0, message, headers = {} } = error
  const waitMs = retryAfterMs(headers['retry-after'], nowMs)
  const later = waitMs === undefined ? {} : { retryAfterMs: waitMs }
  if (error instanceof Stripe.errors.StripeConnectionError) {
    return { kind: 'retry', reason: 'Stripe cannot be reached, or did not answer in time.', ...later }
  }
  if (error instanceof Stripe.errors.StripeRateLimitError || statusCode === 409 || statusCode === 429) {
    return { kind: 'retry', reason: `Stripe asks to come back later: ${message}`, ...later }
  }
  if (
    error instanceof Stripe.errors.StripeAuthenticationError ||
    error instanceof Stripe.errors.StripePermissionError
  ) {
    // Its own message repeats a part of the key.
    const reason =
      statusCode === 403
        ? 'Stripe: the api_key does not allow this.'
        : 'Stripe does not accept the api_key; set another one.'
    return { kind: 'retry', reason, retryAfterMs: UNAUTHORIZED_WAIT_MS }
  }
  if (error instanceof Stripe.errors.StripeIdempotencyError) {
    return { kind: 'retry', reason: `Stripe: ${message}`, isKeySettled: true }
  }
  if (statusCode >= 500 || error instanceof Stripe.errors.StripeAPIError) {
    return { kind: 'retry', reason: `Stripe failed (${statusCode}).`, isKeySettled: true, ...later }
  }
  if (error.code === 'resource_missing' && error.param === 'customer') {
    return { kind: 'refused', reason: `Stripe has no such customer, or has deleted it: ${message}` }
  }
  return { kind: 'refused', reason: `Stripe refuses it: ${message}` }
}
