import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Accounts that PostgreSQL may run as when this process is root, best first. Both exist on most systems. */
const UNPRIVILEGED_ACCOUNTS = ['postgres', 'nobody']

/**
 * Starts PostgreSQL's programs as somebody who is not root: PostgreSQL refuses to run as root. An ordinary user
 * runs them as itself; root lends them to an unprivileged account, without adding accounts to the system.
 */
export interface Account {
  /** The owner that the data directory must have; absent when it is this process's own. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
  spawn(program: string, args: readonly string[], options: SpawnOptions): ChildProcess
}

/**
 * Chooses the account.
 * @param program the PostgreSQL server, which the account must be able to run
 * @param directory that the account must be able to enter
 * @param existing an existing data directory, whose owner is kept
 * @throws when root finds no account that can do it
 */
export async function chooseAccount(program: string, directory: string, existing: string): Promise<Account> {
  if (process.getuid?.() !== 0) {
    return { owner: undefined, spawn: (file, args, options) => spawn(file, args, { cwd: '/', ...options }) }
  }
  const owner = (await ownerOf(existing)) ?? (await unprivilegedAccount())
  const asOwner = { cwd: '/', ...owner }
  const canReach = await Promise.all([
    run(program, ['--version'], asOwner),
    run('/bin/sh', ['-c', 'cd "$1"', 'sh', directory], asOwner),
  ]).then(
    () => true,
    () => false,
  )
  if (canReach) {
    return { owner, spawn: (file, args, options) => spawn(file, args, { ...asOwner, ...options }) }
  }
  // A clone under /root is closed to everybody else. The one capability to pass closed directories is lent too.
  const prefix = [
    `--reuid=${owner.uid}`,
    `--regid=${owner.gid}`,
    '--clear-groups',
    '--inh-caps=-all,+dac_override',
    '--ambient-caps=-all,+dac_override',
  ]
  try {
    await run('setpriv', [...prefix, program, '--version'], { cwd: '/' })
  } catch (error) {
    throw new Error(
      `PostgreSQL does not run as root, and the account with uid ${owner.uid} cannot enter ${directory} or run ` +
        `${program}. Start TokenTally as an ordinary user, or keep both outside of closed directories.`,
      { cause: error },
    )
  }
  return {
    owner,
    spawn: (file, args, options) => spawn('setpriv', [...prefix, file, ...args], { cwd: '/', ...options }),
  }
}

async function ownerOf(path: string): Promise<{ uid: number; gid: number } | undefined> {
  try {
    const { uid, gid } = await stat(path)
    return uid === 0 ? undefined : { uid, gid }
  } catch {
    return undefined
  }
}

async function unprivilegedAccount(): Promise<{ uid: number; gid: number }> {
  for (const name of UNPRIVILEGED_ACCOUNTS) {
    try {
      const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])])
      return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
    } catch {
      // The next account may exist.
    }
  }
  throw new Error(
    `PostgreSQL does not run as root, and none of the accounts ${UNPRIVILEGED_ACCOUNTS.join(', ')} exists. ` +
      'Start TokenTally as an ordinary user, or set DATABASE_URL.',
  )
}
