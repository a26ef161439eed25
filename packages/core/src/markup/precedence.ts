import type { RuleMatch, RuleSpan } from './markup-rule.ts'
import { patternRank, patternsOverlap } from './model-pattern.ts'

/**
 * Which rule wins where several match: the most specific one, compared step by step, the first difference
 * decides.
 *
 * 1. A rule that names a customer, before one that does not.
 * 2. A rule that names a feature.
 * 3. More tags.
 * 4. An exact model, then a pattern with more characters besides `*`, then no model.
 * 5. A rule that names a provider.
 *
 * Two rules that are equal in all of this and could match the same event at the same time would tie; they are
 * refused when the second one is entered. What is left is an event whose two names of a model (the one that
 * answered and the one asked for) fit one rule each: the one that answered wins.
 */
export function specificity(match: RuleMatch): readonly number[] {
  return [
    match.customer === undefined ? 0 : 1,
    match.feature === undefined ? 0 : 1,
    Object.keys(match.tags ?? {}).length,
    patternRank(match.model),
    match.provider === undefined ? 0 : 1,
  ]
}

/** Negative when `a` is the more specific one, 0 when they are equally specific. */
export function compareSpecificity(a: readonly number[], b: readonly number[]): number {
  for (let step = 0; step < a.length; step++) {
    const difference = (b[step] ?? 0) - (a[step] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** Whether two equally specific rules could both match one event. */
export function matchesOverlap(a: RuleMatch, b: RuleMatch): boolean {
  if (compareSpecificity(specificity(a), specificity(b)) !== 0) return false
  if (a.customer !== b.customer || a.feature !== b.feature || a.provider !== b.provider) return false
  if (a.model !== undefined && b.model !== undefined && !patternsOverlap(a.model, b.model)) return false
  // Different tags can stand on one event; only two values of one tag cannot.
  return Object.entries(a.tags ?? {}).every(([name, value]) => {
    const other = b.tags !== undefined && Object.hasOwn(b.tags, name) ? b.tags[name] : undefined
    return other === undefined || other === value
  })
}

/** Two rules of which neither is the more specific one. */
export interface RuleTie {
  readonly ruleId: string
  readonly otherRuleId: string
  /** When both are in force for the first time. */
  readonly fromMs: number
}

/**
 * Rules that would tie.
 *
 * @param spans all of an organization's rules
 * @param ruleIds the rules to look at: those that changed
 */
export function findTies(spans: readonly RuleSpan[], ruleIds: ReadonlySet<string>): readonly RuleTie[] {
  // Rules that differ in what is compared here cannot tie, so few are left to compare with each other.
  const alike = Map.groupBy(spans, ({ version: { match } }) =>
    JSON.stringify([match.customer, match.feature, match.provider, specificity(match)]),
  )
  const ties: RuleTie[] = []
  const seen = new Set<string>()
  for (const group of alike.values()) {
    for (const [index, span] of group.entries()) {
      for (const other of group.slice(index + 1)) {
        const [a, b] = [span.version.id, other.version.id]
        if (a === b || !(ruleIds.has(a) || ruleIds.has(b)) || seen.has(`${a}\n${b}`)) continue
        const fromMs = Math.max(span.startMs, other.startMs)
        if (fromMs >= Math.min(span.endMs, other.endMs)) continue
        if (!matchesOverlap(span.version.match, other.version.match)) continue
        seen.add(`${a}\n${b}`)
        ties.push(
          ruleIds.has(a) ? { ruleId: a, otherRuleId: b, fromMs } : { ruleId: b, otherRuleId: a, fromMs },
        )
      }
    }
  }
  return ties
}
