import { CatalogueFileError, parseCatalogueFile } from '@tokentally/prices'
import type { Pool } from 'pg'
import { z } from 'zod'
import { FIRST_ORGANIZATION, findOrganization } from '../access/index.ts'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { PriceFileUnavailable, priceFileSource, readPriceFile } from './price-file.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { decideRefresh, refreshCatalogue } from './refresh.ts'
import {
  type DecidedModel,
  findRefresh,
  listRefreshedModels,
  listRefreshes,
  REFRESH_STATUSES,
  REFRESHED_MODEL_STATUSES,
  type Refresh,
} from './refresh-store.ts'

/** What the routes of price refreshes need. */
export interface RefreshRoutesDeps {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly metrics: Metrics
  readonly now: () => Date
  /** Called after prices were added, when events that waited for one can be rated. */
  readonly priceAdded?: () => Promise<void>
  /** The configured price file, if any. */
  readonly pricesUrl?: string | undefined
  readonly bodyMaxBytes: number
}

const count = z.number().int()
const refreshJson = z.object({
  id: z.string(),
  fetched_at: z.string(),
  source: z.string().describe('Where the prices come from.'),
  status: z
    .enum(REFRESH_STATUSES)
    .describe(
      '`pending`: recorded, about to take effect; `waiting`: some models wait for a person; `applied`: done; `rejected`: nothing of it took effect.',
    ),
  models: z
    .object({ pending: count, waiting: count, applied: count, rejected: count, superseded: count })
    .describe('How many models it would change, by what became of them.'),
})
const modelJson = z.object({
  provider: z.string(),
  model: z.string(),
  service_tier: z.string().nullable().describe('Null: the standard tier.'),
  is_new: z.boolean().describe('The price book did not have it: its prices apply at once.'),
  status: z
    .enum(REFRESHED_MODEL_STATUSES)
    .describe('`superseded`: a later refresh said something else before anyone decided.'),
  decided_at: z.string().nullable(),
  decided_by: z.string().nullable().describe('The API key of who decided. Null: nobody had to.'),
  changes: z
    .array(
      z.object({
        meter: z.string(),
        above_input_tokens: z.number().nullable().describe('A tier; null: the price below all tiers.'),
        effective_from: z.string().describe('When both prices would next apply.'),
        per: z.number().describe('How many units the prices are for.'),
        old_price: z.string().nullable().describe('US dollars. Null: without a price.'),
        new_price: z.string().nullable(),
        change_percent: z
          .string()
          .nullable()
          .describe('Rounded to a tenth. Null: from nothing or from zero.'),
      }),
    )
    .describe('Empty where only names or order changed.'),
})
const refreshWithModels = refreshJson.extend({ diff: z.array(modelJson) })
const params = z.object({ id: z.uuid() })
const decisionBody = z
  .strictObject({
    models: z
      .array(
        z.strictObject({
          provider: z.string().min(1),
          model: z.string().min(1),
          service_tier: z.string().min(1).nullable().optional(),
        }),
      )
      .min(1)
      .max(2_000)
      .optional()
      .describe('Absent: everything that waits.'),
  })
  .nullish()

/** For the document alone: the file is read by `parseCatalogueFile`, number by number. */
const priceFileBody = z
  .array(
    z.object({
      id: z.string().describe('The provider.'),
      models: z.array(
        z.object({ id: z.string(), match: z.record(z.string(), z.unknown()), prices: z.unknown() }),
      ),
    }),
  )
  .describe('A price file in the format of genai-prices\u2019 data.json. May be left out.')
const acceptAny = () => (value: unknown) => ({ value })

/** Registers everything under `/api/v1/prices/refreshes`. */
export function registerRefreshRoutes(app: App, deps: RefreshRoutesDeps): void {
  registerListAndFind(app, deps)
  registerStart(app, deps)
  registerDecision(app, deps, 'approve')
  registerDecision(app, deps, 'reject')
}

function registerListAndFind(app: App, { pool }: RefreshRoutesDeps): void {
  app.get(
    '/api/v1/prices/refreshes',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'Refreshes of the catalogue',
        description:
          'Newer catalogues that were compared with the price book, the latest first: those of the configured price file, those that were posted, and the catalogues of new releases. Only what changed something is kept.',
        tags: ['prices'],
        querystring: z.strictObject({
          status: z.enum(REFRESH_STATUSES).optional(),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
          cursor: z.coerce.number().int().min(0).optional().describe('`next_cursor` of the page before.'),
        }),
        response: {
          200: z.object({ refreshes: z.array(refreshJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ query }) => {
      const { status, cursor, limit } = query
      const page = await listRefreshes(pool, { status, before: cursor, limit: limit + 1 })
      const refreshes = page.slice(0, limit)
      const last = page.length > limit ? refreshes.at(-1) : undefined
      return {
        refreshes: refreshes.map(refreshToJson),
        next_cursor: last === undefined ? null : String(last.sequence),
      }
    },
  )
  app.get(
    '/api/v1/prices/refreshes/:id',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'One refresh with what it would change',
        tags: ['prices'],
        params,
        response: { 200: refreshWithModels, 404: problemSchema },
      },
    },
    async ({ params: { id } }) => whole(pool, id),
  )
}

