import { VENDORS, type Vendor } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { type GuardOptions, targetComplaint } from '../http/guarded-request.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { sealSecret } from '../sealed-secret.ts'
import { deleteConnection, findConnection, putConnection, type VendorConnection } from './connection-store.ts'
import { FETCHED_VENDORS, isFetched } from './fetch-vendor.ts'

export interface VendorRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly secretKey: Buffer
  readonly guard: GuardOptions
  /** Asks for a vendor to be fetched soon. */
  readonly connected: (organizationId: string, vendor: Vendor) => void
}

const TAGS = ['reconciliation']
const params = z.object({ vendor: z.enum(VENDORS) })
/** Of a key, as many characters are shown. */
const SHOWN_CHARS = 4

const connectionJson = z.object({
  vendor: z.string(),
  base_url: z.string().nullable().describe("Null: the vendor's own address"),
  admin_key: z.string().nullable().describe('Its last characters; null: figures come as files.'),
  metered_keys: z.array(z.string()).nullable(),
  enabled: z.boolean(),
  updated_at: z.string(),
  last_fetched_at: z.string().nullable(),
  last_error: z.string().nullable(),
})

/** Registers `/api/v1/reconciliation/vendors/{vendor}`. */
export function registerVendorRoutes(app: App, dependencies: VendorRouteDependencies): void {
  const { pool, now, secretKey, guard, connected } = dependencies
  const url = '/api/v1/reconciliation/vendors/:vendor'

  app.get(
    url,
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'How a vendor is asked for its figures',
        params,
        response: { 200: connectionJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const connection = await findConnection(pool, organizationId, params.vendor)
      if (connection === undefined) throw notFound()
      return connectionToJson(connection)
    },
  )

  app.put(
    url,
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Connect a vendor',
        description:
          'With an admin key, the figures of the last 7 days are fetched now and daily (openai, anthropic). The key is kept encrypted and never shown again. What is left out becomes null, but for the key, which stays.',
        params,
        body: z.strictObject({
          admin_key: z.string().min(1).max(1000).nullable().optional(),
          base_url: z
            .url({ protocol: /^https?$/ })
            .max(2000)
            .nullable()
            .default(null),
          metered_keys: z
            .array(z.string().min(1).max(500))
            .max(10_000)
            .nullable()
            .default(null)
            .describe("The vendor's ids of the keys and projects whose calls are metered; null: not stated."),
          enabled: z.boolean().default(true),
        }),
        response: { 200: connectionJson, 400: problemSchema },
      },
    },
    async ({ organizationId, params: { vendor }, body }) => {
      const earlier = await findConnection(pool, organizationId, vendor)
      const key = body.admin_key
      if (typeof key === 'string' && !isFetched(vendor)) {
        throw invalid(
          'admin_key',
          `is not used: only ${FETCHED_VENDORS.join(' and ')} are asked, ${vendor} writes exports`,
        )
      }
      if (body.base_url !== null) {
        const complaint = await targetComplaint(body.base_url, guard)
        if (complaint !== undefined) throw invalid('base_url', complaint)
        // A key that is there already must not go to an address that it was not given for.
        const isMoved = earlier?.sealedKey != null && earlier.baseUrl !== body.base_url
        if (isMoved && key === undefined)
          throw invalid('admin_key', 'must be sent again with another base_url')
      }
      const sealed =
        key === undefined
          ? { sealedKey: earlier?.sealedKey ?? null, keyShown: earlier?.keyShown ?? null }
          : key === null
            ? { sealedKey: null, keyShown: null }
            : {
                sealedKey: sealSecret(secretKey, [organizationId, 'vendor', vendor], key),
                keyShown: `…${key.slice(-SHOWN_CHARS)}`,
              }
      const connection = await putConnection(
        pool,
        {
          organizationId,
          vendor,
          baseUrl: body.base_url,
          ...sealed,
          meteredKeys: body.metered_keys,
          isEnabled: body.enabled,
        },
        now(),
      )
      if (connection.isEnabled && connection.sealedKey !== null) connected(organizationId, vendor)
      return connectionToJson(connection)
    },
  )

  app.delete(
    url,
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Forget how a vendor is asked, with its key',
        description: 'What was fetched stays.',
        params,
        response: { 204: z.null(), 404: problemSchema },
      },
    },
    async ({ organizationId, params }, reply) => {
      if (!(await deleteConnection(pool, organizationId, params.vendor))) throw notFound()
      return reply.code(204).send(null)
    },
  )
}

function invalid(path: string, message: string): Problem {
  return new Problem({
    code: 'invalid-request',
    detail: 'The connection is not valid.',
    errors: [{ path, message }],
  })
}

function notFound(): Problem {
  return new Problem({ code: 'not-found', detail: 'This vendor is not connected.' })
}

function connectionToJson(connection: VendorConnection): z.infer<typeof connectionJson> {
  return {
    vendor: connection.vendor,
    base_url: connection.baseUrl,
    admin_key: connection.keyShown,
    metered_keys: connection.meteredKeys === null ? null : [...connection.meteredKeys],
    enabled: connection.isEnabled,
    updated_at: connection.updatedAt.toISOString(),
    last_fetched_at: connection.lastFetchedAt?.toISOString() ?? null,
    last_error: connection.lastError,
  }
}
