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
  tierMode: z.enum(['whole', 'marginal']).optional(),
})

/** Reads the rates of a price version from JSON. */
export const ratesSchema = z.record(z.string(), rateSchema)

/** Another price above a size of the request. */
export interface RateTier {
  /** Applies when the total input is larger than this; exactly this many tokens still have the lower price. */
  readonly aboveInputTokens: number
  /** US dollars for `per` units of the rate. */
  readonly price: string
}

/**
 * How tiers are meant. `whole`: the total input of the request chooses one price, and all its units have that
 * price (Anthropic's, Google's and OpenAI's long-context prices work so). `marginal`: only the tokens beyond a
 * threshold have its price; for meters that are part of the input, see `marginalParts`.
 */
export type TierMode = 'whole' | 'marginal'

/** What one meter costs, as the vendor quotes it. */
export interface Rate {
  /** How many units `price` is for. */
  readonly per: 1 | 1000 | 1_000_000
  /** US dollars for `per` units, an exact decimal. */
  readonly price: string
  readonly tiers?: readonly RateTier[] | undefined
  /** `whole` when absent. */
  readonly tierMode?: TierMode | undefined
}

/** Hours of the day in UTC, `HH:MM:SS`, start included, end excluded; may run over midnight. */
export interface TimeOfDay {
  readonly startUtc: string
  readonly endUtc: string
}

const timeOfDayText = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d:[0-5]\d$/, 'must be HH:MM:SS')

/** Reads the hours of a price version from JSON. */
export const timeOfDaySchema = z.strictObject({ startUtc: timeOfDayText, endUtc: timeOfDayText })

/** For which calls of its model a price is; what is absent is not asked for. */
export interface PriceConditions {
  /** Only at these hours. */
  readonly timeOfDay?: TimeOfDay | undefined
  /** Only calls that were served at this tier, and then the rates are those of the tier (see `canonicalTier`). */
  readonly serviceTier?: string | undefined
  /** Only calls that this region answered, in lower case. */
  readonly region?: string | undefined
  /** Only calls for this customer of the organization. */
  readonly customer?: string | undefined
  /** Only calls whose total input is not larger than this. */
  readonly inputTokensMax?: number | undefined
}

/** One price of one model. Never changed once it is there: another price is another version. */
export interface PriceVersion extends PriceConditions {
  readonly id: string
  /** Whose own price this is; null: the catalogue, the list price for all. */
  readonly organizationId: string | null
  /** A catalogue id (see `catalogueProvider`). */
  readonly provider: string
  readonly model: string
  readonly match: ModelMatch
  /** From when it applies, UTC milliseconds; null: as far back as one can ask. */
  readonly effectiveFromMs: number | null
  /**
   * An own price without rates: this fraction, an exact decimal between 0 and 1, off the catalogue's price that
   * applies to the call. `0` is the catalogue's price.
   */
  readonly discount?: string | undefined
  /** Prices by meter name. Empty where there is a discount, until `PriceBook.find` fills them in. */
  readonly rates: Readonly<Record<string, Rate>>
  /** Where the price comes from, for whoever disputes it. */
  readonly source: string
  /** Order of entry, unique. Of several catalogue versions of a model that apply, the last entered wins. */
  readonly sequence: number
}
