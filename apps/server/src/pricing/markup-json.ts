import { type MarkupRuleVersion, type RuleSpan, ruleToJson } from '@tokentally/core'
import { z } from 'zod'

const fixedPrice = z.object({ price: z.string(), per: z.number() })

/** A version of a markup rule as the API shows it. */
export const markupRuleAnswer = z.object({
  id: z.string(),
  version: z.number().int(),
  version_id: z.string().describe('What events keep that were sold by this version: `markup_rule_id`.'),
  status: z
    .enum(['in_force', 'planned', 'ended', 'removed'])
    .describe('`removed`: the version that ended the rule; `ended`: over, or replaced before it began.'),
  provider: z.string().optional(),
  model: z.string().optional(),
  customer: z.string().optional(),
  feature: z.string().optional(),
  tags: z.record(z.string(), z.string()).optional(),
  markup: z.string().optional(),
  discount: z.string().optional(),
  prices: z.record(z.string(), fixedPrice).optional(),
  price_per_request: z.string().optional(),
  minimum: z.string().optional(),
  effective_date: z.string(),
  until: z.string().nullable().describe('When it ends or ended; null: no end is known.'),
  created_at: z.string(),
})

/** A version as it stands at a time. */
export function versionToJson(
  version: MarkupRuleVersion,
  span: RuleSpan | undefined,
  nowMs: number,
): z.input<typeof markupRuleAnswer> {
  const endMs = span?.endMs ?? version.untilMs ?? Infinity
  return {
    id: version.id,
    version: version.version,
    version_id: version.versionId,
    status: statusOf(version, span, nowMs),
    ...ruleToJson(version),
    effective_date: new Date(version.fromMs).toISOString(),
    until: Number.isFinite(endMs) ? new Date(endMs).toISOString() : null,
    created_at: new Date(version.enteredMs).toISOString(),
  }
}

function statusOf(version: MarkupRuleVersion, span: RuleSpan | undefined, nowMs: number) {
  if (version.isRemoval) return 'removed'
  if (span === undefined || span.endMs <= nowMs) return 'ended'
  return span.startMs > nowMs ? 'planned' : 'in_force'
}