function registerStart(app: App, deps: RefreshRoutesDeps): void {
  const { pool, ratingBooks, metrics, now, priceAdded, pricesUrl, bodyMaxBytes } = deps
  app.register(async (scope: App) => {
    // The text as it was sent: numbers of a price file are read without floats.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'string', bodyLimit: bodyMaxBytes }, (_request, body, done) =>
      done(null, body),
    )
    scope.post(
      '/api/v1/prices/refreshes',
      {
        config: { scope: 'admin' },
        validatorCompiler: acceptAny,
        schema: {
          summary: 'Refresh the catalogue now',
          description:
            'Without a body: from `TOKENTALLY_PRICES_URL`. With one: from the body, a price file in the format of genai-prices\u2019 data.json. New models and small changes take effect at once; a model of which a meter changes by more than 50 % waits for a person. A file that is not valid is refused as a whole. For keys of the organization `default`: the catalogue is every organization\u2019s.',
          tags: ['prices'],
          body: priceFileBody,
          response: { 201: refreshWithModels, 400: problemSchema, 403: problemSchema, 503: problemSchema },
        },
      },
      async ({ organizationId, body }, reply) => {
        await mustBeFirstOrganization(pool, organizationId)
        const sent: unknown = body
        const text = typeof sent === 'string' && sent.trim() !== '' ? sent : undefined
        const { catalogue, source } = await readCatalogue(text, pricesUrl).catch((error: unknown) => {
          metrics.priceRefreshFailures.inc()
          throw error
        })
        const refresh = await refreshCatalogue(pool, catalogue, { source, now, recordsNothing: true })
        await ratingBooks.refresh()
        await priceAdded?.()
        return reply.code(201).send(await whole(pool, refresh?.id ?? ''))
      },
    )
  })
}

async function readCatalogue(text: string | undefined, pricesUrl: string | undefined) {
  try {
    if (text !== undefined) {
      return { catalogue: parseCatalogueFile(text), source: 'POST /api/v1/prices/refreshes' }
    }
    if (pricesUrl !== undefined) {
      return { catalogue: await readPriceFile(pricesUrl), source: priceFileSource(pricesUrl) }
    }
  } catch (error) {
    if (error instanceof CatalogueFileError) {
      throw new Problem({
        code: 'invalid-request',
        detail: 'The price file is not valid; nothing of it was taken over.',
        errors: error.issues,
        cause: error,
      })
    }
    if (error instanceof PriceFileUnavailable) {
      throw new Problem({ code: 'unavailable', detail: error.message, cause: error })
    }
    throw error
  }
  throw new Problem({
    code: 'invalid-request',
    detail: 'There is no price file: send one as the body, or set TOKENTALLY_PRICES_URL.',
  })
}

function registerDecision(app: App, deps: RefreshRoutesDeps, verb: 'approve' | 'reject'): void {
  const { pool, ratingBooks, now, priceAdded } = deps
  app.post(
    `/api/v1/prices/refreshes/:id/${verb}`,
    {
      config: { scope: 'admin' },
      schema: {
        summary: verb === 'approve' ? 'Let waiting prices take effect' : 'Turn waiting prices down',
        description:
          verb === 'approve'
            ? 'The prices apply from now on; what was rated stays as it was. For keys of the organization `default`.'
            : 'The prices of before stay; the same catalogue entry is not asked about again. For keys of the organization `default`.',
        tags: ['prices'],
        params,
        body: decisionBody,
        response: { 200: refreshWithModels, 403: problemSchema, 404: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, params: { id }, body }) => {
      await mustBeFirstOrganization(pool, organizationId)
      if ((await findRefresh(pool, id)) === undefined) throw noRefresh(id)
      const decided = await decideRefresh(pool, id, {
        status: verb === 'approve' ? 'applied' : 'rejected',
        by: apiKeyId,
        now,
        wanted: body?.models?.map(({ provider, model, service_tier }) => ({
          provider,
          model,
          serviceTier: service_tier ?? '',
        })),
      })
      if (decided === 0) {
        throw new Problem({
          code: 'conflict',
          detail:
            body?.models === undefined
              ? 'Nothing of this refresh waits for a person.'
              : 'Not all of these models wait for a person in this refresh; none was decided.',
        })
      }
      if (verb === 'approve') {
        await ratingBooks.refresh()
        await priceAdded?.()
      }
      return whole(pool, id)
    },
  )
}

/** The catalogue is shared: only who runs the service may change it. */
async function mustBeFirstOrganization(pool: Pool, organizationId: string): Promise<void> {
  if ((await findOrganization(pool, FIRST_ORGANIZATION)) === organizationId) return
  throw new Problem({
    code: 'forbidden',
    detail: `The catalogue is every organization's; only keys of the organization "${FIRST_ORGANIZATION}" may change it. POST /api/v1/prices sets prices of your own.`,
  })
}

async function whole(pool: Pool, id: string): Promise<z.input<typeof refreshWithModels>> {
  const refresh = await findRefresh(pool, id)
  if (refresh === undefined) throw noRefresh(id)
  return { ...refreshToJson(refresh), diff: (await listRefreshedModels(pool, id)).map(modelToJson) }
}

function noRefresh(id: string): Problem {
  return new Problem({ code: 'not-found', detail: `There is no price refresh ${id}.` })
}

function refreshToJson({ id, fetchedAt, source, status, models }: Refresh): z.input<typeof refreshJson> {
  return { id, fetched_at: fetchedAt.toISOString(), source, status, models: { ...models } }
}

function modelToJson(found: DecidedModel): z.input<typeof modelJson> {
  return {
    provider: found.entry.provider,
    model: found.entry.model,
    service_tier: found.entry.serviceTier ?? null,
    is_new: found.isNew,
    status: found.status,
    decided_at: found.decidedAt?.toISOString() ?? null,
    decided_by: found.decidedBy,
    changes: found.changes.map((change) => ({
      meter: change.meter,
      above_input_tokens: change.aboveInputTokens,
      effective_from: new Date(change.atMs).toISOString(),
      per: change.per,
      old_price: change.oldPrice,
      new_price: change.newPrice,
      change_percent: change.percent,
    })),
  }
}
