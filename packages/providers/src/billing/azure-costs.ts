import { type ChargeKind, type Decimal, decimal, type VendorRow } from '@tokentally/core'
import { amountOf, dayOfText, textOf } from './amounts.ts'
import { refuse } from './billing-error.ts'
import { type BillLine, cellOf } from './columns.ts'

/**
 * Lines of an export of Azure Cost Management ("cost and usage details", read 2026-11), in the versions for
 * Enterprise Agreements, Microsoft Customer Agreements and pay-as-you-go, which name the same columns differently.
 * Meters name model and kind in short words: `gpt-4o-mini-0718-Inp-glbl Tokens`, `gpt 4.1 cached Inp Data Zone
 * Tokens`, `GPT 5.1 opt Gl 1M Tokens`; `opt` is output, `cd` cached. The retail price list has them all.
 */
export const AZURE_COLUMNS = [
  ['date', 'usage_date', 'usage_date_time', 'usage_start_date'],
  ['meter_name'],
  ['meter_category'],
  ['quantity', 'usage_quantity', 'consumed_quantity'],
  ['cost_in_usd', 'cost_usd', 'cost_in_billing_currency', 'pre_tax_cost', 'cost'],
] as const

const MODELS = /openai|foundry models|ai foundry|ai services|cognitive services/i
const KINDS: Readonly<Record<string, ChargeKind>> = {
  usage: 'usage',
  tax: 'tax',
  refund: 'credit',
  credit: 'credit',
  adjustment: 'other',
  purchase: 'other',
  unusedreservation: 'other',
  unusedsavingsplan: 'other',
  roundingadjustment: 'other',
}

/** The rows of one line; none when it is not about models. @throws BillingError that names the column */
export function readAzureLine(line: BillLine): readonly VendorRow[] {
  const category = cellOf(line, 'meter_category')
  const name = cellOf(line, 'meter_name')
  if (!MODELS.test(category)) return []
  const isToken = /\btokens?$/i.test(name)
  if (!isToken && /cognitive services|ai services/i.test(category)) return []
  const chargeType = cellOf(line, 'charge_type')
    .replace(/[^A-Za-z]/g, '')
    .toLowerCase()
  const charge = chargeType === '' ? 'usage' : (KINDS[chargeType] ?? 'other')
  const meter = readMeter(
    name,
    /openai/i.test(`${category} ${cellOf(line, 'product_name', 'product', 'meter_sub_category')}`),
  )
  const isUsage = charge === 'usage' && isToken && meter !== undefined
  const quantity = amountOf(
    'quantity',
    cellOf(line, 'quantity', 'usage_quantity', 'consumed_quantity') || '0',
  )
  return [
    {
      day: dayOfText('date', cellOf(line, 'date', 'usage_date', 'usage_date_time', 'usage_start_date')),
      kind: isUsage ? 'usage' : charge === 'usage' ? 'other' : charge,
      model: isUsage ? meter.model : name || chargeType,
      meter: isUsage ? meter.meter : null,
      serviceTier: isUsage ? meter.tier : null,
      keyId: cellOf(line, 'resource_id', 'instance_id', 'instance_name').toLowerCase() || null,
      projectId: cellOf(line, 'subscription_id', 'subscription_guid') || null,
      quantity: isUsage ? textOf(quantity.times(unitOf(cellOf(line, 'unit_of_measure')))) : null,
      costUsd: textOf(costOf(line)),
      lines: 1,
    },
  ]
}

/** In US dollars: the column in dollars where there is one, else the billing currency if that is dollars. */
function costOf(line: BillLine): Decimal {
  const usd = cellOf(line, 'cost_in_usd', 'cost_usd', 'pre_tax_cost_in_usd')
  if (usd !== '') return amountOf('cost_in_usd', usd)
  const billing = cellOf(line, 'billing_currency_code', 'billing_currency', 'currency', 'currency_code')
  if (billing !== '' && billing !== 'USD') {
    const pricing = cellOf(line, 'cost_in_pricing_currency')
    if (pricing !== '' && cellOf(line, 'pricing_currency_code', 'pricing_currency') === 'USD') {
      return amountOf('cost_in_pricing_currency', pricing)
    }
    refuse('billing_currency', `is ${billing}, and the line has no cost in US dollars (column costInUsd)`)
  }
  return amountOf('cost', cellOf(line, 'cost_in_billing_currency', 'pre_tax_cost', 'cost') || '0')
}

function unitOf(unit: string): Decimal {
  const [, figure = '1', scale = ''] = /^\s*([\d,]+)?\s*([KM]?)/i.exec(unit) ?? []
  const factor = scale === '' ? '1' : scale.toUpperCase() === 'K' ? '1000' : '1000000'
  return decimal(figure.replaceAll(',', '')).times(decimal(factor))
}

const PLACES =
  /^(glbl|global|gl|regnl|regional|rgnl|dz|dzn|dzone|datazone|data|zone|std|standard|shortco|longco|text|txt|1m|1k|tokens?|ga)$/i
const INPUT = /^(inp|input|in|prompt)$/i
const OUTPUT = /^(outp|output|opt|out|otpt|completion)$/i
const CACHED = /^(cached|cd|cchd|cache|cch)$/i
const TIERS: Readonly<Record<string, string>> = {
  batch: 'batch',
  btch: 'batch',
  bt: 'batch',
  pp: 'priority',
  prty: 'priority',
  pri: 'priority',
  priority: 'priority',
  flex: 'flex',
}

interface ReadMeter {
  readonly model: string
  readonly meter: string
  readonly tier: string
}

function readMeter(name: string, isOpenai: boolean): ReadMeter | undefined {
  const model: string[] = []
  let [direction, kind, tier, isCached] = ['', '', 'default', false]
  for (const word of name.split(/[\s-]+/)) {
    const lower = word.toLowerCase()
    if (word === '' || PLACES.test(word)) continue
    if (INPUT.test(word)) direction = 'input'
    else if (OUTPUT.test(word)) direction = 'output'
    else if (CACHED.test(word)) isCached = true
    else if (/^(aud|audio)$/i.test(word)) kind = 'audio_'
    else if (/^(img|image)$/i.test(word) && direction === '' && model.length > 0) kind = 'image_'
    else if (TIERS[lower] !== undefined) tier = TIERS[lower]
    else model.push(word)
  }
  if (model.length === 0 || (direction === '' && !isCached)) return undefined
  const first = model[0] ?? ''
  return {
    model: isOpenai && /^\d/.test(first) ? `gpt-${model.join('-')}` : model.join('-'),
    meter: isCached ? `${kind}cache_read_tokens` : `${kind}${direction}_tokens`,
    tier,
  }
}
