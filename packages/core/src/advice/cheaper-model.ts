import { modelNames } from '../rating/rate.ts'
import type { CallGroup } from './call-group.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { alternativesTo } from './model-alternatives.ts'
import { repriceGroup } from './reprice.ts'
import { calledAs, subjectOf } from './subject.ts'

/** Small calls to a model that has cheaper alternatives in the organization's table, re-priced for each of them. */
export function cheaperModel(group: CallGroup, context: AdviceContext): readonly Finding[] {
  if (!group.isSmall) return []
  const { book, organizationId, atMs } = context
  const current = repriceGroup(book, organizationId, atMs, group)
  if (current === undefined) return []
  const names = [current.version.model, ...modelNames(group)]
  return alternativesTo(context.alternatives, group.provider, names).flatMap(({ model, note }) => {
    const other = repriceGroup(book, organizationId, atMs, group, { model })
    if (other === undefined) return []
    return {
      kind: 'cheaper_model',
      scope: group.scope,
      subject: subjectOf(group, current.version),
      alternative: { model, ...(note !== undefined && { note }) },
      calledAs: calledAs(group),
      events: group.calls,
      currentUsd: current.costUsd,
      alternativeUsd: other.costUsd,
      priceVersionIds: [current.version.id, other.version.id],
      isGuess: false,
    }
  })
}
