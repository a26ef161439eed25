import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { readPolicyFile } from './policy-file.ts'
import {
  askService,
  baseOf,
  type ServiceAddress,
  type ServiceAnswer,
  ServiceError,
} from './service-request.ts'
import { printable } from './table.ts'
import type { Terminal } from './terminal.ts'
import { wrongFile } from './wrong-file.ts'

const answerSchema = z.object({
  dry_run: z.boolean(),
  changes: z.array(z.object({ name: z.string(), kind: z.string(), action: z.string() })),
})

/** Reads a file of policies and says what is wrong with it. @throws WrongFile when something is */
export async function checkPolicies(path: string, terminal: Terminal): Promise<void> {
  const policies = await read(path, terminal)
  terminal.stdout.write(
    `${printable(path)}: ${policies.length} ${policies.length === 1 ? 'policy' : 'policies'}, no problems.\n`,
  )
}

/** Applies a file of policies to a service, all of it or nothing. @throws WrongFile, ServiceError */
export async function applyPolicies(
  path: string,
  { isDryRun, prune }: { readonly isDryRun: boolean; readonly prune: boolean },
  service: ServiceAddress,
  terminal: Terminal,
): Promise<void> {
  const policies = await read(path, terminal)
  const answer = await askService(service, '/api/v1/policies/apply', { policies, prune, dry_run: isDryRun })
  const base = baseOf(service.url)
  if (!answer.ok) throw new ServiceError(`${base} answered ${answer.status}${problemText(answer.problem)}`)
  const applied = answerSchema.safeParse(answer.json)
  if (!applied.success) throw new ServiceError(`${service.url} does not answer as a TokenTally service`)
  for (const { name, kind, action } of applied.data.changes) {
    terminal.stdout.write(`${action.padEnd(9)} ${kind.padEnd(10)} ${printable(name)}\n`)
  }
  if (isDryRun) terminal.stdout.write('Nothing was done: this was a dry run.\n')
}

async function read(path: string, terminal: Terminal) {
  const file = readPolicyFile(await readFile(path, 'utf8'))
  if (file.ok) return file.policies
  throw wrongFile(path, file.problems, terminal)
}

/** What the service says, with every field that it complains about. */
function problemText({ detail, errors = [] }: Extract<ServiceAnswer, { ok: false }>['problem']): string {
  const fields = errors.map(({ path, message }) => `\n  ${path} ${message}`).join('')
  return `${detail === undefined ? '' : `: ${detail}`}${fields}`
}
