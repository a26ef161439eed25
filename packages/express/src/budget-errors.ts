import { budgetErrorOf } from '@tokentally/meter'
import type { ErrorRequestHandler, NextFunction, Request, Response } from 'express'

/**
 * Error-handling middleware: a handler that failed because a limit did not allow its LLM call is answered by 429
 * (503 where the service could not be asked and `enforce` is `'closed'`), with problem details (RFC 9457) and
 * `Retry-After`. All other errors go on. With `enforce`, `tokenTally()` puts it behind all that the app has; give
 * it a place of its own before error handlers that answer everything.
 *
 * @example app.use(budgetErrors())
 */
export function budgetErrors(): ErrorRequestHandler {
  return function budgetErrors(error: unknown, _req: Request, res: Response, next: NextFunction): void {
    const refused = budgetErrorOf(error)
    if (refused === undefined || res.headersSent) {
      next(error)
      return
    }
    res
      .status(refused.status)
      .set('retry-after', String(refused.retryAfterS))
      .type('application/problem+json')
      .send(JSON.stringify(refused.toProblem()))
  }
}
