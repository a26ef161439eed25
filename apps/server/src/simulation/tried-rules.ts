import {
  allRuleSpans,
  checkRuleFile,
  type FieldIssue,
  type MarkupRule,
  markupRuleJson,
  parseRules,
  RULES_MAX,
  ruleDraft,
  tiesAmong,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import { Problem } from '../http/problem.ts'
import { listMarkupRules, refusal } from '../pricing/index.ts'

/** The markup rules that a simulation tries, as its body gives them, and the lines of its answer. */

export const NDJSON = 'application/x-ndjson'

/** Fields of the body of a simulation. */
export const triedRulesFields = {
  rules: z
    .array(markupRuleJson)
    .max(RULES_MAX)
    .optional()
    .describe('The rules to try, instead of all present ones. Their dates do not matter.'),
  text: z.string().max(2_000_000).optional().describe('The same in the rule language.'),
}
const triedRulesBody = z.object(triedRulesFields)
type TriedRulesBody = z.output<typeof triedRulesBody>

/**
 * The rules of the body; the present ones where it gives none.
 *
 * @throws Problem naming the fields when a rule is wrong, or ties with another
 */
export async function triedRules(
  { pool, organizationId, nowMs }: { pool: Pool; organizationId: string; nowMs: number },
  body: TriedRulesBody,
): Promise<readonly MarkupRule[]> {
  return body.rules === undefined && body.text === undefined
    ? presentRules(await listMarkupRules(pool, organizationId), nowMs)
    : givenRules(body)
}

function givenRules({ rules, text }: TriedRulesBody): readonly MarkupRule[] {
  if (rules !== undefined && text !== undefined) {
    throw invalid([{ path: 'text', message: 'goes without rules' }])
  }
  let given: readonly MarkupRule[] = []
  if (rules !== undefined) given = rules.map(({ id, ...fields }) => ruleDraft(id, fields).rule)
  if (text !== undefined) {
    const { entries, issues } = parseRules(text)
    const file = checkRuleFile(entries, issues)
    if (file.issues.length > 0) {
      throw invalid(
        file.issues.map(({ line: at, column, message }) => ({
          path: 'text',
          message: `line ${at}, column ${column}: ${message}`,
        })),
      )
    }
    given = file.drafts.map(({ rule }) => rule)
  }
  const indexById = new Map(given.map(({ id }, index) => [id, index]))
  if (indexById.size < given.length) {
    const index = given.findIndex(({ id }, at) => indexById.get(id) !== at)
    throw invalid([{ path: `rules.${index}.id`, message: 'stands twice' }])
  }
  // Dates do not matter here, so rules that follow each other in time would meet.
  const spans = given.map((rule) => ({
    version: {
      ...rule,
      versionId: rule.id,
      organizationId: '',
      version: 1,
      enteredMs: 0,
      fromMs: 0,
      untilMs: null,
      isRemoval: false,
    },
    startMs: -Infinity,
    endMs: Infinity,
  }))
  const ties = tiesAmong(spans, new Set(indexById.keys()))
  if (ties.length > 0) {
    throw refusal(ties, (id, field) => (text === undefined ? `rules.${indexById.get(id)}.${field}` : 'text'))
  }
  return given
}

function presentRules(
  versions: Awaited<ReturnType<typeof listMarkupRules>>,
  nowMs: number,
): readonly MarkupRule[] {
  return allRuleSpans(versions)
    .filter(({ startMs, endMs }) => startMs <= nowMs && nowMs < endMs)
    .map(({ version }) => version)
}

/** One line of an answer in NDJSON. */
export function line(value: object): string {
  return `${JSON.stringify(value)}\n`
}

export function invalid(errors: readonly FieldIssue[]): Problem {
  return new Problem({ code: 'invalid-request', detail: 'The preview cannot be made.', errors })
}
