import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem } from '../http/problem.ts'
import { generateApiKey, hashApiKey } from './api-key.ts'
import type { KeyCache } from './authenticate.ts'
import { type ApiKey, insertKey, listKeys, revokeKey, scopeSchema } from './store.ts'

const keySchema = z.object({
  id: z.uuid(),
  name: z.string(),
  scopes: z.array(scopeSchema),
  created_at: z.string(),
  revoked_at: z.string().nullable(),
})
const TAGS = ['keys']

/** Registers the management of API keys, for keys with the scope `admin`. */
export function registerAccessRoutes(
  app: App,
  deps: { readonly pool: Pool; readonly cache: KeyCache },
): void {
  app.get(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'List API keys',
        response: { 200: z.object({ keys: z.array(keySchema) }) },
      },
    },
    async (request) => ({ keys: (await listKeys(deps.pool, request.organizationId)).map(toJson) }),
  )

  app.post(
    '/api/v1/keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Create an API key; the answer is the only time that it is shown',
        body: z.strictObject({
          name: z.string().trim().min(1).max(200),
          scopes: z.array(scopeSchema).min(1).max(4),
        }),
        response: { 201: keySchema.extend({ key: z.string() }) },
      },
    },
    async (request, reply) => {
      const key = generateApiKey()
      const created = await insertKey(deps.pool, {
        organizationId: request.organizationId,
        name: request.body.name,
        keyHash: hashApiKey(key),
        scopes: [...new Set(request.body.scopes)],
      })
      return reply
        .code(201)
        .header('cache-control', 'no-store')
        .send({ ...toJson(created), key })
    },
  )

  app.delete(
    '/api/v1/keys/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Revoke an API key; it stops working within 30 seconds on every replica',
        params: z.object({ id: z.uuid() }),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const isRevoked = await revokeKey(deps.pool, request.organizationId, request.params.id)
      if (!isRevoked)
        throw new Problem({ code: 'not-found', detail: 'There is no such key, or it is revoked.' })
      deps.cache.clear()
      return reply.code(204).send(null)
    },
  )
}

function toJson(key: ApiKey): z.infer<typeof keySchema> {
  return {
    id: key.id,
    name: key.name,
    scopes: [...key.scopes],
    created_at: key.createdAt.toISOString(),
    revoked_at: key.revokedAt?.toISOString() ?? null,
  }
}
