import { z } from 'zod'
import { priceText } from '../pricing/price-version.ts'
import { plainText } from './plain-text.ts'

/** Each number of units is tried. */
const UNITS_MAX = 10_000
const name = plainText(256)
const positiveText = priceText.refine((text) => /[1-9]/.test(text), 'must be above zero')
const shareText = z
  .string()
  .regex(/^(0(\.\d{1,18})?|1(\.0{1,18})?)$/, 'must be a decimal string between 0 and 1, such as "0.05"')

const origin = {
  source: plainText(1000).optional().describe('Where the price comes from.'),
  source_date: z.iso.date().optional().describe('When it was read there.'),
}

const provisioned = {
  kind: z.literal('provisioned_throughput'),
  provider: name,
  model: name.describe('As the calls name it.'),
  tokens_per_minute: z.number().int().min(1).max(1_000_000_000_000).describe('What one unit carries.'),
  output_weight: priceText
    .default('1')
    .describe('How much of the capacity a token of output takes, in tokens of input.'),
  cached_weight: priceText.default('1').describe('The same for a token of input that was read from a cache.'),
  usable_share: shareText
    .default('1')
    .describe(
      'How much of the capacity is counted on: below 1 leaves room for bursts within a quarter of an hour.',
    ),
  price_per_hour: positiveText.describe('US dollars for one unit, used or not.'),
  term: plainText(200).optional().describe('How long it binds, for people.'),
}

const spend = {
  kind: z.literal('committed_spend'),
  provider: name,
  monthly_usd: positiveText.describe('Paid for 30 days, used or not.'),
  discount: shareText.describe('Off the list price of everything that is used.'),
  term: plainText(200).optional(),
}

const id = plainText(128)

const provisionedOffer = z.strictObject({
  id,
  ...provisioned,
  units_min: z.number().int().min(1).max(UNITS_MAX).default(1).describe('The fewest that can be bought.'),
  units_step: z.number().int().min(1).max(UNITS_MAX).default(1),
  units_max: z.number().int().min(1).max(UNITS_MAX).default(1_000),
  ...origin,
})
const spendOffer = z.strictObject({ id, ...spend, ...origin })

/** What could be bought. */
export const commitmentOfferSchema = z.discriminatedUnion('kind', [provisionedOffer, spendOffer])

const validity = {
  valid_from: z.iso.date(),
  valid_until: z.iso.date().optional().describe('The first day without it.'),
}

/** What has been bought. */
export const ownedCommitmentSchema = z.discriminatedUnion('kind', [
  z.strictObject({ id, ...provisioned, units: z.number().int().min(1).max(UNITS_MAX), ...validity }),
  z.strictObject({ id, ...spend, ...validity }),
])

export type CommitmentOffer = z.output<typeof commitmentOfferSchema>
export type ProvisionedOffer = z.output<typeof provisionedOffer>
export type SpendOffer = z.output<typeof spendOffer>
export type OwnedCommitment = z.output<typeof ownedCommitmentSchema>
