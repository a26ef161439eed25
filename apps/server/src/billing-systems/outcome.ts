import { retryAfterMs } from '@tokentally/core'
import { ForbiddenTarget } from '../http/guarded-request.ts'
import { SealBroken } from '../sealed-secret.ts'
import type { StepOutcome } from './billing-system.ts'

/** How calls to other systems ended, as outcomes of steps. */

/** As much of what another system says as is kept. */
const SAID_MAX = 500

export function refused(reason: string): StepOutcome {
  return { kind: 'refused', reason: storable(reason) }
}

export function retry(reason: string, waitMs?: number): StepOutcome {
  return waitMs === undefined
    ? { kind: 'retry', reason: storable(reason) }
    : { kind: 'retry', reason: storable(reason), retryAfterMs: waitMs }
}

/** Nobody knows whether the other side did it: the connection failed, or the answer did not come in time. */
export function unanswered(error: unknown): StepOutcome {
  if (error instanceof ForbiddenTarget) return refused(`The target ${error.message}.`)
  if (error instanceof SealBroken) return refused(error.message)
  if (!(error instanceof Error)) return retry(String(error))
  const code = 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : ''
  return retry(`${error.message === '' ? 'The connection failed' : error.message}${code}`)
}

/** What a status that is no success means: whether the same call can succeed later. */
export function failedWith(
  answer: { readonly status: number; readonly retryAfter: string | undefined },
  said: string,
  at: Date,
): StepOutcome {
  const { status, retryAfter } = answer
  const reason = `answered ${status}${said === '' ? '' : `: ${said}`}`
  const isTemporary = status >= 500 || [408, 409, 423, 425, 429].includes(status)
  return isTemporary ? retry(reason, retryAfterMs(retryAfter, at.getTime())) : refused(reason)
}

/** Text of a stranger: PostgreSQL takes no NUL. */
function storable(text: string): string {
  return text.replaceAll('\0', '').toWellFormed().slice(0, SAID_MAX)
}
