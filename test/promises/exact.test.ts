import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readTable, rowsOf, SUM, sumOf } from './exact/table.ts'

/**
 * Promise 2: exact. The matrix itself stands beside this file, a file for each family of vendors in `exact/`; each
 * compares its rows of the accuracy table. Here the table is looked at as a whole.
 */

const MATRIX = new URL('./exact/', import.meta.url)

/** Names of the matrix's subjects, as its files write them. */
function subjects(): string[] {
  return readdirSync(MATRIX)
    .filter((file) => file.endsWith('.test.ts'))
    .flatMap((file) => [
      ...readFileSync(new URL(file, MATRIX), 'utf8').matchAll(
        /(?:describeMatrix(?:<\w+>)?\(\{|byOpenai\(\s*\{)[^}]*?\bname: '([^']+)'/g,
      ),
    ])
    .map(([, name = '']) => name)
}

describe('the accuracy table', () => {
  it('has a row for each subject of the matrix, and no other', () => {
    const names = rowsOf(readTable()).map((row) => row.split(' | ')[0]?.slice(2) ?? '')
    expect(names.sort()).toEqual(subjects().sort())
  })

  it('adds up its rows', () => {
    expect(SUM.exec(readTable())?.[0]).toBe(sumOf(readTable()))
  })

  it('shows no difference where a provider reported, and one percent at most where it did not', () => {
    for (const row of rowsOf(readTable())) {
      const cells = row.split('|').map((cell) => cell.trim())
      expect(cells[6], row).toBe('0')
      expect(Number.parseFloat(cells[8] ?? '') || 0, row).toBeLessThanOrEqual(1)
    }
  })
})
