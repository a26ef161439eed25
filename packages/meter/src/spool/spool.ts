import { mkdirSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import type { UsageEvent } from '@tokentally/core'
import type { EventSink } from '../event-sink.ts'
import { spanJson } from './span-json.ts'
import { isCorrupt, isOwnedByAnother, SpoolFile } from './spool-file.ts'
import { SpooledEvent } from './spooled-event.ts'

/**
 * Events that wait for delivery. Each process has a file of its own in the spool directory; files of dead
 * processes are adopted and delivered too.
 *
 * On disk (normal): an event is in the file before it counts as metered. At `bytesMax` new events are dropped
 * and counted: the service has been away for long then. In memory (no writable disk): one warning, and up to
 * `MEMORY_EVENTS_MAX` events are kept; further ones are dropped and counted.
 */

const MEMORY_EVENTS_MAX = 10_000
const FILE_NAME = /^spool-.*\.sqlite$/

export interface SpoolOptions {
  readonly directory: string
  readonly bytesMax: number
  /** Makes this process's file name unlike any other. */
  readonly name: string
  readonly onError: (error: unknown) => void
}

/** Events taken for delivery; they stay in the spool until they are acknowledged. */
export interface SpooledBatch {
  readonly events: readonly SpooledEvent[]
  /** All were delivered or set aside. */
  acknowledge(): void
  /** The service refuses this one for good; a copy is kept apart from those that wait. */
  setAside(event: SpooledEvent, reason: string): void
}

export class Spool implements EventSink {
  readonly #options: SpoolOptions
  readonly #own: SpoolFile | undefined
  readonly #orphans: SpoolFile[] = []
  readonly #memory: SpooledEvent[] = []
  #dropped = 0
  #lateEvents = 0
  #isClosed = false
  onAppended: () => void = () => undefined

  constructor(options: SpoolOptions) {
    this.#options = options
    this.#own = this.#open()
    if (this.#own !== undefined) this.#adopt()
  }

  /** Events that wait for delivery. */
  get waiting(): number {
    let waiting = this.#memory.length + (this.#own?.events ?? 0)
    for (const orphan of this.#orphans) waiting += orphan.events
    return waiting
  }

  /** Events that were lost because a limit was reached. */
  get dropped(): number {
    return this.#dropped
  }

  append(event: UsageEvent): void {
    try {
      if (this.#isClosed) {
        this.#appendLate(spanJson(event))
        return
      }
      this.#append(spanJson(event))
      this.onAppended()
    } catch (error) {
      this.#options.onError(error)
    }
  }

  hold(event: UsageEvent): () => void {
    const file = this.#own
    if (file === undefined || this.#isClosed) return () => undefined
    try {
      file.hold(event.eventId, spanJson(event))
    } catch (error) {
      this.#options.onError(error)
    }
    return () => {
      try {
        if (!this.#isClosed) file.letGo(event.eventId)
      } catch (error) {
        this.#options.onError(error)
      }
    }
  }

  /** The oldest events, those of dead processes first; undefined when nothing waits. */
  next(limit: number): SpooledBatch | undefined {
    for (const file of [...this.#orphans, ...(this.#own === undefined ? [] : [this.#own])]) {
      const events = file.oldest(limit)
      if (events.length === 0) {
        this.#release(file)
        continue
      }
      return {
        events,
        acknowledge: () => file.acknowledge(events),
        setAside: (event, reason) => file.setAside(event, reason),
      }
    }
    if (this.#memory.length === 0) return undefined
    const events = this.#memory.slice(0, limit)
    return { events, acknowledge: () => this.#memory.splice(0, events.length), setAside: () => undefined }
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const orphan of this.#orphans) orphan.close()
    if (this.#own === undefined) return
    if (this.#own.events === 0 && this.#own.refused === 0) this.#own.closeAndDelete()
    else this.#own.close()
  }

  #append(json: string): void {
    const file = this.#own
    if (
      file === undefined ? this.#memory.length >= MEMORY_EVENTS_MAX : file.bytes >= this.#options.bytesMax
    ) {
      this.#dropped++
      // Out loud, but not once per event: at the first, and whenever the number has doubled.
      if ((this.#dropped & (this.#dropped - 1)) === 0) {
        this.#options.onError(
          new Error(`the spool is full: ${this.#dropped} usage events were dropped so far`),
        )
      }
      return
    }
    if (file === undefined) {
      this.#memory.push(new SpooledEvent(Buffer.from(json), 0))
      return
    }
    try {
      file.append(json)
    } catch (error) {
      this.#options.onError(error)
      this.#memory.push(new SpooledEvent(Buffer.from(json), 0))
    }
  }

  /** What ends after the spool was closed waits in its file for the next process, or in another one if that is taken. */
  #appendLate(json: string): void {
    const { directory, bytesMax, name, onError } = this.#options
    for (const suffix of ['', `-late-${++this.#lateEvents}`]) {
      try {
        const file = new SpoolFile(join(directory, `spool-${name}${suffix}.sqlite`))
        try {
          if (file.bytes >= bytesMax) break
          file.append(json)
          return
        } finally {
          file.close()
        }
      } catch (error) {
        if (!isOwnedByAnother(error)) break
      }
    }
    this.#dropped++
    onError(new Error('a usage event that ended after shutdown could not be kept and is lost'))
  }

  #open(): SpoolFile | undefined {
    const { directory, name, onError } = this.#options
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      return new SpoolFile(join(directory, `spool-${name}.sqlite`))
    } catch (cause) {
      onError(
        new Error(
          `usage events are kept in memory only, because the spool in ${directory} cannot be written; set the option spool (TOKENTALLY_SPOOL) to a writable directory`,
          { cause },
        ),
      )
      return undefined
    }
  }

  #adopt(): void {
    const { directory, onError } = this.#options
    for (const name of readdirSync(directory)) {
      const path = join(directory, name)
      if (!FILE_NAME.test(name) || path === this.#own?.path) continue
      try {
        this.#orphans.push(new SpoolFile(path))
      } catch (error) {
        if (isOwnedByAnother(error)) continue
        onError(new Error(`the spool file ${path} cannot be read`, { cause: error }))
        if (isCorrupt(error)) this.#adoptAnew(path)
      }
    }
  }

  /** What is known about a log is lost, the log is not: all of it is delivered, perhaps for the second time. */
  #adoptAnew(path: string): void {
    try {
      renameSync(path, `${path}.corrupt`)
      this.#orphans.push(new SpoolFile(path))
    } catch (error) {
      this.#options.onError(error)
    }
  }

  /** An orphan that is empty is deleted, unless it holds refused events for somebody to look at. */
  #release(file: SpoolFile): void {
    const index = this.#orphans.indexOf(file)
    if (index === -1) return
    this.#orphans.splice(index, 1)
    if (file.refused === 0) file.closeAndDelete()
    else file.close()
  }
}
