import { decimal, decimalText, ZERO } from '@tokentally/core'

/** Sums over some events. Money is exact decimal text, US dollars at list price. */
export interface CostSums {
  readonly requests: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly listCostUsd: string
  /** Requests with a meter that has no known price; what is unpriced is not in the cost. */
  readonly unpricedRequests: number
}

export interface ProviderCost extends CostSums {
  readonly provider: string
}

export interface ModelCost extends CostSums {
  readonly provider: string
  readonly model: string | null
}

/**
 * One logical run: the events of a conversation; without one, those of a trace; without one, the attempts of a
 * call. The service reports conversations only: there `null` is all that belongs to none.
 */
export interface ExecutionCost extends CostSums {
  readonly execution: string | null
}

export interface CustomerCost extends CostSums {
  readonly customer: string | null
}

export interface FeatureCost extends CostSums {
  readonly feature: string | null
}

/** Sums over a time range, whole and in parts. Parts are ordered by cost, the dearest first. */
export interface CostSummary extends CostSums {
  readonly byProvider: readonly ProviderCost[]
  readonly byModel: readonly ModelCost[]
  /** The dearest `PARTS_MAX`. */
  readonly byExecution: readonly ExecutionCost[]
  /** The dearest `PARTS_MAX`. */
  readonly byCustomer: readonly CustomerCost[]
  /** The dearest `PARTS_MAX`. */
  readonly byFeature: readonly FeatureCost[]
}

/** How many executions, customers and features a summary holds at most. */
export const PARTS_MAX = 1_000

/** The sums of several groups. */
export function sumOf(groups: Iterable<CostSums>): CostSums {
  let requests = 0
  let inputTokens = 0
  let outputTokens = 0
  let unpricedRequests = 0
  let cost = ZERO
  for (const group of groups) {
    requests += group.requests
    inputTokens += group.inputTokens
    outputTokens += group.outputTokens
    unpricedRequests += group.unpricedRequests
    cost = cost.plus(decimal(group.listCostUsd))
  }
  return { requests, inputTokens, outputTokens, listCostUsd: decimalText(cost), unpricedRequests }
}

/**
 * Groups anew by what `partOf` takes of each group, the dearest first; at equal cost those with more requests,
 * then in the order that they came.
 */
export function regroup<Group extends CostSums, Part extends object>(
  groups: readonly Group[],
  partOf: (group: Group) => Part,
): (Part & CostSums)[] {
  const parts = Map.groupBy(groups, (group) => JSON.stringify(partOf(group)))
  return dearestFirst(
    [...parts.values()].flatMap((members) => {
      const [first] = members
      return first === undefined ? [] : [{ ...partOf(first), ...sumOf(members) }]
    }),
  )
}

export function dearestFirst<Group extends CostSums>(groups: readonly Group[]): Group[] {
  return groups
    .map((group) => ({ group, cost: decimal(group.listCostUsd) }))
    .sort((a, b) => b.cost.cmp(a.cost) || b.group.requests - a.group.requests)
    .map(({ group }) => group)
}
