import { type ChargeKind, decimal, type VendorRow } from '@tokentally/core'
import { amountOf, dayOfText, textOf } from './amounts.ts'
import { refuse } from './billing-error.ts'
import { type BillLine, cellOf } from './columns.ts'

/**
 * Lines of an AWS Cost and Usage Report, with the column names of CUR 2.0 or of the legacy report (AWS Data Exports
 * user guide and "Understanding your Amazon Bedrock Cost and Usage Report data" of the Bedrock user guide, read
 * 2026-11). Usage types name model and meter: `USE1-Claude4.6Sonnet-cache-read-input-token-count`,
 * `USW2-anthropic.claude-opus-4-8-mantle-input-tokens-batch`. Amounts are thousands of tokens unless
 * `pricing_unit` says otherwise. Models of the AWS Marketplace are named by their product.
 */
export const AWS_COLUMNS = [
  ['line_item_usage_start_date'],
  ['line_item_usage_type'],
  ['line_item_usage_amount'],
  ['line_item_unblended_cost'],
  ['line_item_line_item_type'],
] as const

const KINDS: Readonly<Record<string, ChargeKind>> = {
  Usage: 'usage',
  DiscountedUsage: 'usage',
  SavingsPlanCoveredUsage: 'usage',
  Credit: 'credit',
  Refund: 'credit',
  Tax: 'tax',
  BundledDiscount: 'discount',
  EdpDiscount: 'discount',
  PrivateRateDiscount: 'discount',
  SppDiscount: 'discount',
  Discount: 'discount',
}
const MARKETPLACE_NAME = /^(.*?)\s*\(Amazon Bedrock Edition\)/i
const THOUSAND = decimal('1000')

/** The rows of one line; none when it is not about Bedrock. @throws BillingError that names the column */
export function readAwsLine(line: BillLine): readonly VendorRow[] {
  const product = cellOf(line, 'product_product_name', 'product_name')
  const code = cellOf(line, 'line_item_product_code')
  const marketplaceModel = MARKETPLACE_NAME.exec(product)?.[1]
  if (!/bedrock/i.test(code) && marketplaceModel === undefined) return []
  const currency = cellOf(line, 'line_item_currency_code')
  if (currency !== '' && currency !== 'USD') refuse('line_item_currency_code', `must be USD, not ${currency}`)
  const usageType = cellOf(line, 'line_item_usage_type')
  const type = cellOf(line, 'line_item_line_item_type')
  const charge = KINDS[type] ?? 'other'
  const meter = charge === 'usage' ? meterOf(usageType) : undefined
  const model = marketplaceModel ?? modelOf(usageType)
  const isUsage = meter !== undefined && model !== ''
  const unit = unitOf(cellOf(line, 'pricing_unit'))
  const amount = amountOf('line_item_usage_amount', cellOf(line, 'line_item_usage_amount') || '0')
  return [
    {
      day: dayOfText('line_item_usage_start_date', cellOf(line, 'line_item_usage_start_date')),
      kind: isUsage ? 'usage' : charge === 'usage' ? 'other' : charge,
      model: isUsage ? model : usageType || type,
      meter: isUsage ? meter : null,
      serviceTier: isUsage ? tierOf(usageType) : null,
      keyId: cellOf(line, 'line_item_iam_principal') || null,
      projectId: cellOf(line, 'line_item_usage_account_id') || null,
      quantity: isUsage && unit !== undefined ? textOf(amount.times(unit)) : null,
      costUsd: textOf(amountOf('line_item_unblended_cost', cellOf(line, 'line_item_unblended_cost') || '0')),
      lines: 1,
    },
  ]
}

function meterOf(usageType: string): string | undefined {
  if (/cache-?_?read/i.test(usageType)) return 'cache_read_tokens'
  if (/cache-?_?write/i.test(usageType)) {
    return /1h|60m|one-?hour/i.test(usageType) ? 'cache_write_1h_tokens' : 'cache_write_tokens'
  }
  if (/input-?_?token/i.test(usageType)) return 'input_tokens'
  if (/output-?_?token/i.test(usageType)) return 'output_tokens'
  return undefined
}

function modelOf(usageType: string): string {
  return usageType
    .replace(/^[A-Z]{2,4}\d?(?:_[A-Z]+\d?)?-/, '')
    .replace(/[-_](?:mantle[-_])?(?:text[-_])?(?:cache[-_]?(?:read|write)|input|output)[-_]?.*$/i, '')
}

function tierOf(usageType: string): string {
  return /[-_](batch|flex|priority|reserved)\b/i.exec(usageType)?.[1]?.toLowerCase() ?? 'default'
}

/** Units of what the amount counts; undefined when they are no tokens. */
function unitOf(pricingUnit: string): ReturnType<typeof decimal> | undefined {
  if (pricingUnit === '' || /\b1k\b|1,?000 tokens|thousand/i.test(pricingUnit)) return THOUSAND
  if (/\b1m\b|million/i.test(pricingUnit)) return decimal('1000000')
  return /^tokens?$/i.test(pricingUnit) ? decimal('1') : undefined
}
