import { readFile } from 'node:fs/promises'
import type { RuleFile, RuleFileIssue } from '@tokentally/core'
import { z } from 'zod'
import { type RuleFormat, readRuleFile, ruleFormatOf } from './rule-file.ts'
import { askService, baseOf, ServiceError } from './service-request.ts'
import { printable } from './table.ts'
import type { Terminal } from './terminal.ts'
import { wrongFile } from './wrong-file.ts'

export interface RulesRequest {
  readonly path: string
  readonly format: RuleFormat | undefined
}

/** Checks a rule file without asking anybody. @throws WrongFile when it has problems */
export async function checkRules(request: RulesRequest, terminal: Terminal): Promise<void> {
  const { rules } = await validRules(request, terminal)
  terminal.stdout.write(`${printable(request.path)}: ${countOf(rules.length)}, no problems.\n`)
}

export interface ApplyRequest extends RulesRequest {
  readonly url: string
  readonly apiKey: string
  readonly isDryRun: boolean
  /** End the rules that the file does not have. */
  readonly prune: boolean
}

/**
 * Makes a service's markup rules those of the file: shows what changes, then changes it, all at once.
 *
 * @throws WrongFile when the file or the service finds problems; nothing was changed
 */
export async function applyRules(request: ApplyRequest, terminal: Terminal): Promise<void> {
  const file = await validRules(request, terminal)
  const changes = await ask(request, file, true, terminal)
  const different = changes.filter(({ kind }) => kind !== 'unchanged')
  for (const change of different) terminal.stdout.write(`${changeText(change)}\n`)
  const same = changes.length - different.length
  if (same > 0) terminal.stdout.write(`  ${countOf(same)} unchanged\n`)
  if (request.isDryRun) {
    terminal.stdout.write('Nothing was changed: this was a dry run.\n')
    return
  }
  if (different.length === 0) {
    terminal.stdout.write('Nothing to change.\n')
    return
  }
  const applied = await ask(request, file, false, terminal)
  terminal.stdout.write(`Changed ${countOf(applied.filter(({ kind }) => kind !== 'unchanged').length)}.\n`)
}

async function validRules({ path, format }: RulesRequest, terminal: Terminal): Promise<RuleFile> {
  const file = readRuleFile(await readFile(path, 'utf8'), format ?? ruleFormatOf(path))
  if (file.issues.length > 0) throw wrongFile(path, file.issues, terminal)
  return file
}

const versionSchema = z.record(z.string(), z.unknown())
const changeSchema = z.object({
  kind: z.enum(['create', 'update', 'remove', 'unchanged']),
  id: z.string(),
  before: versionSchema.nullable(),
  after: versionSchema,
})
type Change = z.infer<typeof changeSchema>
const answerSchema = z.object({ changes: z.array(changeSchema) })
async function ask(
  { path, url, apiKey, prune }: ApplyRequest,
  file: RuleFile,
  isDryRun: boolean,
  terminal: Terminal,
): Promise<readonly Change[]> {
  const base = baseOf(url)
  const request = { rules: file.rules, prune, dry_run: isDryRun }
  const answer = await askService(
    { url, apiKey, fetch: terminal.fetch },
    '/api/v1/markup-rules/apply',
    request,
  )
  if (answer.ok) {
    const applied = answerSchema.safeParse(answer.json)
    if (!applied.success) throw new ServiceError(`${base} does not answer as a TokenTally service`)
    return applied.data.changes
  }
  const { errors = [], title, detail = title } = answer.problem
  const issues = errors.flatMap((error) => issueOf(file, error) ?? [])
  if (issues.length > 0) throw wrongFile(path, issues, terminal)
  throw new ServiceError(`${base} answered ${answer.status}${detail === undefined ? '' : `: ${detail}`}`)
}

/** What the service says of a rule, at its place in the file. */
function issueOf(
  file: RuleFile,
  { path, message }: { path: string; message: string },
): RuleFileIssue | undefined {
  const [, index = '', field = ''] = /^rules\.(\d+)\.(.*)$/.exec(path) ?? []
  const rule = file.rules[Number(index)]
  if (index === '' || rule === undefined) return undefined
  const subject = field === 'id' ? `rule "${rule.id}"` : field
  return { ...file.positionOf(Number(index), field), message: `${subject} ${message}` }
}

const SIGNS: Readonly<Record<Change['kind'], string>> = {
  create: '+',
  update: '~',
  remove: '-',
  unchanged: ' ',
}
/** Of a version, not of what the rule says. */
const OWN_FIELDS = ['id', 'version', 'version_id', 'status', 'effective_date', 'created_at']

function changeText({ kind, id, before, after }: Change): string {
  if (kind === 'remove') return `- ${printable(id)}: ends now`
  const from = `from ${String(after['effective_date'])}`
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after)])].filter(
    (name) => !OWN_FIELDS.includes(name),
  )
  const parts = names.flatMap((name) => {
    const [old, now] = [before?.[name], after[name]].map(valueText)
    if (before === null) return now === '' ? [] : [`${name} ${now}`]
    return old === now ? [] : [`${name} ${old || '(none)'} -> ${now || '(none)'}`]
  })
  return `${SIGNS[kind]} ${printable([`${id}:`, [...parts, from].join(', ')].join(' '))}`
}

function valueText(value: unknown): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function countOf(rules: number): string {
  return rules === 1 ? '1 rule' : `${rules} rules`
}
