import type { Context } from 'koa'

/**
 * The pattern of the route that handles a request, as `@koa/router` or `koa-router` was given it, with the
 * prefixes of its routers: `/chat/:id`. A feature by pattern has as many values as the app has routes, a feature
 * by URL as many as it has visitors. A regular expression stands as its source.
 *
 * @returns undefined outside of a route, in middleware for instance
 */
export function routePattern(ctx: Context): string | undefined {
  const pattern: unknown = ctx['_matchedRoute']
  if (typeof pattern !== 'string' && !(pattern instanceof RegExp)) return undefined
  // The router names its own middleware (`router.use`) in the same place; a route has methods.
  const layers: unknown = ctx['matched']
  if (Array.isArray(layers) && !layers.some((layer) => isRoute(layer, pattern))) return undefined
  if (pattern instanceof RegExp) return String(pattern)
  // `/chat` and `/chat/` are one route.
  return pattern.length > 1 && pattern.endsWith('/') ? pattern.slice(0, -1) : pattern || '/'
}

function isRoute(layer: unknown, pattern: string | RegExp): boolean {
  if (typeof layer !== 'object' || layer === null || !('path' in layer) || !('methods' in layer)) return false
  return layer.path === pattern && Array.isArray(layer.methods) && layer.methods.length > 0
}
