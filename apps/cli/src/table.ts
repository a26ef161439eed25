import { stripVTControlCharacters } from 'node:util'

/** How cells of a column stand under each other; decimals at their point. */
export type Alignment = 'left' | 'right' | 'decimal'

export interface Column {
  readonly title: string
  readonly alignment: Alignment
}

/** Lines of a table: titles, rows, and below a rule the totals. Cells are text as it is to be read. */
export function tableLines(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  totals: readonly string[],
): { readonly title: string; readonly rows: readonly string[]; readonly totals: string } {
  const cells = [...rows, totals].map((row) => row.map(printable))
  const fractions = columns.map((_, index) =>
    Math.max(...cells.map((row) => fractionLength(row[index] ?? ''))),
  )
  const aligned = cells.map((row) =>
    columns.map(({ alignment }, index) => {
      const text = row[index] ?? ''
      return alignment === 'decimal' && isDecimal(text)
        ? text.padEnd(text.length + (fractions[index] ?? 0) - fractionLength(text))
        : text
    }),
  )
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...aligned.map((row) => row[index]?.length ?? 0)),
  )
  const line = (row: readonly string[]) =>
    columns
      .map(({ alignment }, index) => {
        const text = row[index] ?? ''
        const width = widths[index] ?? 0
        return alignment === 'left' ? text.padEnd(width) : text.padStart(width)
      })
      .join('  ')
      .trimEnd()
  const lines = aligned.map(line)
  return {
    title: line(columns.map(({ title }) => title)),
    rows: lines.slice(0, -1),
    totals: lines.at(-1) ?? '',
  }
}

/** Whole numbers with their thousands apart. */
export function countText(count: number): string {
  return count.toLocaleString('en-US')
}

function isDecimal(text: string): boolean {
  return /^-?\d+(\.\d+)?$/.test(text)
}

/** The point included. */
function fractionLength(text: string): number {
  const point = isDecimal(text) ? text.indexOf('.') : -1
  return point === -1 ? 0 : text.length - point
}

/** Names come from elsewhere: nothing in them may move the cursor or colour the terminal. */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\u{fffd}')
}
