import { crossRate } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import {
  ECB,
  hasRate,
  insertSetting,
  type ListedRate,
  lastRateDay,
  listRates,
  listSettings,
  type NewRate,
} from './currency-store.ts'
import { RatesFileError, readRatesFile } from './ecb-file.ts'
import { fromDaily, loadRates } from './load-rates.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { changePriceBook } from './store.ts'

export interface CurrencyRoutesDeps {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly now: () => Date
}

const DAY_MS = 24 * 3_600_000
const RATE = /^\d{1,9}(\.\d{1,12})?$/
const currencyCode = z
  .string()
  .regex(/^[A-Z]{3}$/, { error: 'must be a code of ISO 4217, such as EUR', abort: true })
const sourceName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,62}$/, 'must be a name of small letters, digits, - and _, 63 at most')

/** Registers `/api/v1/fx-rates` and `/api/v1/customers/{customer_id}`. */
export function registerCurrencyRoutes(app: App, deps: CurrencyRoutesDeps): void {
  app.register(async (scope: App) => {
    // A file has a type of its own; what it is, its first character tells.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
    registerLoad(scope, deps)
  })
  registerRates(app, deps)
  registerCustomer(app, deps)
}

const intradaySchema = z
  .strictObject({
    source: sourceName.refine((name) => name !== ECB, `must not be ${ECB}: send the bank's file`),
    published_at: z.iso.datetime({ offset: true }),
    units_per_eur: z
      .record(currencyCode, z.string().regex(RATE, 'must be a decimal number as text, such as "1.0870"'))
      .refine((rates) => rates['USD'] !== undefined, 'must have USD, by which the others are converted')
      .refine((rates) => rates['EUR'] === undefined, 'EUR is what the others are counted in')
      .refine((rates) => Object.values(rates).every((rate) => Number(rate) > 0), 'rates must be above zero'),
  })
  .describe('Rates of another source, from a moment on')

const fileSchema = z.string().describe("A file of the European Central Bank's rates, XML or CSV, as it is")

function registerLoad(app: App, { pool, ratingBooks, now }: CurrencyRoutesDeps): void {
  app.route({
    method: 'POST',
    url: '/api/v1/fx-rates',
    config: { scope: 'admin' },
    // Checked in the handler: the body is a file or JSON.
    validatorCompiler: () => (value: unknown) => ({ value }),
    schema: {
      consumes: ['application/json', 'application/xml', 'text/csv'],
      tags: ['currencies'],
      summary: 'Load exchange rates for your organization',
      description:
        "A file of the European Central Bank's reference rates (XML or CSV), or rates of another source as JSON. All or none; a rate that is kept already is never changed.",
      body: z.union([intradaySchema, fileSchema]),
      response: {
        200: z.object({
          source: z.string(),
          rates: z.number().int().describe('Rates that were sent'),
          added: z.number().int().describe('Those that were not known'),
          differing: z
            .array(
              z.object({ currency: z.string(), valid_from: z.string(), kept: z.string(), given: z.string() }),
            )
            .describe('Those that differ from what is kept, which stands; at most 100'),
        }),
        400: problemSchema,
      },
    },
    handler: async ({ organizationId, body }) => {
      const { source, rates } = readRates(body)
      refuseFuture(rates, now().getTime())
      const loaded = await loadRates({ pool, ratingBooks }, { owner: organizationId, source }, rates)
      return {
        source,
        rates: loaded.rates,
        added: loaded.added,
        differing: loaded.differing.map(({ validFrom, ...rate }) => ({
          ...rate,
          valid_from: validFrom.toISOString(),
        })),
      }
    },
  })
}

function readRates(body: unknown): { readonly source: string; readonly rates: readonly NewRate[] } {
  const text = typeof body === 'string' ? body : ''
  if (text.trimStart().startsWith('{')) {
    const parsed = intradaySchema.safeParse(jsonOf(text))
    if (parsed.success) {
      const { source, published_at, units_per_eur } = parsed.data
      const validFrom = new Date(published_at)
      const rates = Object.entries(units_per_eur).map(([currency, unitsPerEur]) => ({
        currency,
        validFrom,
        unitsPerEur,
      }))
      return { source, rates }
    }
    throw new Problem({
      code: 'invalid-request',
      errors: parsed.error.issues.flatMap((issue) =>
        issue.code === 'unrecognized_keys'
          ? issue.keys.map((path) => ({ path, message: 'unknown field' }))
          : [{ path: issue.path.join('.'), message: issue.message }],
      ),
    })
  }
  try {
    return { source: ECB, rates: fromDaily(readRatesFile(text)) }
  } catch (error) {
    if (!(error instanceof RatesFileError)) throw error
    throw new Problem({
      code: 'invalid-request',
      detail: 'The file cannot be read. Nothing was loaded.',
      errors: error.issues,
      cause: error,
    })
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Problem({ code: 'invalid-request', detail: 'The body is not valid JSON.', cause })
  }
}

/** A rate of the future would be taken for the last one by and by, without anybody having published it. */
function refuseFuture(rates: readonly NewRate[], nowMs: number): void {
  const future = rates.find(({ validFrom }) => validFrom.getTime() > nowMs + DAY_MS)
  if (future === undefined) return
  throw new Problem({
    code: 'invalid-request',
    detail: 'Nothing was loaded.',
    errors: [
      {
        path: `day ${future.validFrom.toISOString().slice(0, 10)}`,
        message: `${future.currency}: lies in the future`,
      },
    ],
  })
}

