import { existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/**
 * Local mode's file: one table of events in SQLite, in WAL mode, so that several processes may append to it
 * while others read. What was metered never changes; rating columns are filled in once, when first asked for.
 */

/** How long whoever opens or reads waits for another process, which holds a lock for moments only. */
const BUSY_TIMEOUT_MS = 2_000

/** Where local mode keeps its file: beside the spool directory. */
export function localFilePath(spoolDirectory: string): string {
  return join(spoolDirectory, '..', 'usage.sqlite')
}

/**
 * Opens the file for appending, and makes it when it is not there. Appending waits for nobody: SQLite answers
 * "busy" at once.
 *
 * @throws Error when the file cannot be made or is none of ours
 */
export function openForAppending(path: string): DatabaseSync {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  try {
    useWal(database)
    database.exec(`
      pragma synchronous = normal;
      create table if not exists usage_event (
        event_id text primary key, ts_ms integer not null, provider text not null, model text, customer text,
        feature text, status text not null, input_tokens integer not null, output_tokens integer not null,
        json text not null, list_cost_usd text, rating_status text, execution text, rated_by text
      ) strict;
      create index if not exists usage_event_ts on usage_event (ts_ms)`)
    addLaterColumns(database)
    database.exec('pragma busy_timeout = 0')
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/**
 * Opens the file for reading; nothing can be written through it. In a directory that this user may not write
 * and that no process has the file open in, SQLite cannot make its lock files: then the file is read as
 * unchanging, which it is.
 *
 * @throws LocalFileError with a cure
 */
export function openForReading(path: string): DatabaseSync {
  if (!existsSync(path)) {
    throw new LocalFileError(
      `there is no usage file ${path}: run the metered app first, or name its file (--file, TOKENTALLY_SPOOL)`,
    )
  }
  if (!statSync(path).isFile()) throw new LocalFileError(`${path} is no file`)
  try {
    return readable(path)
  } catch (error) {
    if (!existsSync(`${path}-wal`)) {
      const unchanging = new URL(`file:${encodeURI(path).replaceAll('?', '%3f').replaceAll('#', '%23')}`)
      unchanging.searchParams.set('immutable', '1')
      try {
        return readable(unchanging)
      } catch {
        // The first error says more.
      }
    }
    throw new LocalFileError(`${path} is not readable as a usage file: ${messageOf(error)}`, { cause: error })
  }
}

/** The file is missing or cannot be read; the message says what to do. */
export class LocalFileError extends Error {
  override readonly name = 'LocalFileError'
}

function readable(path: string | URL): DatabaseSync {
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS })
  try {
    if (columnsOf(database).size === 0) throw new Error('it has no table usage_event')
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

/** The names of the columns that the file has: it may be from before the later ones. */
export function columnsOf(database: DatabaseSync): ReadonlySet<string> {
  const columns = database.prepare("select name from pragma_table_info('usage_event')").all()
  return new Set(columns.map(({ name }) => String(name)))
}

const SWITCH_TRIES_MAX = 200
const SWITCH_WAIT_MS = 10

/**
 * Two processes that switch a new file to WAL at the same moment would wait for each other, so SQLite refuses
 * one of them at once, whatever its timeout; that one tries again.
 */
function useWal(database: DatabaseSync): void {
  for (let tries = 1; ; tries++) {
    try {
      database.exec('pragma journal_mode = wal')
      return
    } catch (error) {
      if (!isBusy(error) || tries >= SWITCH_TRIES_MAX) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SWITCH_WAIT_MS)
    }
  }
}

function addLaterColumns(database: DatabaseSync): void {
  for (const column of ['execution', 'rated_by']) {
    if (columnsOf(database).has(column)) continue
    try {
      database.exec(`alter table usage_event add column ${column} text`)
    } catch (error) {
      // Another process may have been faster.
      if (!columnsOf(database).has(column)) throw error
    }
  }
}

const SQLITE_BUSY = 5
/** TOOBIG, CONSTRAINT, MISMATCH. */
const SQLITE_UNWRITABLE: readonly number[] = [18, 19, 20]

/** Whether SQLite refused because another process was writing. */
export function isBusy(error: unknown): boolean {
  return codeOf(error) === SQLITE_BUSY
}

/** Whether SQLite refused the row itself: trying again will not help. */
export function isUnwritable(error: unknown): boolean {
  return SQLITE_UNWRITABLE.includes(codeOf(error))
}

function codeOf(error: unknown): number {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return 0
  // The upper bits say more exactly what it was about.
  return error.errcode & 0xff
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
