import type { FastifyRequest } from 'fastify'
import type { Pool } from 'pg'
import type { App, Scope } from '../http/app.ts'
import { Problem } from '../http/problem.ts'
import { hashApiKey } from './api-key.ts'
import { findGrant, type Grant } from './store.ts'

/** How long a lookup is remembered: a revoked key stops working within this time on every replica. */
const REMEMBER_MS = 30_000
/** Wrong keys are remembered as well, more shortly, so that a flood of them does not reach the database. */
const REMEMBER_WRONG_MS = 5_000
const REMEMBERED_MAX = 10_000
const CHALLENGE = 'Bearer realm="tokentally"'

export interface AuthenticateDeps {
  readonly pool: Pool
  readonly nowMs: () => number
}

/** Remembers what keys grant. */
export interface KeyCache {
  /** Forgets everything, after keys were changed here. */
  clear(): void
}

interface Remembered {
  readonly grant: Grant | undefined
  readonly untilMs: number
}

/**
 * Makes every route that declares a `scope` ask for a key with that scope, before its body is read, and sets
 * `request.organizationId` and `request.apiKeyId`. Register before the routes.
 */
export function authenticate(app: App, deps: AuthenticateDeps): KeyCache {
  const remembered = new Map<string, Remembered>()

  async function grantOf(key: string): Promise<Grant | undefined> {
    const keyHash = hashApiKey(key)
    const cacheKey = keyHash.toString('base64')
    const known = remembered.get(cacheKey)
    if (known !== undefined && known.untilMs > deps.nowMs()) return known.grant
    const grant = await findGrant(deps.pool, keyHash)
    if (remembered.size >= REMEMBERED_MAX) remembered.clear()
    remembered.set(cacheKey, {
      grant,
      untilMs: deps.nowMs() + (grant === undefined ? REMEMBER_WRONG_MS : REMEMBER_MS),
    })
    return grant
  }

  app.decorateRequest('organizationId', '')
  app.decorateRequest('apiKeyId', '')
  app.addHook('onRequest', async (request, reply) => {
    const { scope } = request.routeOptions.config
    if (scope === undefined) return
    const key = presentedKey(request)
    const grant = key === undefined ? undefined : await grantOf(key)
    if (grant === undefined) {
      reply.header('www-authenticate', key === undefined ? CHALLENGE : `${CHALLENGE}, error="invalid_token"`)
      throw new Problem({
        code: 'unauthorized',
        detail:
          key === undefined
            ? 'Send an API key as "Authorization: Bearer KEY" or "x-tokentally-key: KEY".'
            : 'This API key is unknown or revoked.',
      })
    }
    const scopes = typeof scope === 'string' ? [scope] : scope
    if (!scopes.some((one) => allows(grant, one))) {
      reply.header(
        'www-authenticate',
        `${CHALLENGE}, error="insufficient_scope", scope="${scopes.join(' ')}"`,
      )
      const named = scopes.map((one) => `"${one}"`).join(' or ')
      throw new Problem({ code: 'forbidden', detail: `This needs an API key with the scope ${named}.` })
    }
    request.organizationId = grant.organizationId
    request.apiKeyId = grant.apiKeyId
  })

  return { clear: () => remembered.clear() }
}

function allows(grant: Grant, scope: Scope): boolean {
  return grant.scopes.includes(scope) || grant.scopes.includes('admin')
}

function presentedKey(request: FastifyRequest): string | undefined {
  const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1]
  if (bearer !== undefined) return bearer
  const own = request.headers['x-tokentally-key']
  return typeof own === 'string' && own !== '' ? own : undefined
}
