import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import type { Logger } from '../telemetry/log.ts'
import type { Cluster } from './embedded-cluster.ts'

const run = promisify(execFile)

/** Held by the service that a server belongs to, for as long as its process lives. Spells "owner". */
export const OWNER_LOCK_KEY = 0x6f_77_6e_65_72
/** How long a database server may take to say whom it belongs to, and to stop. */
const ANSWER_TIMEOUT_MS = 5_000
const STOP_TIMEOUT_MS = 20_000
const POLL_MS = 50

/**
 * Clears the way for a new server: one that outlived its service (which was killed) is stopped in order, and a
 * lock file that a dead server left is removed.
 * @throws when another living service owns the server
 */
export async function stopOrphan(cluster: Cluster, logger: Logger): Promise<void> {
  const lockFile = join(cluster.directory, 'postmaster.pid')
  const pid = await readPid(lockFile)
  if (pid === undefined) return
  if (!(await isPostgres(pid))) {
    // The number may belong to another program by now; PostgreSQL itself would then refuse to start.
    await rm(lockFile, { force: true })
    return
  }
  if (await hasOwner(cluster, pid)) {
    throw new Error(`Another TokenTally process is using the data in ${cluster.directory}.`)
  }
  logger.warn({ pid }, 'stopping a database server that a killed service left running')
  process.kill(pid, 'SIGINT')
  if (await hasEnded(pid, STOP_TIMEOUT_MS)) return
  process.kill(pid, 'SIGQUIT')
  if (!(await hasEnded(pid, STOP_TIMEOUT_MS))) throw new Error(`The database server ${pid} does not stop.`)
}

/** Waits for a process to end. */
async function hasEnded(pid: number, timeoutMs: number): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await delay(POLL_MS)) {
    if (!(await isPostgres(pid))) return true
  }
  return false
}

/** Whether a living service holds the server; its own dying connections get a moment to go. */
async function hasOwner(cluster: Cluster, pid: number): Promise<boolean> {
  let answered = false
  for (const end = Date.now() + ANSWER_TIMEOUT_MS; Date.now() < end; await delay(POLL_MS)) {
    if (!(await isPostgres(pid))) return false
    const client = new pg.Client({
      connectionString: cluster.url('postgres'),
      connectionTimeoutMillis: 1_000,
    })
    client.on('error', () => undefined)
    try {
      await client.connect()
      const { rows } = await client.query('select pg_try_advisory_lock($1) as free', [OWNER_LOCK_KEY])
      answered = true
      if (rows[0]?.free === true) return false
    } catch {
      // It is starting, stopping, or recovering.
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  return answered
}

async function readPid(lockFile: string): Promise<number | undefined> {
  try {
    const pid = Number.parseInt(await readFile(lockFile, 'utf8'), 10)
    return Number.isInteger(pid) && pid > 0 && pid !== process.pid ? pid : undefined
  } catch {
    return undefined
  }
}

/** Whether this number is a living PostgreSQL server, by the program's name. */
async function isPostgres(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false
  }
  try {
    const [status, name] = await Promise.all([
      readFile(`/proc/${pid}/status`, 'utf8'),
      readFile(`/proc/${pid}/comm`, 'utf8'),
    ])
    return name.startsWith('postgres') && !/^State:\s+Z/m.test(status)
  } catch {
    // No /proc, or the process has just gone.
  }
  try {
    const { stdout } = await run('ps', ['-p', String(pid), '-o', 'comm='])
    return stdout.includes('postgres')
  } catch {
    return false
  }
}
