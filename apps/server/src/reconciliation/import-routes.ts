import { Readable } from 'node:stream'
import { VENDOR_SOURCES } from '@tokentally/core'
import { BillingError } from '@tokentally/providers'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { findImport, insertImport, listImports, removeImport, type VendorImport } from './import-store.ts'
import { readVendorFile, sourceOf } from './read-file.ts'

export interface ImportRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  /** Asks for the comparison that metrics show. */
  readonly imported: (organizationId: string) => void
}

const TAGS = ['reconciliation']
const SOURCE_NAMES = Object.keys(VENDOR_SOURCES)

const importJson = z.object({
  id: z.uuid(),
  source: z.string(),
  vendor: z.string(),
  part: z.string(),
  origin: z.enum(['file', 'api']),
  days: z.array(z.string()).describe('The days that it tells of, `YYYY-MM-DD`'),
  lines: z.number().int().describe('Lines, or results of buckets'),
  ignored_lines: z.number().int().describe('Those that are not about models'),
  created_at: z.string(),
})

/** Registers `/api/v1/reconciliation/imports`. */
export function registerImportRoutes(app: App, dependencies: ImportRouteDependencies): void {
  app.register(async (scope: App) => {
    // A file has a type of its own; what it is, its first bytes tell.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
    registerUpload(scope, dependencies)
  })
  registerList(app, dependencies)
  registerSingle(app, dependencies)
}

function registerUpload(app: App, { pool, now, imported }: ImportRouteDependencies): void {
  app.route({
    method: 'POST',
    url: '/api/v1/reconciliation/imports',
    config: { scope: 'write' },
    schema: {
      consumes: ['application/json', 'application/x-ndjson', 'text/csv', 'application/gzip'],
      tags: TAGS,
      summary: "Take in a file of a vendor's usage or costs",
      description:
        'OpenAI or Anthropic usage and cost reports as their APIs answer them (JSON, also an array of pages), an AWS Cost and Usage Report, an Azure cost export (CSV), a Google Cloud billing export (CSV, JSON or NDJSON); gzip too. All of it or nothing. A newer file stands for its days in place of older ones of the same source and part.',
      querystring: z.strictObject({
        source: z
          .string()
          .refine((name) => sourceOf(name) !== undefined, `must be one of ${SOURCE_NAMES.join(', ')}`)
          .optional()
          .describe(`One of ${SOURCE_NAMES.join(', ')}; told by the file itself when left out.`),
        part: z
          .string()
          .min(1)
          .max(200)
          .optional()
          .describe(
            'Names files that stand beside each other for the same days: an account, or a piece of a report.',
          ),
      }),
      // Read as it arrives, and checked then.
      body: z.unknown().describe('The file as it is'),
      response: {
        200: importJson.extend({ repeated: z.literal(true) }).describe('The file was there already'),
        201: importJson.extend({ repeated: z.literal(false) }),
        400: problemSchema,
      },
    },
    handler: async (request, reply) => {
      const { organizationId, apiKeyId, query } = request
      const body: unknown = request.body
      const figures = await readVendorFile(body instanceof Readable ? body : Readable.from([]), {
        source: sourceOf(query.source),
        part: query.part,
      }).catch((error: unknown) => {
        if (!(error instanceof BillingError)) throw error
        throw new Problem({
          code: 'invalid-request',
          detail: 'The file cannot be read. Nothing of it was stored.',
          errors: error.issues,
          cause: error,
        })
      })
      const stored = await insertImport(pool, {
        organizationId,
        origin: 'file',
        figures,
        apiKeyId,
        now: now(),
      })
      const json = importToJson(stored.import)
      if (stored.isRepeated) return { ...json, repeated: true as const }
      imported(organizationId)
      return reply.code(201).send({ ...json, repeated: false as const })
    },
  })
}

const position = z.tuple([z.string().regex(/^\d{1,18}$/)])

function registerList(app: App, { pool }: ImportRouteDependencies): void {
  app.get(
    '/api/v1/reconciliation/imports',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: "What was taken in of vendors' figures, newest first",
        querystring: z.strictObject({
          cursor: z.string().optional(),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        response: {
          200: z.object({ imports: z.array(importJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const [before] = query.cursor === undefined ? [] : parseCursor(query.cursor, position)
      const found = await listImports(pool, { organizationId, limit: query.limit + 1, before })
      const { page, nextCursor } = pageOf(found, query.limit, ({ importNo }) => [importNo])
      return { imports: page.map(importToJson), next_cursor: nextCursor }
    },
  )
}

function registerSingle(app: App, { pool, now, imported }: ImportRouteDependencies): void {
  const params = z.object({ id: z.uuid() })
  app.get(
    '/api/v1/reconciliation/imports/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'One import',
        params,
        response: { 200: importJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const found = await findImport(pool, organizationId, params.id)
      if (found === undefined) throw notFound()
      return importToJson(found)
    },
  )
  app.delete(
    '/api/v1/reconciliation/imports/:id',
    {
      config: { scope: 'write' },
      schema: {
        tags: TAGS,
        summary: 'Take an import out of all reports',
        description: 'What it stood in place of counts again.',
        params,
        response: { 204: z.null(), 404: problemSchema },
      },
    },
    async ({ organizationId, params }, reply) => {
      if (!(await removeImport(pool, organizationId, params.id, now()))) throw notFound()
      imported(organizationId)
      return reply.code(204).send(null)
    },
  )
}

function notFound(): Problem {
  return new Problem({ code: 'not-found', detail: 'There is no such import.' })
}

function importToJson(one: VendorImport): z.infer<typeof importJson> {
  return {
    id: one.id,
    source: one.source,
    vendor: one.vendor,
    part: one.part,
    origin: one.origin,
    days: [...one.days],
    lines: one.lines,
    ignored_lines: one.ignoredLines,
    created_at: one.createdAt.toISOString(),
  }
}
