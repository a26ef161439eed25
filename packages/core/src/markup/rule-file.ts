import type { FieldIssue } from '../usage/usage-event.ts'
import { type MarkupRuleJson, markupRuleJson, type RuleDraft, readRule } from './markup-rule-json.ts'
import { tiesAmong } from './rule-changes.ts'

/** A place in a file; both count from 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

/** Something wrong at a place in a rule file. */
export interface RuleFileIssue extends Position {
  readonly message: string
}

/** A rule as a file has it, whatever its format: fields as in JSON, and where they stand. */
export interface RuleFileEntry {
  readonly json: Readonly<Record<string, unknown>>
  /** Of the rule. */
  readonly position: Position
  /** Of its fields, by path: `markup`, `prices.input_tokens`. */
  readonly positions: ReadonlyMap<string, Position>
  /** Something in it could not be read, and that was said: what seems to be missing may be that. */
  readonly isBroken?: boolean
}

/** A rule file that was read. */
export interface RuleFile {
  /** The rules without problems, as JSON to send and as what they mean. */
  readonly rules: readonly MarkupRuleJson[]
  readonly drafts: readonly RuleDraft[]
  /** In the order of the file. */
  readonly issues: readonly RuleFileIssue[]
  /** Where a field of a rule stands; the rule itself when it has no such field. */
  positionOf(ruleIndex: number, path: string): Position
}

/**
 * Checks the rules of a file: each for itself, that no id stands twice, and that no two would tie.
 *
 * @param syntaxIssues what was wrong before there were rules
 */
export function checkRuleFile(
  entries: readonly RuleFileEntry[],
  syntaxIssues: readonly RuleFileIssue[],
): RuleFile {
  const issues = [...syntaxIssues]
  const drafts: RuleDraft[] = []
  const rules: MarkupRuleJson[] = []
  const sources: RuleFileEntry[] = []
  const lineById = new Map<string, number>()
  for (const entry of entries) {
    const read = readRule(entry.json)
    const { id } = entry.json
    const earlier = typeof id === 'string' ? lineById.get(id) : undefined
    if (earlier !== undefined) {
      issues.push({
        ...placeOf(entry, 'id'),
        message: `the rule ${JSON.stringify(id)} is there already, in line ${earlier}`,
      })
    } else if (typeof id === 'string') lineById.set(id, entry.position.line)
    if ('issues' in read) {
      const told = read.issues.filter(({ path }) => entry.isBroken !== true || isWritten(entry, path))
      issues.push(...told.map((issue) => located(entry, issue)))
    } else if (earlier === undefined && entry.isBroken !== true) {
      drafts.push(read.draft)
      sources.push(entry)
      const json = markupRuleJson.safeParse(entry.json)
      if (json.success) rules.push(json.data)
    }
  }
  issues.push(...tiesOf(drafts, sources))
  return {
    rules,
    drafts,
    issues: issues.sort((a, b) => a.line - b.line || a.column - b.column),
    positionOf(ruleIndex, path) {
      const entry = sources[ruleIndex]
      return entry === undefined ? { line: 1, column: 1 } : placeOf(entry, path)
    },
  }
}

function tiesOf(drafts: readonly RuleDraft[], sources: readonly RuleFileEntry[]): RuleFileIssue[] {
  const byId = new Map(drafts.map(({ rule }, index) => [rule.id, sources[index]]))
  const spans = drafts.map(({ rule, fromMs, untilMs }) => ({
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
    startMs: fromMs ?? -Infinity,
    endMs: untilMs ?? Infinity,
  }))
  // The later of the two is complained about, and names the earlier.
  return tiesAmong(spans.toReversed(), new Set(byId.keys())).flatMap(({ ruleId, message }) => {
    const entry = byId.get(ruleId)
    return entry === undefined ? [] : [{ ...entry.position, message: `rule "${ruleId}" ${message}` }]
  })
}

function located(entry: RuleFileEntry, { path, message }: FieldIssue): RuleFileIssue {
  const field = path === '' ? 'a rule' : path
  return { ...placeOf(entry, path), message: `${field} ${message}` }
}

/** Whether the field stands in the file, or one that holds it. */
function isWritten(entry: RuleFileEntry, path: string): boolean {
  return path !== '' && placeOf(entry, path) !== entry.position
}

function placeOf(entry: RuleFileEntry, path: string): Position {
  for (let prefix = path; prefix !== ''; prefix = prefix.slice(0, Math.max(0, prefix.lastIndexOf('.')))) {
    const position = entry.positions.get(prefix)
    if (position !== undefined) return position
  }
  return entry.position
}
