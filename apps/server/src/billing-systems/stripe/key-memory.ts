import type { StepContext } from '../billing-system.ts'

/** Stripe keeps keys for at least 24 hours: a repeat later than this looks whether it was done. */
const KEY_KEPT_MS = 23 * 3_600_000

/** Whether a key that Stripe has forgotten, or would answer with an old failure, no longer protects from a repeat. */
export function mustLook({ keyGeneration, keySince, at }: StepContext): boolean {
  return keyGeneration > 0 || at.getTime() - keySince.getTime() > KEY_KEPT_MS
}
