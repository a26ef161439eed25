import { catalogueProvider } from '@tokentally/core'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { pageOf, parseCursor } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { addPrice } from './add-price.ts'
import { isoOrNull, ownPriceJson, priceJson, priceToJson, ratesFromJson, ratesToJson } from './price-json.ts'
import { type RefreshRoutesDeps, registerRefreshRoutes } from './refresh-routes.ts'
import { listPrices, type PricePosition } from './store.ts'
import { listUnpriced, unpricedReason } from './unpriced.ts'

const UNPRICED_MAX = 1_000

const modelRates = priceJson.pick({ rates: true }).shape.rates

/** What the routes of the price book need. */
export interface PricingRoutesDeps extends RefreshRoutesDeps {}

/** Registers everything under `/api/v1/prices`, and `GET /provider/{provider}/models`. */
export function registerPricingRoutes(app: App, deps: PricingRoutesDeps): void {
  registerList(app, deps)
  registerAdd(app, deps)
  registerUnpriced(app, deps)
  registerModels(app, deps)
  registerRefreshRoutes(app, deps)
}

function registerList(app: App, { pool, ratingBooks }: PricingRoutesDeps): void {
  app.get(
    '/api/v1/prices',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'Prices with their history',
        description:
          'Every price version, past, present and to come: the catalogue and your own. Ordered by provider, model and entry.',
        tags: ['prices'],
        querystring: z.strictObject({
          provider: z.string().min(1).max(128).optional(),
          model: z
            .string()
            .max(512)
            .optional()
            .describe('A model or one of its snapshots; snapshots need `provider`.'),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
          cursor: z.string().optional().describe('`next_cursor` of the page before.'),
        }),
        response: {
          200: z.object({ prices: z.array(priceJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const { provider, model, limit } = query
      const also =
        provider === undefined || model === undefined
          ? []
          : ratingBooks.current().prices.candidates(organizationId, provider, [model])
      const id = provider === undefined ? undefined : catalogueProvider(provider)
      const found = await listPrices(pool, {
        organizationId,
        provider: id,
        model,
        alsoIds: also.map((version) => version.id),
        after: query.cursor === undefined ? undefined : positionOf(query.cursor),
        limit: limit + 1,
      })
      const { page, nextCursor } = pageOf(found, limit, ({ version }) => [
        version.provider,
        version.model,
        version.sequence,
      ])
      return {
        prices: page.map(({ version, createdAt }) => priceToJson(version, createdAt)),
        next_cursor: nextCursor,
      }
    },
  )
}

function registerAdd(app: App, { pool, ratingBooks, now, priceAdded }: PricingRoutesDeps): void {
  app.post(
    '/api/v1/prices',
    {
      config: { scope: 'write' },
      schema: {
        summary: 'Set a price of your own',
        description:
          'It wins over the catalogue, for your organization alone, from `effective_from` until your next price of the model. It may be for some calls alone: a service tier, a region, a customer, hours of the day; of several that fit, the one for the customer wins, then the one for the very model, then the one for the tier and the region, then the latest. A rated event is never rated again, so `effective_from` may lie in the past only for a model that had no price then. Prices are never changed or deleted: set another.',
        tags: ['prices'],
        body: ownPriceJson,
        response: { 201: priceJson, 400: problemSchema },
      },
    },
    async ({ organizationId, body }, reply) => {
      const { price, createdAt } = await addPrice(
        { pool, ratingBooks, now },
        {
          organizationId,
          provider: body.provider,
          model: body.model ?? '',
          rates: ratesFromJson(body.rates ?? {}),
          discount: body.discount,
          timeOfDay: body.time_of_day && {
            startUtc: body.time_of_day.start_utc,
            endUtc: body.time_of_day.end_utc,
          },
          serviceTier: body.service_tier,
          region: body.region,
          customer: body.customer_id,
          effectiveFromMs: body.effective_from === undefined ? undefined : Date.parse(body.effective_from),
        },
      )
      await priceAdded?.()
      return reply.code(201).send(priceToJson(price, createdAt))
    },
  )
}

function registerUnpriced(app: App, { pool, ratingBooks }: PricingRoutesDeps): void {
  app.get(
    '/api/v1/prices/unpriced',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'What has no price',
        description: `Usage that could not be rated, or not wholly, by provider, model and service tier; the most frequent first, at most ${UNPRICED_MAX} kinds. It is rated once a price is there.`,
        tags: ['prices'],
        response: {
          200: z.object({
            unpriced: z.array(
              z.object({
                provider: z.string(),
                model: z.string().nullable(),
                response_model: z.string().nullable(),
                service_tier: z.string().nullable(),
                meters: z.array(z.string()).describe('The meters without a price.'),
                reason: z
                  .enum(['no_price', 'no_rate', 'service_tier', 'pending'])
                  .describe(
                    '`no_price`: no price for the model; `no_rate`: its price lacks these meters; `service_tier`: the price of this tier is not known; `pending`: about to be rated.',
                  ),
                events: z.number().int(),
                first_seen: z.string(),
                last_seen: z.string(),
              }),
            ),
          }),
        },
      },
    },
    async ({ organizationId }) => {
      const [usage, { prices: book }] = await Promise.all([
        listUnpriced(pool, organizationId, UNPRICED_MAX),
        ratingBooks.refreshIfChanged(),
      ])
      return {
        unpriced: usage.map((kind) => ({
          provider: kind.provider,
          model: kind.model,
          response_model: kind.responseModel,
          service_tier: kind.serviceTier,
          meters: [...kind.meters],
          reason: unpricedReason(organizationId, kind, book),
          events: kind.events,
          first_seen: kind.firstSeen.toISOString(),
          last_seen: kind.lastSeen.toISOString(),
        })),
      }
    },
  )
}

function registerModels(app: App, { ratingBooks, now }: PricingRoutesDeps): void {
  app.get(
    '/provider/:provider/models',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'Models of a provider with what they cost now',
        tags: ['prices'],
        params: z.object({ provider: z.string().min(1).max(128) }),
        response: {
          200: z.object({
            provider: z.string(),
            currency: z.literal('USD'),
            models: z.array(
              z.object({
                model: z.string(),
                scope: priceJson.shape.scope,
                effective_from: z.string().nullable(),
                rates: modelRates,
              }),
            ),
          }),
          404: problemSchema,
        },
      },
    },
    async ({ organizationId, params }) => {
      const { prices: book } = await ratingBooks.refreshIfChanged()
      const versions = book.ofProvider(organizationId, params.provider, now().getTime())
      if (versions.length === 0) {
        throw new Problem({
          code: 'not-found',
          detail: `The price book has no provider ${JSON.stringify(params.provider)}.`,
        })
      }
      return {
        provider: catalogueProvider(params.provider),
        currency: 'USD' as const,
        models: versions.map((version) => ({
          model: version.model,
          scope: version.organizationId === null ? ('catalogue' as const) : ('organization' as const),
          effective_from: isoOrNull(version.effectiveFromMs),
          rates: ratesToJson(version.rates),
        })),
      }
    },
  )
}

const cursorSchema = z.tuple([z.string(), z.string(), z.number().int().min(0)])

function positionOf(cursor: string): PricePosition {
  const [provider, model, sequence] = parseCursor(cursor, cursorSchema)
  return { provider, model, sequence }
}
