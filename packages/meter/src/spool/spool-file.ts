import { rmSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { EventLog } from './event-log.ts'
import { SpooledEvent } from './spooled-event.ts'

/** The log is made shorter when this much of it is delivered, and more than is not. */
const FORGET_BYTES = 8 * 1024 * 1024

/**
 * Events that wait for delivery, owned by one process: a log that they are appended to, and beside it a small
 * SQLite file that says how far the log is delivered and keeps refused events apart. The owner holds SQLite's
 * exclusive lock, which the operating system releases when the process dies, however it dies: a file that can
 * be opened has no living owner.
 *
 * The log and what is said about it can only disagree in one way, when the process dies between making the
 * log shorter and noting it: then the note lies behind the log's end, and everything in the log waits.
 * Wherever a death comes, events are delivered again rather than lost; the service counts them once.
 */
export class SpoolFile {
  readonly path: string
  readonly #database: DatabaseSync
  readonly #log: EventLog
  readonly #noteDelivered: StatementSync
  readonly #setAside: StatementSync
  readonly #insertHeld: StatementSync
  readonly #deleteHeld: StatementSync
  #events: number
  #delivered: number

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
        create table if not exists progress (id integer primary key check (id = 1), delivered integer not null);
        create table if not exists refused (json text primary key, reason text not null) without rowid;
        create table if not exists held (event_id text primary key, json text not null) without rowid;
        commit`)
      this.#noteDelivered = database.prepare(
        'insert into progress values (1, ?) on conflict (id) do update set delivered = excluded.delivered',
      )
      this.#setAside = database.prepare('insert or replace into refused (json, reason) values (?, ?)')
      const delivered = Number(database.prepare('select delivered from progress').get()?.['delivered'] ?? 0)
      this.#log = new EventLog(logOf(path))
      this.#delivered = delivered > this.#log.size ? 0 : delivered
      this.#events = this.#log.count(this.#delivered)
      this.#insertHeld = database.prepare('insert or replace into held (event_id, json) values (?, ?)')
      this.#deleteHeld = database.prepare('delete from held where event_id = ?')
    } catch (error) {
      database.close()
      throw error
    }
    this.#database = database
    this.#appendHeld()
  }

  /** What a dead process was still working on counts as it was held. In the log first: twice is once. */
  #appendHeld(): void {
    for (const row of this.#database.prepare('select event_id, json from held').all()) {
      if (typeof row['json'] === 'string') this.append(row['json'])
      this.letGo(String(row['event_id']))
    }
  }

  /** Events that wait. */
  get events(): number {
    return this.#events
  }

  /** Bytes that wait; the files are larger by what is delivered and not yet taken away. */
  get bytes(): number {
    return this.#log.size - this.#delivered
  }

  /** Returns once the event would survive the death of the process. @throws when the disk does not take it */
  append(json: string): void {
    this.#log.append(json)
    this.#events += 1
  }

  /** Keeps an event beside the log, where the next owner finds it if this process dies. */
  hold(eventId: string, json: string): void {
    this.#insertHeld.run(eventId, json)
  }

  /** The event that was held is in the log as it is to be sent. */
  letGo(eventId: string): void {
    this.#deleteHeld.run(eventId)
  }

  /** The oldest waiting events; they stay until `acknowledge`. */
  oldest(limit: number): readonly SpooledEvent[] {
    return this.#log.read(this.#delivered, limit).map(({ bytes, end }) => new SpooledEvent(bytes, end))
  }

  /** Forgets the events that `oldest` gave. */
  acknowledge(events: readonly SpooledEvent[]): void {
    const last = events.at(-1)
    if (last === undefined) return
    this.#delivered = last.end
    this.#events -= events.length
    const isAll = this.#delivered === this.#log.size
    if (isAll || (this.#delivered >= FORGET_BYTES && this.#delivered > this.bytes)) {
      this.#log.forget(this.#delivered)
      this.#delivered = 0
    }
    this.#noteDelivered.run(this.#delivered)
  }

  /** Keeps an event that the service refused for good where it can be looked at. */
  setAside(event: SpooledEvent, reason: string): void {
    this.#setAside.run(event.json, reason)
  }

  /** How many events were set aside in this file. */
  get refused(): number {
    return Number(this.#database.prepare('select count(*) as refused from refused').get()?.['refused'] ?? 0)
  }

  close(): void {
    this.#log.close()
    this.#database.close()
  }

  /** Deletes the files. While the lock is still held, so that nobody can adopt them in between. */
  closeAndDelete(): void {
    this.#log.close()
    rmSync(logOf(this.path), { force: true })
    rmSync(this.path, { force: true })
    this.#database.close()
    rmSync(`${this.path}-wal`, { force: true })
  }
}

function logOf(path: string): string {
  return `${path.replace(/\.sqlite$/, '')}.log`
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
