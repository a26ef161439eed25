import { z } from 'zod'
import type { ModelMatch } from './model-match.ts'

/** An exact decimal amount of US dollars, not negative, as text: 18 digits before the point, 18 after. */
export const priceText = z
  .string()
  .regex(
    /^(0|[1-9]\d{0,17})(\.\d{1,18})?$/,
    'must be a decimal string such as "0.15", not negative, without exponent',
  )

const tierSchema = z.strictObject({
  aboveInputTokens: z.number().int().min(0),
  price: priceText,
})

const rateSchema = z.strictObject({
  per: z.union([z.literal(1), z.literal(1000), z.literal(1_000_000)]),
  price: priceText,
  tiers: z.array(tierSchema).readonly().optional(),
})

/** Reads the rates of a price version from JSON. */
export const ratesSchema = z.record(z.string(), rateSchema)

/** A whole price above a size of the request. */
export interface RateTier {
  /** Applies when the total input is larger than this; exactly this many tokens still have the lower price. */
  readonly aboveInputTokens: number
  /** US dollars for `per` units of the rate. */
  readonly price: string
}

/**
 * What one meter costs, as the vendor quotes it. Tiers are cliffs: the total input of the request chooses one
 * price, and all its units have that price (Anthropic's and Google's long-context prices work so).
 */
export interface Rate {
  /** How many units `price` is for. */
  readonly per: 1 | 1000 | 1_000_000
  /** US dollars for `per` units, an exact decimal. */
  readonly price: string
  readonly tiers?: readonly RateTier[] | undefined
}

/** Hours of the day in UTC, `HH:MM:SS`, start included, end excluded; may run over midnight. */
export interface TimeOfDay {
  readonly startUtc: string
  readonly endUtc: string
}

const timeOfDayText = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d:[0-5]\d$/, 'must be HH:MM:SS')

/** Reads the hours of a price version from JSON. */
export const timeOfDaySchema = z.strictObject({ startUtc: timeOfDayText, endUtc: timeOfDayText })

/** One price of one model. Never changed once it is there: another price is another version. */
export interface PriceVersion {
  readonly id: string
  /** Whose own price this is; null: the catalogue, the list price for all. */
  readonly organizationId: string | null
  /** A catalogue id (see `catalogueProvider`). */
  readonly provider: string
  readonly model: string
  readonly match: ModelMatch
  /** From when it applies, UTC milliseconds; null: as far back as one can ask. */
  readonly effectiveFromMs: number | null
  readonly timeOfDay?: TimeOfDay | undefined
  /** Prices by meter name. */
  readonly rates: Readonly<Record<string, Rate>>
  /** Where the price comes from, for whoever disputes it. */
  readonly source: string
  /** Order of entry, unique. Of several catalogue versions of a model that apply, the last entered wins. */
  readonly sequence: number
}
