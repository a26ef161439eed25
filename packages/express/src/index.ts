import {
  CallContext,
  currentContext,
  type DimensionResolvers,
  type MeterOptions,
  RequestTally,
  resolveDimensions,
  runInContext,
  startForRequests,
} from '@tokentally/meter'
import type { NextFunction, Request, RequestHandler, Response } from 'express'
import { budgetErrors } from './budget-errors.ts'
import { routePattern } from './route-pattern.ts'

export {
  attribute,
  BudgetExceededError,
  budgetErrorOf,
  cost,
  decisionsReady,
  flush,
  meter,
  RequestTally,
  record,
  shutdown,
} from '@tokentally/meter'
export { budgetErrors } from './budget-errors.ts'

/** Options of the middleware: those of the meter, and whom a request's calls are for. */
export type TokenTallyOptions = MeterOptions & DimensionResolvers<Request>

declare global {
  namespace Express {
    interface Request {
      /** The request's own account. */
      tokenTally: RequestTally
    }
  }
}

/**
 * Express middleware: every LLM call made while a request is handled is metered, whichever SDK made it, and
 * attributed by the resolvers. They run when the request makes its first call, and not without one; one that
 * throws is reported and its dimension left out. Without `feature`, the feature is the pattern of the route. With
 * `enforce`, requests whose calls a limit does not allow are answered by 429 (`budgetErrors`).
 *
 * @throws TypeError for a wrong option, when the middleware is made
 * @example app.use(tokenTally({ customer: (req) => req.get('x-customer-id') }))
 */
export function tokenTally(options: TokenTallyOptions = {}): RequestHandler {
  const { settings } = startForRequests(options)
  const isFeatureGiven = options.feature !== undefined
  const byRoute: DimensionResolvers<Request> = { feature: routePattern }
  const appsWithErrors = new WeakSet<object>()
  return function tokenTally(req: Request, _res: Response, next: NextFunction): void {
    // Behind all that the app has by the time of its first request, its own error handlers included.
    if (settings.enforce !== false && !appsWithErrors.has(req.app)) {
      appsWithErrors.add(req.app)
      req.app.use(budgetErrors())
    }
    const context = new CallContext(
      currentContext(),
      () => resolveDimensions(options, req, settings.onError),
      isFeatureGiven ? undefined : () => resolveDimensions(byRoute, req, settings.onError),
    )
    req.tokenTally = new RequestTally(context)
    runInContext(context, next)
  }
}