function registerRates(app: App, { pool, now }: CurrencyRoutesDeps): void {
  app.get(
    '/api/v1/fx-rates',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['currencies'],
        summary: 'Exchange rates of a day',
        description:
          'The last rates that were published on the day or before. With `currency` and `source`, those of that currency.',
        querystring: z.strictObject({
          date: z.iso.date().optional().describe('UTC day; default today.'),
          currency: currencyCode.optional(),
          source: sourceName.default(ECB),
        }),
        response: {
          200: z.object({
            source: z.string(),
            rates: z.array(
              z.object({
                currency: z.string(),
                date: z.string().describe('The day that it was published for'),
                valid_from: z.string(),
                units_per_eur: z.string(),
                units_per_usd: z
                  .string()
                  .nullable()
                  .describe(
                    'What sell costs are multiplied by: rounded half to even at 10 significant digits',
                  ),
                scope: z.enum(['shared', 'organization']).describe('`shared`: fetched by the service'),
              }),
            ),
          }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const { source, currency } = query
      const day = query.date ?? now().toISOString().slice(0, 10)
      const before = new Date(Date.parse(`${day}T00:00:00Z`) + DAY_MS)
      // The euro is not in the table; it has a rate whenever the dollar has one.
      const wanted = { organizationId, source, currency: currency === 'EUR' ? 'USD' : currency }
      const last = await lastRateDay(pool, { ...wanted, before })
      if (last === undefined) return { source, rates: [] }
      const from = new Date(Math.floor(last.getTime() / DAY_MS) * DAY_MS)
      const rates = await listRates(pool, { ...wanted, from, before, limit: 1_000 })
      return { source, rates: currency === 'EUR' ? rates.map(euroOf) : rates.map(rateJson) }
    },
  )
}

function rateJson(rate: ListedRate) {
  return {
    currency: rate.currency,
    date: rate.validFrom.toISOString().slice(0, 10),
    valid_from: rate.validFrom.toISOString(),
    units_per_eur: rate.unitsPerEur,
    units_per_usd: rate.usdPerEur === undefined ? null : crossRate(rate.unitsPerEur, rate.usdPerEur),
    scope: rate.isOwn ? ('organization' as const) : ('shared' as const),
  }
}

function euroOf(dollar: ListedRate) {
  return rateJson({ ...dollar, currency: 'EUR', unitsPerEur: '1', usdPerEur: dollar.unitsPerEur })
}

const customerParams = z.object({
  customer_id: z
    .string()
    .min(1)
    .max(512)
    .refine((id) => id.isWellFormed() && !id.includes('\0'), 'must be well-formed Unicode without NUL'),
})
const settingJson = z.object({
  currency: z.string(),
  source: z.string().describe('Whose rates: `ecb`, or a source of your own'),
  effective_from: z
    .string()
    .describe(
      'For events from this time on; the first setting is for every event that comes after it was made',
    ),
})
const customerJson = z.object({
  customer_id: z.string(),
  currency: z.string().describe('What the customer pays in'),
  source: z.string().nullable(),
  effective_from: z.string().nullable().describe('Null: never set, US dollars'),
  history: z.array(settingJson).describe('Newest first'),
})

async function customerOf(pool: Pool, organizationId: string, customerId: string) {
  const history = (await listSettings(pool, organizationId, customerId)).map((setting) => ({
    currency: setting.currency,
    source: setting.source,
    effective_from: setting.effectiveFrom.toISOString(),
  }))
  const [current] = history
  return {
    customer_id: customerId,
    currency: current?.currency ?? 'USD',
    source: current?.source ?? null,
    effective_from: current?.effective_from ?? null,
    history,
  }
}

function registerCustomer(app: App, { pool, ratingBooks, now }: CurrencyRoutesDeps): void {
  app.get(
    '/api/v1/customers/:customer_id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['currencies'],
        summary: 'What a customer pays in',
        params: customerParams,
        response: { 200: customerJson },
      },
    },
    async ({ organizationId, params }) => customerOf(pool, organizationId, params.customer_id),
  )

  app.put(
    '/api/v1/customers/:customer_id',
    {
      config: { scope: 'write' },
      schema: {
        tags: ['currencies'],
        summary: 'Set what a customer pays in',
        description:
          'In force for the next event on every replica. Events that are in the ledger keep the currency that they were sold in.',
        params: customerParams,
        body: z.strictObject({
          currency: currencyCode.refine(isCurrency, 'is no currency of ISO 4217'),
          source: sourceName.default(ECB).describe('Whose rates.'),
        }),
        response: { 200: customerJson, 400: problemSchema },
      },
    },
    async ({ organizationId, apiKeyId, params, body }) => {
      const { currency, source } = body
      const customerId = params.customer_id
      await changePriceBook(pool, async (client) => {
        const [current] = await listSettings(client, organizationId, customerId)
        if (current?.currency === currency && current.source === source) return
        if (currency !== 'USD' && !(await hasRate(client, { organizationId, source, currency }))) {
          throw noRate(currency, source)
        }
        // The time is taken under the lock: nothing is rated between it and the commit.
        const effectiveFrom = now()
        await insertSetting(
          client,
          { organizationId, customerId },
          { currency, source, effectiveFrom, apiKeyId },
        )
      })
      await ratingBooks.refreshIfChanged()
      return customerOf(pool, organizationId, customerId)
    },
  )
}

function isCurrency(code: string): boolean {
  return Intl.supportedValuesOf('currency').includes(code)
}

function noRate(currency: string, source: string): Problem {
  return new Problem({
    code: 'invalid-request',
    detail: 'What cannot be converted cannot be charged.',
    errors: [
      {
        path: 'currency',
        message: `no rate of ${currency} is known from the source ${source}: load one (POST /api/v1/fx-rates) first`,
      },
    ],
  })
}
