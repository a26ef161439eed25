import { retryAfterMs } from '@tokentally/core'
import { z } from 'zod'
import type { StepOutcome } from '../billing-system.ts'
import { refused, retry, unanswered } from '../outcome.ts'

/** Chargebee's errors (apidocs.chargebee.com, "Error handling", read 2026-11-24) as outcomes of steps. */

const errorSchema = z.object({
  message: z.string().default(''),
  api_error_code: z.string().default(''),
  param: z.string().optional(),
  http_status_code: z.number(),
  headers: z.record(z.string(), z.string()).nullish(),
})

/** Codes of the status 409 that no waiting changes. */
const SETTLED_CONFLICTS = new Set(['invalid_state_for_request', 'duplicate_entry', 'resource_limit_exceeded'])

/** What a call threw. */
export function chargebeeFailure(error: unknown, at: Date): StepOutcome {
  const parsed = errorSchema.safeParse(error)
  if (!parsed.success) return unanswered(error)
  const { message, api_error_code: code, param, http_status_code: status, headers } = parsed.data
  const reason = `Chargebee answered ${status} ${code}${param === undefined ? '' : ` (${param})`}: ${message}`
  const isTemporary =
    status >= 500 || status === 429 || status === 408 || (status === 409 && !SETTLED_CONFLICTS.has(code))
  if (!isTemporary) return refused(reason)
  const outcome = retry(reason, retryAfterMs(headers?.['retry-after'], at.getTime()))
  // An answer that is a replay of a failure will be one for ever.
  const isReplay = headers?.['chargebee-idempotency-replayed'] === 'true'
  return outcome.kind === 'retry' && isReplay ? { ...outcome, isKeySettled: true } : outcome
}
