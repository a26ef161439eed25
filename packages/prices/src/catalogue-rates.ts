import { type Decimal, decimal, decimalFromLiteral, decimalText, type Rate } from '@tokentally/core'

/** A price as it stands in the source: the text of the literal, or the number that was read from it. */
export type Amount = number | string

/** The prices of an entry, by the source's own names of what is counted. */
export type EntryPrices = Readonly<
  Record<
    string,
    | Amount
    | {
        readonly base: Amount
        readonly tiers: readonly { readonly start: number; readonly price: Amount }[]
      }
    | undefined
  >
>

/** Our meters for the price keys of `@pydantic/genai-prices` 0.1.8 whose names do not follow by rule. */
const METERS_BY_PRICE_KEY: Readonly<Record<string, string>> = {
  input_mtok: 'input_tokens',
  output_mtok: 'output_tokens',
  cache_read_mtok: 'cache_read_tokens',
  cache_write_mtok: 'cache_write_tokens',
  cache_write_1h_mtok: 'cache_write_1h_tokens',
  cache_audio_read_mtok: 'audio_cache_read_tokens',
  cache_image_read_mtok: 'image_cache_read_tokens',
  input_audio_mtok: 'audio_input_tokens',
  output_audio_mtok: 'audio_output_tokens',
  input_image_mtok: 'image_input_tokens',
  output_image_mtok: 'image_output_tokens',
  input_video_mtok: 'video_input_tokens',
  output_video_mtok: 'video_output_tokens',
  output_reasoning_mtok: 'reasoning_tokens',
  output_citation_mtok: 'citation_tokens',
  requests_kcount: 'requests',
  web_searches_kcount: 'web_search_requests',
  storage_searches_kcount: 'file_search_requests',
  social_searches_kcount: 'social_search_requests',
  rerank_searches_kcount: 'search_units',
  input_document_kpages: 'document_pages',
  input_annotated_document_kpages: 'annotated_document_pages',
  input_text_messages_kcount: 'text_messages',
  audio_hours: 'audio_hours',
  // Said twice for the same hours: as audio in general and as audio that goes in.
  input_audio_hours: 'audio_hours',
}

const PER_BY_SUFFIX: readonly (readonly [suffix: string, per: Rate['per']])[] = [
  ['_mtok', 1_000_000],
  ['_kcount', 1000],
  ['_kpages', 1000],
  ['_hours', 1],
]

/**
 * The rates of a catalogue entry by meter, prices as the exact literals of the catalogue. A price key that is
 * not known here keeps its own name as the meter's.
 */
export function ratesFromCatalogue(prices: EntryPrices): Readonly<Record<string, Rate>> {
  const rates: Record<string, Rate> = {}
  for (const [key, value] of Object.entries(prices)) {
    if (value === undefined) continue
    const meter = METERS_BY_PRICE_KEY[key] ?? key
    const per = PER_BY_SUFFIX.find(([suffix]) => key.endsWith(suffix))?.[1] ?? 1
    if (typeof value !== 'object') {
      rates[meter] = { per, price: literal(value) }
      continue
    }
    rates[meter] = {
      per,
      price: literal(value.base),
      tiers: value.tiers
        .toSorted((a, b) => a.start - b.start)
        .map((tier) => ({ aboveInputTokens: tier.start, price: literal(tier.price) })),
    }
  }
  const hourly = rates['audio_hours']
  const perSecond = hourly && secondPrice(decimal(hourly.price))
  if (perSecond !== undefined) rates['audio_seconds'] = { per: 1, price: decimalText(perSecond) }
  return rates
}

/**
 * The price of a second from that of an hour, where it is a decimal (3600 = 9 · 400, and a ninth is one only
 * if the digits allow it). Where it is not, seconds have no price: a rounded price would not be the vendor's.
 */
function secondPrice(hourPrice: Decimal): Decimal | undefined {
  const digits = BigInt(hourPrice.c.join(''))
  if (digits % 9n !== 0n) return undefined
  const places = hourPrice.c.length - 1 - hourPrice.e
  const ninth = decimal(digits / 9n).times(decimal(places < 0 ? `1e${-places}` : `1e-${places}`))
  return ninth.times(decimal('0.0025'))
}

function literal(value: Amount): string {
  return decimalText(typeof value === 'number' ? decimalFromLiteral(value) : decimal(value))
}
