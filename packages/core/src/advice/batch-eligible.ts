import { canonicalTier, STANDARD_TIER } from '../pricing/service-tiers.ts'
import type { CallGroup } from './call-group.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { repriceGroup } from './reprice.ts'
import { calledAs, subjectOf } from './subject.ts'

/** What the batch interfaces of OpenAI, Anthropic, Google, Azure and Mistral take. */
const BATCHED_OPERATIONS: ReadonlySet<string> = new Set([
  'chat',
  'responses',
  'completion',
  'text_completion',
  'generate_content',
  'embeddings',
])

/** Calls at the standard price that nobody waited for, at the price of the provider's batches. */
export function batchEligible(group: CallGroup, context: AdviceContext): readonly Finding[] {
  const { book, organizationId, atMs } = context
  if (group.waiting === 'yes' || canonicalTier(group.serviceTier) !== STANDARD_TIER) return []
  if (!BATCHED_OPERATIONS.has(group.operation)) return []
  const current = repriceGroup(book, organizationId, atMs, group)
  const batch = repriceGroup(book, organizationId, atMs, group, { serviceTier: 'batch' })
  if (current === undefined || batch === undefined) return []
  return [
    {
      kind: 'batch_eligible',
      scope: group.scope,
      subject: subjectOf(group, current.version),
      alternative: { serviceTier: 'batch' },
      calledAs: calledAs(group),
      events: group.calls,
      currentUsd: current.costUsd,
      alternativeUsd: batch.costUsd,
      priceVersionIds: [current.version.id, batch.version.id],
      isGuess: group.waiting === 'guessed',
    },
  ]
}
