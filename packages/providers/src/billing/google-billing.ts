import { type ChargeKind, type Decimal, divideToSignificant, type VendorRow, ZERO } from '@tokentally/core'
import { z } from 'zod'
import { amountOf, dayOfText, textOf } from './amounts.ts'
import { refuse } from './billing-error.ts'
import { type BillLine, cellOf } from './columns.ts'

/**
 * Rows of the Cloud Billing export to BigQuery ("Structure of Standard / Detailed data export",
 * cloud.google.com/billing/docs/how-to/export-data-bigquery-tables, read 2026-11), as JSON objects or as CSV with the
 * nested names joined by dots or underscores. SKUs name model and meter: `Gemini 2.5 Flash GA Text Input -
 * Predictions`, `Gemini 2.5 Flash GA Thinking Text Output - Predictions`, `Gemini 3 Flash Text Input Caching`. Costs
 * are before credits, which stand beside them and are negative.
 */
export const GOOGLE_COLUMNS = [
  ['service_description'],
  ['sku_description'],
  ['usage_start_time'],
  ['usage_amount'],
  ['cost'],
] as const

const SERVICES = /vertex ai|gemini|generative language/i
const TOKEN_UNITS = /^(count|tokens?|1|requests?)$/i
const RATE_DIGITS = 30

const credits = z.array(
  z.looseObject({ amount: z.string(), type: z.string().nullish(), name: z.string().nullish() }),
)

/**
 * The rows of one line; none when it is not about models.
 *
 * @param creditList `credits` of the row; in CSV a JSON array, or absent
 * @throws BillingError that names the column
 */
export function readGoogleLine(line: BillLine, creditList: unknown = []): readonly VendorRow[] {
  if (!SERVICES.test(cellOf(line, 'service_description'))) return []
  const sku = cellOf(line, 'sku_description')
  const meter = readSku(sku)
  const costType = cellOf(line, 'cost_type')
  const charge: ChargeKind =
    costType === 'tax' ? 'tax' : costType === '' || costType === 'regular' ? 'usage' : 'other'
  const isStorage = /storage/i.test(sku) && meter !== undefined
  if (meter === undefined && charge === 'usage') return []
  const rate = rateOf(line)
  const usdOf = (amount: Decimal) => (rate === undefined ? amount : converted(amount, rate))
  const isUsage = charge === 'usage' && meter !== undefined && !isStorage
  const base = {
    day: dayOfText('usage_start_time', cellOf(line, 'usage_start_time')),
    keyId: null,
    projectId: cellOf(line, 'project_id') || null,
    lines: 1,
  }
  const unit = cellOf(line, 'usage_unit')
  const rows: VendorRow[] = [
    {
      ...base,
      kind: isUsage ? 'usage' : charge === 'usage' ? 'other' : charge,
      model: isUsage ? meter.model : sku,
      meter: isUsage ? meter.meter : null,
      serviceTier: isUsage ? meter.tier : null,
      quantity:
        isUsage && (unit === '' || TOKEN_UNITS.test(unit))
          ? textOf(amountOf('usage_amount', cellOf(line, 'usage_amount') || '0'))
          : null,
      costUsd: textOf(usdOf(amountOf('cost', cellOf(line, 'cost') || '0'))),
    },
  ]
  const list = credits.safeParse(creditList)
  if (!list.success) refuse('credits', 'must be an array of objects with an amount')
  for (const credit of list.data) {
    const amount = amountOf('credits.amount', credit.amount)
    if (amount.eq(ZERO)) continue
    rows.push({
      ...base,
      kind: /discount/i.test(credit.type ?? '') ? 'discount' : 'credit',
      model: credit.name ?? credit.type ?? 'credit',
      meter: null,
      serviceTier: null,
      quantity: null,
      costUsd: textOf(usdOf(amount)),
    })
  }
  return rows
}

/** Units of the currency for one dollar; undefined for dollars. */
function rateOf(line: BillLine): Decimal | undefined {
  const currency = cellOf(line, 'currency') || 'USD'
  if (currency === 'USD') return undefined
  const text = cellOf(line, 'currency_conversion_rate')
  if (text === '') refuse('currency', `is ${currency}, and the line has no currency_conversion_rate`)
  const rate = amountOf('currency_conversion_rate', text)
  if (rate.lte(ZERO)) refuse('currency_conversion_rate', 'must be above zero')
  return rate
}

function converted(amount: Decimal, rate: Decimal): Decimal {
  if (amount.eq(ZERO)) return amount
  const size = divideToSignificant(amount.abs(), rate, RATE_DIGITS)
  return amount.lt(ZERO) ? ZERO.minus(size) : size
}

const NOT_OF_MODEL =
  /\b(text|audio|image|video|input|output|predictions?|thinking|cach(?:ing|ed|e)|storage|ga|global|regional|batch|flex|priority|standard|tokens?|count|for|generate|content|generate_content|long|short|context|online|api|vertex|ai|tier|paid|write|read|creation|1h|5m|hour)\b/gi
const FAMILIES = /gemini|gemma|claude|llama|mistral|deepseek|qwen|jamba|codestral|grok|gpt/i

interface ReadSku {
  readonly model: string
  readonly meter: string
  readonly tier: string
}

function readSku(sku: string): ReadSku | undefined {
  const has = (word: RegExp) => word.test(sku)
  if (!has(FAMILIES) || !has(/input|output|cach/i)) return undefined
  const kind = has(/\baudio\b/i) ? 'audio_' : has(/\bimage\b/i) ? 'image_' : has(/\bvideo\b/i) ? 'video_' : ''
  const meter = has(/cach/i)
    ? has(/write|creation/i)
      ? has(/\b1 ?h/i)
        ? 'cache_write_1h_tokens'
        : 'cache_write_tokens'
      : `${kind === 'video_' ? '' : kind}cache_read_tokens`
    : has(/output/i)
      ? `${kind === 'video_' ? '' : kind}output_tokens`
      : `${kind}input_tokens`
  return {
    model: sku
      .replace(NOT_OF_MODEL, ' ')
      .replace(/\s-\s|[()]/g, ' ')
      .replace(/\s+/g, ' ')
      .trim()
      .replace(/[\s-]+$/, ''),
    meter,
    tier: /\b(batch|flex|priority)\b/i.exec(sku)?.[1]?.toLowerCase() ?? 'default',
  }
}
