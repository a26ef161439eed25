import { closeSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Quantities } from '@tokentally/core'

/**
 * The accuracy table in the docs. Each subject of the matrix has a row, which the run compares with what it has
 * found; with `UPDATE_DOCS=1` the run writes it.
 */

const TABLE = new URL('../../../docs/reference/accuracy.md', import.meta.url)
const LOCK = new URL('../../../docs/reference/.accuracy.lock', import.meta.url)

export interface Accuracy {
  /** A call whose usage the provider reported, and what was counted. */
  reported(truth: Quantities, counted: Quantities): void
  /** A call that was cut, and its usage estimated. */
  cut(): void
  /** The error of one side of it, where there is a reference. */
  estimated(error: number): void
  /** The row as the table has it. */
  row(): string
}

/** Stands in the table where nobody but the vendor can say what a cut call has cost. */
export const NO_REFERENCE = 'no reference'

/**
 * What a run has found for one subject so far.
 *
 * @param reference who bills the calls that are cut
 */
export function accuracyOf(name: string, sdk: string, version: string, reference?: string): Accuracy {
  let calls = 0
  let estimates = 0
  let tokensReported = 0
  let tokensCounted = 0
  let difference = 0
  let largestError = 0
  return {
    reported(truth, counted) {
      calls++
      const meters = new Set([...Object.keys(truth), ...Object.keys(counted)].filter(isTokens))
      for (const meter of meters) difference += Math.abs((truth[meter] ?? 0) - (counted[meter] ?? 0))
      tokensReported += totalOf(truth)
      tokensCounted += totalOf(counted)
    },
    cut() {
      estimates++
    },
    estimated(error) {
      largestError = Math.max(largestError, error)
    },
    row: () =>
      `| ${[
        name,
        `\`${sdk}\` ${version}`,
        calls,
        tokensReported,
        tokensCounted,
        difference,
        estimates,
        ...errorCells(),
      ].join(' | ')} |`,
  }

  function errorCells(): readonly [error: string, reference: string] {
    if (estimates === 0) return ['–', '–']
    return reference === undefined ? [NO_REFERENCE, '–'] : [`${(largestError * 100).toFixed(2)} %`, reference]
  }
}

function isTokens(meter: string): boolean {
  return meter.endsWith('_tokens')
}

/** Parts are inside the totals. */
function totalOf(quantities: Quantities): number {
  return (quantities['input_tokens'] ?? 0) + (quantities['output_tokens'] ?? 0)
}

/** Rows of the table's text. */
export function rowsOf(text: string): string[] {
  return text.split('\n').filter((line) => line.startsWith('| ') && line.includes('`'))
}

export function readTable(): string {
  return readFileSync(TABLE, 'utf8')
}

/**
 * @throws Error when the table has another row for the subject, saying how to write it anew
 */
export async function expectInTable(accuracy: Accuracy): Promise<void> {
  const row = accuracy.row()
  if (process.env['UPDATE_DOCS'] === '1') await locked(() => writeRow(row))
  const text = readTable()
  if (!text.includes(`${row}\n`)) {
    throw new Error(
      `docs/reference/accuracy.md is out of date. This run has found:\n${row}\nWrite it by: UPDATE_DOCS=1 npx vitest run test/promises/exact`,
    )
  }
}

const keyOf = (row: string) => row.split(' | ').slice(0, 1).join()

function writeRow(row: string): void {
  const text = readTable()
  const others = rowsOf(text).filter((other) => keyOf(other) !== keyOf(row))
  const rows = [...others, row].sort()
  const [head = '', tail = ''] = text.split(/(?<=\|---[^\n]*\n)(?:\|[^\n]*\n)*/)
  writeFileSync(TABLE, withSum(`${head}${rows.join('\n')}\n${tail}`))
}

/** The sentence under the table that adds it up. */
export function sumOf(text: string): string {
  const cells = rowsOf(text).map((row) => row.split('|').map((cell) => cell.trim()))
  const sum = (column: number) => cells.reduce((total, row) => total + Number(row[column]), 0)
  const referenced = cells.filter((row) => row[8]?.endsWith(' %') === true)
  const against = referenced.reduce((total, row) => total + Number(row[7]), 0)
  const largest = Math.max(0, ...referenced.map((row) => Number.parseFloat(row[8] ?? '')))
  return `In all: ${sum(3)} calls whose usage was reported, ${sum(4)} tokens, a difference of ${sum(6)}; ${against} calls estimated against a reference, none further off than ${largest.toFixed(2)} %; ${sum(7) - against} estimated without one.`
}

export const SUM = /^In all: .*$/m

function withSum(text: string): string {
  return text.replace(SUM, sumOf(text))
}

/** Files of the matrix run side by side, and write one after another. */
async function locked(work: () => void): Promise<void> {
  for (;;) {
    try {
      closeSync(openSync(LOCK, 'wx'))
      break
    } catch {
      await delay(20)
    }
  }
  try {
    work()
  } finally {
    unlinkSync(LOCK)
  }
}
