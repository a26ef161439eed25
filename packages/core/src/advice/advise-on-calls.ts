import { batchEligible } from './batch-eligible.ts'
import type { CallGroup } from './call-group.ts'
import { cheaperModel } from './cheaper-model.ts'
import { cheaperProvider } from './cheaper-provider.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { serviceTier } from './service-tier.ts'

/** Everything that could be done otherwise about a group of calls. */
export function adviseOnCalls(group: CallGroup, context: AdviceContext): readonly Finding[] {
  return [
    ...cheaperModel(group, context),
    ...batchEligible(group, context),
    ...cheaperProvider(group, context),
    ...serviceTier(group, context),
  ]
}
