import { isPartOfInput, type PriceVersion, priceText } from '@tokentally/core'
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
    .describe('Applies when the total input of the request is larger than this.'),
  price,
})

/** The price of one meter. */
const rate = z.strictObject({
  price,
  per,
  tiers: z.array(tier).max(20).optional().describe('Other prices for large requests.'),
  tier_mode: z
    .enum(['whole', 'marginal'])
    .optional()
    .describe(
      '`whole` (when absent): the size of the request chooses one price for all units; `marginal`: only the tokens beyond a threshold have its price, for meters that are part of the input.',
    ),
})

const meterName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,62}$/, 'a meter is named in snake_case, 63 characters at most')

/** Prices by meter, e.g. `{"input_tokens": {"price": "0.15", "per": 1000000}}`. */
export const ratesJson = z
  .record(meterName, rate)
  .refine((rates) => Object.keys(rates).length > 0, 'at least one meter needs a price')
  .refine((rates) => Object.keys(rates).length <= 100, 'at most 100 meters')
  .superRefine((rates, context) => {
    for (const [meter, { tiers = [], tier_mode }] of Object.entries(rates)) {
      const thresholds = new Set(tiers.map(({ above_input_tokens }) => above_input_tokens))
      if (thresholds.size < tiers.length) {
        context.addIssue({ code: 'custom', path: [meter, 'tiers'], message: 'names a threshold twice' })
      }
      if (tier_mode === 'marginal' && !isPartOfInput(meter)) {
        context.addIssue({
          code: 'custom',
          path: [meter, 'tier_mode'],
          message: 'may be marginal only for input_tokens and its parts',
        })
      }
    }
  })
  .describe('Prices by meter: `input_tokens`, `output_tokens`, `cache_read_tokens`, or any other meter.')

const timeOfDay = z
  .string()
  .regex(/^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$/, 'must be HH:MM or HH:MM:SS, UTC')
  .transform((time) => (time.length === 5 ? `${time}:00` : time))

const conditionText = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .refine(
      (value) => value.isWellFormed() && !value.includes('\0'),
      'must be well-formed Unicode without NUL',
    )

/** A price of one's own, as the API takes it. */
export const ownPriceJson = z
  .strictObject({
    provider: z.string().trim().min(1).max(128),
    model: z
      .string()
      .trim()
      .min(1)
      .max(512)
      .optional()
      .describe(
        'Absent: for the events of this provider that have no model. With a discount it may have `*` for any text, and must be given.',
      ),
    rates: ratesJson.optional(),
    discount: z
      .string()
      .regex(
        /^(0(\.\d{1,18})?|1(\.0{1,18})?)$/,
        'must be a decimal string between "0" and "1", such as "0.15"',
      )
      .optional()
      .describe(
        "A fraction off the catalogue's price, whatever that is at the time of the call; `0` is the catalogue's price again. Instead of `rates`.",
      ),
    effective_from: z
      .union([z.iso.datetime({ offset: true }), z.iso.date()])
      .optional()
      .describe(
        'RFC 3339. Absent: at once, or, for a model without any price, from the beginning, so that what was used before is rated, too.',
      ),
    time_of_day: z
      .strictObject({ start_utc: timeOfDay, end_utc: timeOfDay })
      .refine(({ start_utc, end_utc }) => start_utc !== end_utc, 'must begin and end at different times')
      .optional()
      .describe('Only at these hours, UTC, end excluded; may run over midnight.'),
    service_tier: conditionText(64)
      .optional()
      .describe('Only calls that were served at this tier; the rates are then those of the tier.'),
    region: conditionText(64).optional().describe('Only calls that this region answered.'),
    customer_id: conditionText(512).optional().describe('Only calls for this customer of yours.'),
  })
  .superRefine(({ rates, discount, model }, context) => {
    const issue = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message })
    if (rates === undefined && discount === undefined) issue('rates', 'is required, or a discount')
    if (rates !== undefined && discount !== undefined)
      issue('discount', 'cannot stand beside rates: one of them is the price')
    if (discount !== undefined && model === undefined)
      issue('model', 'is required with a discount; "*" is every model of the provider')
    if (rates !== undefined && model?.includes('*') === true)
      issue('model', 'may have a "*" only with a discount')
  })

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
  service_tier: z.string().nullable().describe('Only calls that were served at this tier. Null: any.'),
  region: z.string().nullable().describe('Only calls that this region answered. Null: any.'),
  customer_id: z.string().nullable().describe('Only calls for this customer of yours. Null: any.'),
  input_tokens_max: z
    .number()
    .nullable()
    .describe('Only requests whose total input is not larger. Null: any.'),
  discount: z
    .string()
    .nullable()
    .describe("A fraction off the catalogue's price, instead of rates. Null: the rates are the price."),
  rates: z.record(z.string(), rate),
  currency: z.literal('USD'),
  source: z.string(),
  created_at: z.string(),
})

/** The rates of a request's body, in the form of the price book. */
export function ratesFromJson(json: z.output<typeof ratesJson>): PriceVersion['rates'] {
  return mapValues(json, ({ price, per, tiers, tier_mode }) => ({
    per,
    price,
    ...(tier_mode !== undefined && { tierMode: tier_mode }),
    ...(tiers !== undefined && {
      tiers: tiers.map((entry) => ({ aboveInputTokens: entry.above_input_tokens, price: entry.price })),
    }),
  }))
}

/** The rates of the price book, in the form of an answer. */
export function ratesToJson(rates: PriceVersion['rates']): Record<string, z.input<typeof rate>> {
  return mapValues(rates, ({ price, per, tiers, tierMode }) => ({
    price,
    per,
    ...(tierMode !== undefined && { tier_mode: tierMode }),
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
    service_tier: version.serviceTier ?? null,
    region: version.region ?? null,
    customer_id: version.customer ?? null,
    input_tokens_max: version.inputTokensMax ?? null,
    discount: version.discount ?? null,
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
