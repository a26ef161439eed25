import { budgetErrorOf } from '@tokentally/meter'
import type { Context } from 'koa'

/**
 * A request whose handling failed because a limit did not allow its LLM call is answered by 429 (503 where the
 * service could not be asked and `enforce` is `'closed'`), with problem details (RFC 9457) and `Retry-After`. All
 * other errors go on to whatever middleware stands outside.
 */
export async function withBudgetErrors(ctx: Context, handled: Promise<unknown>): Promise<void> {
  try {
    await handled
  } catch (error) {
    const refused = budgetErrorOf(error)
    if (refused === undefined || ctx.headerSent || !ctx.writable) throw error
    ctx.status = refused.status
    ctx.set('retry-after', String(refused.retryAfterS))
    ctx.body = JSON.stringify(refused.toProblem())
    ctx.type = 'application/problem+json'
  }
}
