import { ALERT_KINDS, type AlertKind } from '@tokentally/core'
import { type AlertCandidate, isOfBudget, scopeOf } from './alert.ts'

export const CHANNEL_KINDS = ['slack', 'teams', 'webhook', 'email'] as const
export type ChannelKind = (typeof CHANNEL_KINDS)[number]

/** Which alerts a channel tells of; null: whichever. */
export interface ChannelFilter {
  readonly alertKinds: readonly AlertKind[] | null
  /** Only alerts of these budgets. */
  readonly budgetIds: readonly string[] | null
  /** Only alerts about these scopes: `team:engineering`, `customer:*`, `organization`. */
  readonly scopes: readonly string[] | null
  /** Only thresholds of this percentage and more; says nothing about alerts without one. */
  readonly minThreshold: number | null
}

/** Where alerts go. */
export interface Channel extends ChannelFilter {
  readonly organizationId: string
  readonly id: string
  readonly kind: ChannelKind
  readonly name: string
  /** The target with its secret parts left out. */
  readonly targetShown: string
  readonly enabled: boolean
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** Whether a channel tells of an alert. */
export function isWanted(
  channel: ChannelFilter,
  { details, budgetId, threshold }: Pick<AlertCandidate, 'details' | 'budgetId' | 'threshold'>,
): boolean {
  const { alertKinds, budgetIds, scopes, minThreshold } = channel
  if (alertKinds !== null && !alertKinds.includes(details.kind)) return false
  if (budgetIds !== null && (budgetId === null || !budgetIds.includes(budgetId))) return false
  if (scopes !== null) {
    const scope = scopeOf(details)
    if (scope === undefined || !scopes.some((pattern) => matchesScope(pattern, scope))) return false
  }
  return minThreshold === null || !isOfBudget(details) || threshold >= minThreshold
}

function matchesScope(pattern: string, scope: string): boolean {
  return pattern === scope || (pattern.endsWith(':*') && scope.startsWith(pattern.slice(0, -1)))
}

/** The kinds among some text of the database. */
export function alertKindsOf(names: readonly string[]): readonly AlertKind[] {
  return ALERT_KINDS.filter((kind) => names.includes(kind))
}

/**
 * A target as it may be shown: a URL's path and query are its secret, an address is somebody's.
 * `https://hooks.slack.com/…Xw9z`, `a…@example.com`
 */
export function maskTarget(kind: ChannelKind, target: string): string {
  if (kind === 'email') return target.replace(/^(.)[^@]*@/, '$1…@')
  const { origin, pathname, search } = new URL(target)
  const secret = pathname + search
  return `${origin}/…${secret.length > 12 ? secret.slice(-4) : ''}`
}
