import {
  CallContext,
  cleanDimensions,
  currentContext,
  type DimensionResolvers,
  type Dimensions,
  type MeterOptions,
  resolveDimensions,
  runInContext,
  startForRequests,
  type UsageSoFar,
} from '@tokentally/meter'
import type { NextFunction, Request, RequestHandler, Response } from 'express'

export { attribute, cost, flush, meter, record, shutdown } from '@tokentally/meter'

/** Options of the middleware: those of the meter, and whom a request's calls are for. */
export type TokenTallyOptions = MeterOptions & DimensionResolvers<Request>

/** `req.tokenTally`: the request's own account. */
export interface RequestTally {
  /** Adds dimensions, for calls that are not finished yet. */
  add(dimensions: Dimensions): void
  /** What the request has used so far. */
  readonly usage: UsageSoFar
}

declare global {
  namespace Express {
    interface Request {
      tokenTally: RequestTally
    }
  }
}

/**
 * Express middleware: every LLM call made while a request is handled is metered, whichever SDK made it, and
 * attributed by the resolvers. They run when the request makes its first call, and not without one; one that
 * throws is reported and its dimension left out.
 *
 * @throws TypeError for a wrong option, when the middleware is made
 * @example app.use(tokenTally({ customer: (req) => req.get('x-customer-id'), feature: (req) => req.path }))
 */
export function tokenTally(options: TokenTallyOptions = {}): RequestHandler {
  const { settings } = startForRequests(options)
  return function tokenTally(req: Request, _res: Response, next: NextFunction): void {
    const context = new CallContext(currentContext(), () => resolveDimensions(options, req, settings.onError))
    req.tokenTally = {
      add: (dimensions) => context.add(cleanDimensions(dimensions)),
      get usage() {
        return context.usage
      },
    }
    runInContext(context, next)
  }
}
