import type { CorrectionSums } from '@tokentally/core'
import { decimal, decimalText, type RatedEvent, usageEventToJson, ZERO } from '@tokentally/core'
import { z } from 'zod'
import type { CorrectionPreview, CustomerEffect } from './correct.ts'
import type { Correction } from './store.ts'

/** Customers that a preview shows; those with the largest difference come first. */
const CUSTOMERS_MAX = 1_000

const count = z.number().int()
const money = z.string().describe('Exact decimal, US dollars')
const charged = z
  .array(z.object({ currency: z.string(), amount: z.string() }))
  .describe('What customers pay, by the currency they pay in')
const sums = z.object({
  requests: count,
  unpriced_requests: count,
  input_tokens: count,
  output_tokens: count,
  list_cost: money,
  total_cost: money.describe('The sell cost. Exact decimal, US dollars'),
  charged,
})
const effect = {
  before: sums.describe('The events as they stood'),
  after: sums.describe('What stands in for them'),
  difference: sums.describe('After less before'),
}

/** A correction that was applied. */
export const correctionJson = z.object({
  id: z.string(),
  reason: z.string(),
  api_key_id: z.string().describe('The key that asked for it'),
  created_at: z.string(),
  select: z.record(z.string(), z.unknown()),
  change: z.record(z.string(), z.unknown()),
  events: count.describe('Events that were taken back'),
  replacements: count.describe('Events that stand in for them'),
  unchanged: count.describe('Selected events that the change left as they were'),
  ...effect,
})

/** What a correction would do. */
export const previewJson = z.object({
  preview: z.literal(true),
  preview_token: z.string().describe('Send it along to apply exactly this.'),
  events: count,
  replacements: count,
  unchanged: count,
  ...effect,
  customers: z
    .array(z.object({ customer: z.string().nullable(), ...effect }))
    .describe(`At most ${CUSTOMERS_MAX}, those with the largest difference of total_cost first`),
  sample: z
    .array(
      z.object({
        before: z.record(z.string(), z.unknown()),
        after: z.record(z.string(), z.unknown()).nullable(),
      }),
    )
    .describe('The first events, at most 10'),
})

export function correctionToJson(correction: Correction): z.infer<typeof correctionJson> {
  const { id, reason, apiKeyId, createdAt, select, change, events, replacements, unchanged } = correction
  return {
    id,
    reason,
    api_key_id: apiKeyId,
    created_at: createdAt.toISOString(),
    select: { ...select },
    change: { ...change },
    events,
    replacements,
    unchanged,
    ...effectToJson(correction),
  }
}

export function previewToJson(preview: CorrectionPreview): z.infer<typeof previewJson> {
  const { token, events, replacements, unchanged, customers, sample } = preview
  return {
    preview: true,
    preview_token: token,
    events,
    replacements,
    unchanged,
    ...effectToJson(preview),
    customers: customers
      .map((customer) => ({ customer, size: differenceSize(customer) }))
      .sort((a, b) => b.size.cmp(a.size))
      .slice(0, CUSTOMERS_MAX)
      .map(({ customer }) => ({ customer: customer.customer, ...effectToJson(customer) })),
    sample: sample.map(({ before, after }) => ({
      before: eventToJson(before),
      after: after === undefined ? null : eventToJson(after),
    })),
  }
}

type Effect = { readonly before: CorrectionSums; readonly after: CorrectionSums }

function effectToJson({ before, after }: Effect) {
  return { before: sumsToJson(before), after: sumsToJson(after), difference: differenceOf(before, after) }
}

function sumsToJson(from: CorrectionSums): z.infer<typeof sums> {
  return { ...from, charged: from.charged.map((one) => ({ ...one })) }
}

function differenceOf(before: CorrectionSums, after: CorrectionSums): z.infer<typeof sums> {
  const less = (a: string, b: string) => decimalText(decimal(a).minus(decimal(b)))
  const amountIn = (of: CorrectionSums, currency: string) =>
    of.charged.find((one) => one.currency === currency)?.amount ?? '0'
  const currencies = [
    ...new Set([...before.charged, ...after.charged].map(({ currency }) => currency)),
  ].sort()
  return {
    requests: after.requests - before.requests,
    unpriced_requests: after.unpriced_requests - before.unpriced_requests,
    input_tokens: after.input_tokens - before.input_tokens,
    output_tokens: after.output_tokens - before.output_tokens,
    list_cost: less(after.list_cost, before.list_cost),
    total_cost: less(after.total_cost, before.total_cost),
    charged: currencies.map((currency) => ({
      currency,
      amount: less(amountIn(after, currency), amountIn(before, currency)),
    })),
  }
}

function differenceSize({ before, after }: CustomerEffect) {
  const difference = decimal(after.total_cost).minus(decimal(before.total_cost))
  return difference.lt(ZERO) ? ZERO.minus(difference) : difference
}

function eventToJson({ event, rating, sale }: RatedEvent): Record<string, unknown> {
  return {
    ...usageEventToJson(event),
    rating: {
      status: rating.status,
      list_cost: rating.status === 'unpriced' ? null : decimalText(rating.listCostUsd),
      total_cost: rating.status === 'unpriced' ? null : decimalText(sale.sellCostUsd),
      currency: sale.conversion?.currency ?? 'USD',
      markup_rule_id: sale.markupRuleId,
      price_version_id: rating.priceVersionId,
    },
  }
}
