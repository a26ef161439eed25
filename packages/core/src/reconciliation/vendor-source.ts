/** The vendors whose own figures are compared with the ledger; the names are those that prices are kept under. */
export const VENDORS = ['openai', 'anthropic', 'aws', 'azure', 'google'] as const
export type Vendor = (typeof VENDORS)[number]

/** What a source says of a vendor, and in which terms. */
export interface VendorSource {
  readonly vendor: Vendor
  /** Whether its rows have costs. */
  readonly hasCosts: boolean
  /** Lower comes first where several sources of a vendor have quantities for a day. */
  readonly quantityRank: number
  /** The token meters that it tells apart; what the ledger counts in finer ones is added to these. */
  readonly meters: ReadonlySet<string>
}

const OPENAI_METERS = new Set([
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'audio_input_tokens',
  'image_input_tokens',
  'audio_cache_read_tokens',
  'image_cache_read_tokens',
  'output_tokens',
  'audio_output_tokens',
  'image_output_tokens',
])
const ANTHROPIC_METERS = new Set([
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'cache_write_1h_tokens',
  'output_tokens',
])
const BILL_METERS = new Set([...OPENAI_METERS, 'cache_write_1h_tokens', 'video_input_tokens'])

/** Everything that can be imported, by its name. */
export const VENDOR_SOURCES = {
  openai_usage: { vendor: 'openai', hasCosts: false, quantityRank: 0, meters: OPENAI_METERS },
  openai_costs: { vendor: 'openai', hasCosts: true, quantityRank: 1, meters: OPENAI_METERS },
  anthropic_usage: { vendor: 'anthropic', hasCosts: false, quantityRank: 0, meters: ANTHROPIC_METERS },
  anthropic_costs: { vendor: 'anthropic', hasCosts: true, quantityRank: 1, meters: ANTHROPIC_METERS },
  aws_cur: { vendor: 'aws', hasCosts: true, quantityRank: 0, meters: BILL_METERS },
  azure_costs: { vendor: 'azure', hasCosts: true, quantityRank: 0, meters: BILL_METERS },
  google_billing: { vendor: 'google', hasCosts: true, quantityRank: 0, meters: BILL_METERS },
} as const satisfies Readonly<Record<string, VendorSource>>
export type VendorSourceName = keyof typeof VENDOR_SOURCES

export function isVendorSource(name: string): name is VendorSourceName {
  return Object.hasOwn(VENDOR_SOURCES, name)
}

export function isVendor(name: string): name is Vendor {
  return VENDORS.some((vendor) => vendor === name)
}

/** What a charge is: `usage` is compared, the others stand beside it. */
export const CHARGE_KINDS = ['usage', 'credit', 'discount', 'tax', 'other'] as const
export type ChargeKind = (typeof CHARGE_KINDS)[number]

/** One figure of a vendor: a day, a model and a meter, as far as the vendor tells them apart. */
export interface VendorRow {
  /** The vendor's day, `YYYY-MM-DD`. */
  readonly day: string
  readonly kind: ChargeKind
  /** As the vendor writes it; null: not of a model. */
  readonly model: string | null
  /** A meter of ours, a bucket that no other one contains; null: not of a meter. */
  readonly meter: string | null
  /** In our words (`canonicalTier`); null: the vendor does not say. */
  readonly serviceTier: string | null
  /** The vendor's name of the API key or principal. */
  readonly keyId: string | null
  /** The vendor's name of the project, workspace, account or subscription. */
  readonly projectId: string | null
  /** Units of the meter, exact decimal text; null: the vendor does not say. */
  readonly quantity: string | null
  /** US dollars, exact decimal text, negative for what the vendor gives back; null: the vendor does not say. */
  readonly costUsd: string | null
  /** How many lines of the vendor's it is the sum of, each of which the vendor may have rounded. */
  readonly lines: number
}
