import { rmSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'

/** An event at rest: its place in the file and its JSON text (`usageEventToJson`). */
export interface SpooledEvent {
  readonly seq: number
  readonly json: string
}

/**
 * One SQLite file of events that wait for delivery, owned by one process. The owner holds SQLite's exclusive
 * lock, which the operating system releases when the process dies, however it dies: a file that can be opened
 * has no living owner.
 *
 * WAL with `synchronous=NORMAL`: what was appended survives the death of the process. A power failure can
 * take the last moments with it.
 */
export class SpoolFile {
  readonly path: string
  readonly #database: DatabaseSync
  readonly #insert: StatementSync
  readonly #oldest: StatementSync
  readonly #delete: StatementSync
  readonly #setAside: StatementSync
  readonly #totals: StatementSync
  #events: number
  #bytes: number

  /** @throws the error of node:sqlite: see `isOwnedByAnother` and `isCorrupt` */
  constructor(path: string) {
    this.path = path
    const database = new DatabaseSync(path)
    try {
      database.exec(`
        pragma locking_mode = exclusive;
        pragma journal_mode = wal;
        pragma synchronous = normal;
        begin immediate;
        create table if not exists events (seq integer primary key autoincrement, json text not null);
        create table if not exists refused (seq integer primary key, json text not null, reason text not null);
        commit`)
      this.#insert = database.prepare('insert into events (json) values (?)')
      this.#oldest = database.prepare('select seq, json from events order by seq limit ?')
      this.#delete = database.prepare('delete from events where seq = ?')
      this.#setAside = database.prepare(
        'insert into refused (seq, json, reason) select seq, json, ? from events where seq = ?',
      )
      this.#totals = database.prepare(
        'select count(*) as events, coalesce(sum(octet_length(json)), 0) as bytes from events',
      )
      const totals = this.#totals.get()
      this.#events = Number(totals?.['events'] ?? 0)
      this.#bytes = Number(totals?.['bytes'] ?? 0)
    } catch (error) {
      database.close()
      throw error
    }
    this.#database = database
  }

  /** Events that wait. */
  get events(): number {
    return this.#events
  }

  /** Bytes of JSON that wait; the file is somewhat larger. */
  get bytes(): number {
    return this.#bytes
  }

  /** Returns once the event would survive the death of the process. */
  append(json: string): void {
    this.#insert.run(json)
    this.#events += 1
    this.#bytes += Buffer.byteLength(json)
  }

  /** The oldest waiting events; they stay until `acknowledge`. */
  oldest(limit: number): readonly SpooledEvent[] {
    return this.#oldest.all(limit).map((row) => ({ seq: Number(row['seq']), json: String(row['json']) }))
  }

  /** Forgets delivered events, all or none. */
  acknowledge(events: readonly SpooledEvent[]): void {
    this.#inTransaction(() => {
      for (const event of events) this.#delete.run(event.seq)
    })
    this.#forget(events)
  }

  /** Keeps an event that the service refused for good apart, so that it cannot block the others. */
  setAside(event: SpooledEvent, reason: string): void {
    this.#inTransaction(() => {
      this.#setAside.run(reason, event.seq)
      this.#delete.run(event.seq)
    })
    this.#forget([event])
  }

  /** How many events were set aside in this file. */
  get refused(): number {
    return Number(this.#database.prepare('select count(*) as refused from refused').get()?.['refused'] ?? 0)
  }

  close(): void {
    this.#database.close()
  }

  /** Deletes the file. While the lock is still held, so that nobody can adopt it in between. */
  closeAndDelete(): void {
    rmSync(this.path, { force: true })
    this.#database.close()
    rmSync(`${this.path}-wal`, { force: true })
  }

  #forget(events: readonly SpooledEvent[]): void {
    this.#events -= events.length
    for (const event of events) this.#bytes -= Buffer.byteLength(event.json)
  }

  #inTransaction(work: () => void): void {
    this.#database.exec('begin immediate')
    try {
      work()
      this.#database.exec('commit')
    } catch (error) {
      this.#database.exec('rollback')
      throw error
    }
  }
}

/** True when a living process owns the file (SQLITE_BUSY). */
export function isOwnedByAnother(error: unknown): boolean {
  return sqliteCode(error) === 5
}

/** True when the file is damaged or no database at all (SQLITE_CORRUPT, SQLITE_NOTADB). */
export function isCorrupt(error: unknown): boolean {
  const code = sqliteCode(error)
  return code === 11 || code === 26
}

// https://www.sqlite.org/rescode.html: the low byte is the primary code.
function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number')
    return undefined
  return error.errcode & 0xff
}
