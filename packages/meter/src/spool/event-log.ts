import { closeSync, fstatSync, ftruncateSync, openSync, readSync, renameSync, writeSync } from 'node:fs'

/** A line of the log and where it ends: what lies before `end` can be forgotten once the line is. */
export interface LogLine {
  /** UTF-8, without the line feed. */
  readonly bytes: Uint8Array
  readonly end: number
}

const LF = 10
const READ_BYTES = 1024 * 1024

/**
 * Lines in a file, appended by one system call each: they survive the death of the process as soon as
 * `append` has returned. A power failure can take the last moments with it.
 */
export class EventLog {
  readonly #path: string
  #descriptor: number
  #size: number

  /** Opens or creates the log. A last line that a crash cut off is taken away. */
  constructor(path: string) {
    this.#path = path
    this.#descriptor = openSync(path, 'a+', 0o600)
    this.#size = fstatSync(this.#descriptor).size
    const end = this.#lastLineEnd()
    if (end < this.#size) this.#truncate(end)
  }

  /** Bytes in the file. */
  get size(): number {
    return this.#size
  }

  /** @param line without a line feed inside @throws when the disk does not take all of it; nothing is kept then */
  append(line: string): void {
    const text = `${line}\n`
    const length = Buffer.byteLength(text)
    let written = 0
    try {
      written = writeSync(this.#descriptor, text)
    } finally {
      if (written !== length) ftruncateSync(this.#descriptor, this.#size)
    }
    if (written !== length) throw new Error(`${this.#path}: no space left to append an event`)
    this.#size += written
  }

  /** Up to `limit` lines from a position on, at least one if there is one. */
  read(from: number, limit: number): readonly LogLine[] {
    const lines: LogLine[] = []
    for (let length = READ_BYTES; lines.length === 0 && from < this.#size; length *= 2) {
      const bytes = this.#bytes(from, length)
      let start = 0
      for (let end = bytes.indexOf(LF); end !== -1 && lines.length < limit; end = bytes.indexOf(LF, start)) {
        lines.push({ bytes: bytes.subarray(start, end), end: from + end + 1 })
        start = end + 1
      }
      if (from + bytes.length >= this.#size) break
    }
    return lines
  }

  /** How many lines there are from a position on. */
  count(from: number): number {
    let count = 0
    for (let at = from; at < this.#size; at += READ_BYTES) {
      const bytes = this.#bytes(at, READ_BYTES)
      for (let end = bytes.indexOf(LF); end !== -1; end = bytes.indexOf(LF, end + 1)) count += 1
    }
    return count
  }

  /** Takes away everything before a position, which becomes 0. */
  forget(before: number): void {
    if (before === this.#size) {
      this.#truncate(0)
      return
    }
    const next = `${this.#path}.new`
    const rest = this.#bytes(before, this.#size - before)
    const descriptor = openSync(next, 'w', 0o600)
    for (let written = 0; written < rest.length; ) written += writeSync(descriptor, rest, written)
    closeSync(descriptor)
    closeSync(this.#descriptor)
    renameSync(next, this.#path)
    this.#descriptor = openSync(this.#path, 'a+', 0o600)
    this.#size = rest.length
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  #lastLineEnd(): number {
    for (let end = this.#size; end > 0; end -= READ_BYTES) {
      const start = Math.max(0, end - READ_BYTES)
      const last = this.#bytes(start, end - start).lastIndexOf(LF)
      if (last !== -1) return start + last + 1
    }
    return 0
  }

  #bytes(from: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(Math.min(length, this.#size - from))
    let read = 0
    while (read < bytes.length) {
      const count = readSync(this.#descriptor, bytes, read, bytes.length - read, from + read)
      if (count === 0) break
      read += count
    }
    return bytes.subarray(0, read)
  }

  #truncate(size: number): void {
    ftruncateSync(this.#descriptor, size)
    this.#size = size
  }
}
