import { randomUUID } from 'node:crypto'
import { planRules, type RuleChange, type RuleDraft, type RuleProblem } from '@tokentally/core'
import type { Pool } from 'pg'
import { Problem } from '../http/problem.ts'
import { insertMarkupRules, listMarkupRules } from './markup-store.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { changePriceBook } from './store.ts'

/** What shall be of an organization's markup rules. */
export interface MarkupRuleWish {
  readonly organizationId: string
  readonly drafts: readonly RuleDraft[]
  /** Ids of rules to end now; `others`: all that the drafts do not name. */
  readonly removals: readonly string[] | 'others'
  /** Only say what would happen. */
  readonly isDryRun: boolean
  /** What must be true of the rules there are. @throws Problem when it is not */
  readonly check?: (existing: ReadonlySet<string>) => void
  /** Where the field of a rule stands in the request. */
  readonly pathOf: (ruleId: string, field: string) => string
}

/**
 * Changes markup rules, all of them or nothing. They are in force for the next event on every replica, or from
 * their date on: the ledger compares revisions in the transaction that appends.
 *
 * @throws Problem `invalid-request` naming the fields, or `conflict` naming the rules that would tie
 */
export async function changeMarkupRules(
  { pool, ratingBooks, now }: { pool: Pool; ratingBooks: RatingBookCache; now: () => Date },
  wish: MarkupRuleWish,
): Promise<readonly RuleChange[]> {
  const { organizationId, drafts } = wish
  const changes = await changePriceBook(pool, async (client) => {
    const versions = await listMarkupRules(client, organizationId)
    const existing = new Set<string>()
    for (const { id, isRemoval } of versions) {
      if (isRemoval) existing.delete(id)
      else existing.add(id)
    }
    wish.check?.(existing)
    const named = new Set(drafts.map(({ rule }) => rule.id))
    const plan = planRules({
      organizationId,
      versions,
      drafts,
      removals: wish.removals === 'others' ? [...existing].filter((id) => !named.has(id)) : wish.removals,
      // The time is taken under the lock: nothing is rated between it and the commit.
      nowMs: now().getTime(),
      newVersionId: randomUUID,
    })
    if (plan.problems.length > 0) throw refusal(plan.problems, wish.pathOf)
    const entered = plan.changes.flatMap(({ kind, after }) => (kind === 'unchanged' ? [] : [after]))
    if (!wish.isDryRun && entered.length > 0) await insertMarkupRules(client, entered)
    return plan.changes
  })
  if (!wish.isDryRun) await ratingBooks.refresh()
  return changes
}

/** The problem that says why a plan cannot be carried out. */
export function refusal(
  problems: readonly RuleProblem[],
  pathOf: (ruleId: string, field: string) => string,
): Problem {
  const isTie = problems.every(({ kind }) => kind === 'tie')
  return new Problem({
    code: isTie ? 'conflict' : 'invalid-request',
    detail: isTie
      ? problems.map(({ ruleId, message }) => `The rule "${ruleId}" ${message}.`).join(' ')
      : 'The markup rules are not valid. Nothing was changed.',
    errors: problems.map(({ ruleId, path, message }) => ({ path: pathOf(ruleId, path), message })),
  })
}
