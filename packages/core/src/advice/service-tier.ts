import { canonicalTier, STANDARD_TIER } from '../pricing/service-tiers.ts'
import type { CallGroup } from './call-group.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { repriceGroup } from './reprice.ts'
import { calledAs, subjectOf } from './subject.ts'

/** Calls at a faster, dearer tier that nobody waited for, at the standard price. */
export function serviceTier(group: CallGroup, context: AdviceContext): readonly Finding[] {
  const { book, organizationId, atMs } = context
  if (group.waiting === 'yes' || canonicalTier(group.serviceTier) === STANDARD_TIER) return []
  const current = repriceGroup(book, organizationId, atMs, group)
  const standard = repriceGroup(book, organizationId, atMs, group, { serviceTier: STANDARD_TIER })
  if (current === undefined || standard === undefined || standard.costUsd.gte(current.costUsd)) return []
  return [
    {
      kind: 'service_tier',
      scope: group.scope,
      subject: subjectOf(group, current.version),
      alternative: { serviceTier: STANDARD_TIER },
      calledAs: calledAs(group),
      events: group.calls,
      currentUsd: current.costUsd,
      alternativeUsd: standard.costUsd,
      priceVersionIds: [current.version.id, standard.version.id],
      isGuess: group.waiting === 'guessed',
    },
  ]
}
