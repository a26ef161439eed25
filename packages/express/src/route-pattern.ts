import type { Request } from 'express'

/**
 * The pattern of the route that handles a request, as the app wrote it: `/chat/:id`. A feature by pattern has as
 * many values as the app has routes, a feature by URL as many as it has visitors. Several patterns of one route
 * are joined by `|`, a regular expression stands as its source.
 *
 * Express keeps of a router's mount point only the path that matched: `/tenants/42`. Where the router merges its
 * parent's parameters, their values are turned back into their names.
 *
 * @returns undefined outside of a route, in middleware for instance
 */
export function routePattern(req: Request): string | undefined {
  const path: unknown = req.route?.path
  if (path === undefined) return undefined
  const paths: readonly unknown[] = Array.isArray(path) ? path : [path]
  const mount = mountPattern(req, paths.map(String))
  return paths
    .map((one) => (one instanceof RegExp ? mount + String(one) : withoutLastSlash(mount + String(one))))
    .join('|')
}

/** `/chat` and `/chat/` are one route; `/` stays. */
function withoutLastSlash(pattern: string): string {
  return pattern.length > 1 && pattern.endsWith('/') ? pattern.slice(0, -1) : pattern
}

function mountPattern(req: Request, patterns: readonly string[]): string {
  const isOwn = (name: string) => patterns.some((pattern) => new RegExp(`[:*<]${name}(?!\\w)`).test(pattern))
  const merged = Object.entries(req.params).filter(([name]) => /^\w+$/.test(name) && !isOwn(name))
  return req.baseUrl
    .split('/')
    .map((segment) => {
      const parameter = merged.find(([, value]) => segment !== '' && value === decoded(segment))
      return parameter === undefined ? segment : `:${parameter[0]}`
    })
    .join('/')
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
