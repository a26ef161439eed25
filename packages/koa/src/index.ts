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
import type { Context, Middleware, Next } from 'koa'
import { withBudgetErrors } from './budget-errors.ts'
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

/** Options of the middleware: those of the meter, and whom a request's calls are for. */
export type TokenTallyOptions = MeterOptions & DimensionResolvers<Context>

declare module 'koa' {
  interface DefaultContext {
    /** The request's own account. */
    tokenTally: RequestTally
  }
}

/**
 * Koa middleware: every LLM call made while a request is handled is metered, whichever SDK made it, and
 * attributed by the resolvers. They run when the request makes its first call, and not without one; one that
 * throws is reported and its dimension left out. Without `feature`, the feature is the pattern of the route. With
 * `enforce`, requests whose calls a limit does not allow are answered by 429 with problem details.
 *
 * @throws TypeError for a wrong option, when the middleware is made
 * @example app.use(tokenTally({ customer: (ctx) => ctx.get('x-customer-id') }))
 */
export function tokenTally(options: TokenTallyOptions = {}): Middleware {
  const { settings } = startForRequests(options)
  const isFeatureGiven = options.feature !== undefined
  const byRoute: DimensionResolvers<Context> = { feature: routePattern }
  return function tokenTally(ctx: Context, next: Next): Promise<unknown> {
    const context = new CallContext(
      currentContext(),
      () => resolveDimensions(options, ctx, settings.onError),
      isFeatureGiven ? undefined : () => resolveDimensions(byRoute, ctx, settings.onError),
    )
    ctx['tokenTally'] = new RequestTally(context)
    const handled = runInContext(context, next)
    return settings.enforce === false ? handled : withBudgetErrors(ctx, handled)
  }
}
