import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { type FileProblem, readPolicyFile } from './policy-file.ts'
import { requestService, type ServiceAddress } from './service-request.ts'
import { ServiceError } from './service-source.ts'
import { printable } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Something in a file of policies is wrong. Each problem was written as `FILE:LINE:COLUMN: message`. */
export class WrongPolicies extends Error {
  override readonly name = 'WrongPolicies'
}

const answerSchema = z.object({
  dry_run: z.boolean(),
  changes: z.array(z.object({ name: z.string(), kind: z.string(), action: z.string() })),
})

/** Reads a file of policies and says what is wrong with it. @throws WrongPolicies when something is */
export async function checkPolicies(path: string, terminal: Terminal): Promise<void> {
  const policies = await read(path, terminal)
  terminal.stdout.write(
    `${printable(path)}: ${policies.length} ${policies.length === 1 ? 'policy' : 'policies'}, no problems.\n`,
  )
}

/** Applies a file of policies to a service, all of it or nothing. @throws WrongPolicies, ServiceError */
export async function applyPolicies(
  path: string,
  { isDryRun, prune }: { readonly isDryRun: boolean; readonly prune: boolean },
  service: ServiceAddress,
  terminal: Terminal,
): Promise<void> {
  const policies = await read(path, terminal)
  const answer = answerSchema.safeParse(
    await requestService(service, '/api/v1/policies/apply', { policies, prune, dry_run: isDryRun }),
  )
  if (!answer.success) throw new ServiceError(`${service.url} does not answer as a TokenTally service`)
  for (const { name, kind, action } of answer.data.changes) {
    terminal.stdout.write(`${action.padEnd(9)} ${kind.padEnd(10)} ${printable(name)}\n`)
  }
  if (isDryRun) terminal.stdout.write('Nothing was done: this was a dry run.\n')
}

async function read(path: string, terminal: Terminal) {
  const file = readPolicyFile(await readFile(path, 'utf8'))
  if (file.ok) return file.policies
  for (const problem of file.problems) terminal.stderr.write(`${printable(lineOf(path, problem))}\n`)
  const count = file.problems.length === 1 ? '1 problem' : `${file.problems.length} problems`
  throw new WrongPolicies(`${count} in ${printable(path)}; nothing was changed`)
}

function lineOf(path: string, { line, column, message }: FileProblem): string {
  return `${path}:${line}:${column}: ${message}`
}
