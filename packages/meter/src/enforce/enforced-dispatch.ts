import type { RecognizedCall } from '@tokentally/providers'
import type { BudgetExceededError } from './budget-exceeded-error.ts'
import type { Enforcer } from './enforcer.ts'

/** A request as an undici dispatcher was given it, its body read. */
export interface DispatchedBody {
  readonly bodyText: string | undefined
  readonly body: unknown
}

/**
 * Lets a call through a dispatcher go, refuses it, or sends it for a cheaper model.
 *
 * @param send does what would be done without limits
 * @param withoutLength the request's headers without the length of a body that is not sent
 */
export function enforcedDispatch(
  enforcer: Enforcer,
  call: RecognizedCall,
  sent: DispatchedBody,
  send: (sent: DispatchedBody, headers?: readonly string[]) => boolean,
  refuse: (error: BudgetExceededError) => void,
  withoutLength: () => readonly string[],
): boolean {
  const verdict = enforcer.judge(call, sent.bodyText, sent.bodyText !== undefined)
  switch (verdict.kind) {
    case 'go':
      return send(sent)
    case 'refused':
      refuse(verdict.error)
      return true
    case 'downgraded': {
      const { body } = verdict
      return verdict.run(() => send({ bodyText: body, body }, withoutLength()))
    }
  }
}
