import { printable } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Something wrong in a file, and where; lines and columns count from 1. */
export interface FileProblem {
  readonly line: number
  readonly column: number
  readonly message: string
}

/** Something in a file is wrong. Each problem was written as `FILE:LINE:COLUMN: message`. */
export class WrongFile extends Error {
  override readonly name = 'WrongFile'
}

/** Writes every problem of a file. @returns the error to be thrown, with their number */
export function wrongFile(path: string, problems: readonly FileProblem[], terminal: Terminal): WrongFile {
  for (const { line, column, message } of problems) {
    terminal.stderr.write(`${printable(`${path}:${line}:${column}: ${message}`)}\n`)
  }
  const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`
  return new WrongFile(`${count} in ${printable(path)}; nothing was changed`)
}
