import { readFile } from 'node:fs/promises'
import type { RuleFile, RuleFileIssue } from '@tokentally/core'
import { z } from 'zod'
import { type RuleFormat, readRuleFile, ruleFormatOf } from './rule-file.ts'
import { ServiceError } from './service-source.ts'
import { printable } from './table.ts'
import type { Terminal } from './terminal.ts'

const TIMEOUT_MS = 60_000

/** Something in a rule file is wrong. Each problem was written as `FILE:LINE:COLUMN: message`. */
export class WrongRules extends Error {
  override readonly name = 'WrongRules'
}

export interface RulesRequest {
  readonly path: string
  readonly format: RuleFormat | undefined
}

/** Checks a rule file without asking anybody. @throws WrongRules when it has problems */
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
 * @throws WrongRules when the file or the service finds problems; nothing was changed
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
  if (file.issues.length > 0) throw wrong(path, file.issues, terminal)
  return file
}

function wrong(path: string, issues: readonly RuleFileIssue[], terminal: Terminal): WrongRules {
  for (const { line, column, message } of issues) {
    terminal.stderr.write(`${printable(`${path}:${line}:${column}: ${message}`)}\n`)
  }
  const count = issues.length === 1 ? '1 problem' : `${issues.length} problems`
  return new WrongRules(`${count} in ${printable(path)}; nothing was changed`)
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
const problemSchema = z.object({
  detail: z.string().optional(),
  title: z.string().optional(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
})

async function ask(
  { path, url, apiKey, prune }: ApplyRequest,
  file: RuleFile,
  isDryRun: boolean,
  terminal: Terminal,
): Promise<readonly Change[]> {
  const base = url.replace(/\/+$/, '')
  let response: Response
  try {
    response = await terminal.fetch(`${base}/api/v1/markup-rules/apply`, {
      method: 'POST',
      headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ rules: file.rules, prune, dry_run: isDryRun }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch (error) {
    throw new ServiceError(
      `${base} does not answer: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    )
  }
  const body: unknown = await response.json().catch(() => undefined)
  if (response.ok) {
    const answer = answerSchema.safeParse(body)
    if (!answer.success) throw new ServiceError(`${base} does not answer as a TokenTally service`)
    return answer.data.changes
  }
  const problem = problemSchema.safeParse(body)
  const issues = (problem.data?.errors ?? []).flatMap((error) => issueOf(file, error) ?? [])
  if (issues.length > 0) throw wrong(path, issues, terminal)
  const detail = problem.data?.detail ?? problem.data?.title
  throw new ServiceError(`${base} answered ${response.status}${detail === undefined ? '' : `: ${detail}`}`)
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
