import { type PriceVersion, priceText } from '@tokentally/core'
import { z } from 'zod'

/** Prices as the API shows and takes them. The words of JSON and those of the code meet in this file. */

const per = z
  .union([z.literal(1), z.literal(1000), z.literal(1_000_000)])
  .describe('How many units the price is for: 1, 1000 or 1000000.')

const price = priceText.describe('US dollars for `per` units, a decimal string: exact, not negative.')

const tier = z.strictObject({
  above_input_tokens: z
    .number()
    .int()
    .min(0)
    .describe('Applies to the whole request when its total input is larger than this.'),
  price,
})

/** The price of one meter. */
const rate = z.strictObject({
  price,
  per,
  tiers: z.array(tier).max(20).optional().describe('Other prices for large requests.'),
})

const meterName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,62}$/, 'a meter is named in snake_case, 63 characters at most')

/** Prices by meter, e.g. `{"input_tokens": {"price": "0.15", "per": 1000000}}`. */
export const ratesJson = z
  .record(meterName, rate)
  .refine((rates) => Object.keys(rates).length > 0, 'at least one meter needs a price')
  .refine((rates) => Object.keys(rates).length <= 100, 'at most 100 meters')
  .describe('Prices by meter: `input_tokens`, `output_tokens`, `cache_read_tokens`, or any other meter.')

/** A price version as the API shows it. */
export const priceJson = z.object({
  id: z.string(),
  scope: z
    .enum(['catalogue', 'organization'])
    .describe('`catalogue`: the list price for all; `organization`: your own, which wins.'),
  provider: z.string(),
  model: z.string().describe('Empty: for events without a model.'),
  effective_from: z.string().nullable().describe('Null: as far back as one can ask.'),
  time_of_day: z
    .object({ start_utc: z.string(), end_utc: z.string() })
    .nullable()
    .describe('Only at these hours, UTC, end excluded.'),
  rates: z.record(z.string(), rate),
  currency: z.literal('USD'),
  source: z.string(),
  created_at: z.string(),
})

/** The rates of a request's body, in the form of the price book. */
export function ratesFromJson(json: z.output<typeof ratesJson>): PriceVersion['rates'] {
  return mapValues(json, ({ price, per, tiers }) => ({
    per,
    price,
    ...(tiers !== undefined && {
      tiers: tiers.map((entry) => ({ aboveInputTokens: entry.above_input_tokens, price: entry.price })),
    }),
  }))
}

/** The rates of the price book, in the form of an answer. */
export function ratesToJson(rates: PriceVersion['rates']): Record<string, z.input<typeof rate>> {
  return mapValues(rates, ({ price, per, tiers }) => ({
    price,
    per,
    ...(tiers !== undefined && {
      tiers: tiers.map((entry) => ({ above_input_tokens: entry.aboveInputTokens, price: entry.price })),
    }),
  }))
}

/** A whole version, in the form of an answer. */
export function priceToJson(
  version: Omit<PriceVersion, 'sequence'>,
  createdAt: Date,
): z.input<typeof priceJson> {
  const { timeOfDay } = version
  return {
    id: version.id,
    scope: version.organizationId === null ? 'catalogue' : 'organization',
    provider: version.provider,
    model: version.model,
    effective_from: isoOrNull(version.effectiveFromMs),
    time_of_day:
      timeOfDay === undefined ? null : { start_utc: timeOfDay.startUtc, end_utc: timeOfDay.endUtc },
    rates: ratesToJson(version.rates),
    currency: 'USD',
    source: version.source,
    created_at: createdAt.toISOString(),
  }
}

/** A time as RFC 3339, null where there is none. */
export function isoOrNull(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}

function mapValues<From, To>(
  record: Readonly<Record<string, From>>,
  map: (value: From) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]))
}
