import type { FieldIssue } from '../usage/usage-event.ts'
import { allRuleSpans, type MarkupRuleVersion, type RuleSpan } from './markup-rule.ts'
import { type RuleDraft, ruleToJson } from './markup-rule-json.ts'
import { findTies, type RuleTie } from './precedence.ts'

/** At most this many rules of an organization that have not ended. */
export const RULES_MAX = 5_000

/** What happens to one rule. `unchanged`: it is as asked for already, and no version is made. */
export interface RuleChange {
  readonly kind: 'create' | 'update' | 'remove' | 'unchanged'
  readonly id: string
  /** The latest version until now; undefined for a new rule. */
  readonly before: MarkupRuleVersion | undefined
  /** The version to enter; the latest one when nothing changes. */
  readonly after: MarkupRuleVersion
}

/** A rule that cannot be as asked for. */
export interface RuleProblem extends FieldIssue {
  readonly ruleId: string
  /** `path` is a field of this rule. */
  readonly kind: 'field' | 'tie'
}

/** Everything that is to happen, or why nothing of it can. */
export interface RulePlan {
  readonly changes: readonly RuleChange[]
  readonly problems: readonly RuleProblem[]
}

export interface RuleRequest {
  readonly organizationId: string
  /** All versions of the organization, in order of entry. */
  readonly versions: readonly MarkupRuleVersion[]
  /** Rules as they shall be; each id once. */
  readonly drafts: readonly RuleDraft[]
  /** Ids of rules to end now. */
  readonly removals: readonly string[]
  readonly nowMs: number
  readonly newVersionId: () => string
}

/**
 * Plans a change of markup rules. A rule begins now or later, never before: what was sold stays as it was. Rules
 * that would tie with another are refused.
 */
export function planRules(request: RuleRequest): RulePlan {
  const { versions, drafts, removals, nowMs } = request
  const latest = new Map(versions.map((version) => [version.id, version]))
  const changes: RuleChange[] = []
  const problems: RuleProblem[] = []
  for (const draft of drafts) {
    const change = changeOf(draft, latest.get(draft.rule.id), request)
    changes.push(change)
    if (change.kind !== 'unchanged') problems.push(...datesOf(draft, nowMs))
  }
  for (const id of removals) {
    const before = latest.get(id)
    if (before === undefined || before.isRemoval) continue
    const after = {
      ...before,
      versionId: request.newVersionId(),
      version: before.version + 1,
      enteredMs: nowMs,
      fromMs: nowMs,
      untilMs: null,
      isRemoval: true,
    }
    changes.push({ kind: 'remove', id, before, after })
  }

  const entered = changes.flatMap(({ kind, after }) => (kind === 'unchanged' ? [] : [after]))
  const spans = allRuleSpans([...versions, ...entered]).filter((span) => span.endMs > nowMs)
  problems.push(...tiesAmong(spans, new Set(entered.map(({ id }) => id))))
  const count = new Set(spans.map(({ version }) => version.id)).size
  const [first] = drafts
  if (count > RULES_MAX && first !== undefined) {
    const message = `would be one of ${count} rules; at most ${RULES_MAX} are kept`
    problems.push({ kind: 'field', ruleId: first.rule.id, path: 'id', message })
  }
  return { changes, problems }
}

/** Rules of a set that would tie if all were in force in the times that they name, each as a problem. */
export function tiesAmong(spans: readonly RuleSpan[], ruleIds: ReadonlySet<string>): readonly RuleProblem[] {
  return findTies(spans, ruleIds).map(
    (tie): RuleProblem => ({ kind: 'tie', ruleId: tie.ruleId, path: 'id', message: tieText(tie) }),
  )
}

function tieText({ otherRuleId, fromMs }: RuleTie): string {
  const from = Number.isFinite(fromMs) ? ` from ${new Date(fromMs).toISOString()} on` : ''
  return `would tie with the rule "${otherRuleId}"${from}: both are equally specific and can match the same event; make one of them more specific`
}

function changeOf(
  draft: RuleDraft,
  latest: MarkupRuleVersion | undefined,
  { organizationId, nowMs, newVersionId }: RuleRequest,
): RuleChange {
  const { id } = draft.rule
  const before = latest === undefined || latest.isRemoval ? undefined : latest
  if (before !== undefined && isSame(draft, before)) return { kind: 'unchanged', id, before, after: before }
  const after: MarkupRuleVersion = {
    ...draft.rule,
    versionId: newVersionId(),
    organizationId,
    version: (latest?.version ?? 0) + 1,
    enteredMs: nowMs,
    fromMs: draft.fromMs ?? nowMs,
    untilMs: draft.untilMs,
    isRemoval: false,
  }
  return { kind: before === undefined ? 'create' : 'update', id, before, after }
}

/** A draft without a date agrees with any. */
function isSame(draft: RuleDraft, version: MarkupRuleVersion): boolean {
  return (
    (draft.fromMs === undefined || draft.fromMs === version.fromMs) &&
    draft.untilMs === version.untilMs &&
    JSON.stringify(ruleToJson(draft.rule)) === JSON.stringify(ruleToJson(version))
  )
}

function datesOf({ rule, fromMs, untilMs }: RuleDraft, nowMs: number): RuleProblem[] {
  const now = new Date(nowMs).toISOString()
  const problems: RuleProblem[] = []
  if (fromMs !== undefined && fromMs < nowMs) {
    const message = `must not lie in the past (it is ${now}): what was sold stays as it was; leave it out to begin at once`
    problems.push({ kind: 'field', ruleId: rule.id, path: 'effective_date', message })
  }
  if (untilMs !== null && untilMs <= nowMs) {
    const message = `must not lie in the past (it is ${now})`
    problems.push({ kind: 'field', ruleId: rule.id, path: 'until', message })
  }
  return problems
}
