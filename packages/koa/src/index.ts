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
import type { Context, Middleware, Next } from 'koa'

export { attribute, cost, flush, meter, record, shutdown } from '@tokentally/meter'

/** Options of the middleware: those of the meter, and whom a request's calls are for. */
export type TokenTallyOptions = MeterOptions & DimensionResolvers<Context>

/** `ctx.tokenTally`: the request's own account. */
export interface RequestTally {
  /** Adds dimensions, for calls that are not finished yet. */
  add(dimensions: Dimensions): void
  /** What the request has used so far. */
  readonly usage: UsageSoFar
}

declare module 'koa' {
  interface DefaultContext {
    tokenTally: RequestTally
  }
}

/**
 * Koa middleware: every LLM call made while a request is handled is metered, whichever SDK made it, and
 * attributed by the resolvers. They run when the request makes its first call, and not without one; one that
 * throws is reported and its dimension left out.
 *
 * @throws TypeError for a wrong option, when the middleware is made
 * @example app.use(tokenTally({ customer: (ctx) => ctx.get('x-customer-id'), feature: (ctx) => ctx.path }))
 */
export function tokenTally(options: TokenTallyOptions = {}): Middleware {
  const { settings } = startForRequests(options)
  return function tokenTally(ctx: Context, next: Next): Promise<unknown> {
    const context = new CallContext(currentContext(), () => resolveDimensions(options, ctx, settings.onError))
    ctx['tokenTally'] = {
      add: (dimensions: Dimensions) => context.add(cleanDimensions(dimensions)),
      get usage() {
        return context.usage
      },
    } satisfies RequestTally
    return runInContext(context, next)
  }
}
