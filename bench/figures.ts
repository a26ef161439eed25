/** Small statistics and tables for the benches. */

/** A figure that was measured several times. */
export interface Figure {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly rounds: number
}

/** One line of a bench: ours beside its rival or baseline, measured in turns in the same run. */
export interface Comparison {
  readonly name: string
  readonly unit: string
  readonly ours: Figure
  readonly rivalName: string
  readonly rival: Figure
  /** Ours divided by the rival's, round by round. */
  readonly ratio: Figure
  readonly bar?: string
  readonly aim?: string
}

/** What a bench is given and gives. */
export interface BenchOptions {
  /** Fewer rounds and smaller data: whether it works, not how fast it is. */
  readonly isQuick: boolean
  readonly progress: (text: string) => void
}
export type Bench = (options: BenchOptions) => Promise<readonly Comparison[]>

/** @throws RangeError for no values */
export function figureOf(values: readonly number[]): Figure {
  const sorted = values.toSorted((a, b) => a - b)
  const [min] = sorted
  const max = sorted.at(-1)
  const upper = sorted[sorted.length >> 1]
  const lower = sorted[(sorted.length - 1) >> 1]
  if (min === undefined || max === undefined || upper === undefined || lower === undefined) {
    throw new RangeError('a figure needs at least one value')
  }
  return { median: (upper + lower) / 2, min, max, rounds: sorted.length }
}

/** Figures of the pairs' two sides and of their ratios. */
export function compare(
  labels: Omit<Comparison, 'ours' | 'rival' | 'ratio'>,
  pairs: readonly { readonly ours: number; readonly rival: number }[],
): Comparison {
  return {
    ...labels,
    ours: figureOf(pairs.map((pair) => pair.ours)),
    rival: figureOf(pairs.map((pair) => pair.rival)),
    ratio: figureOf(pairs.map((pair) => pair.ours / pair.rival)),
  }
}

/** A table in Markdown, which is also readable in a terminal. */
export function tableOf(comparisons: readonly Comparison[]): string {
  const header = ['What', 'TokenTally', 'Beside', 'Its figure', 'Ratio', 'Bar', 'Aim']
  const rows = comparisons.map((line) => [
    line.name,
    `${figureText(line.ours)} ${line.unit}`,
    line.rivalName,
    `${figureText(line.rival)} ${line.unit}`,
    figureText(line.ratio),
    line.bar ?? '',
    line.aim ?? '',
  ])
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  )
  const lineOf = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [
    lineOf(header),
    `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
    ...rows.map(lineOf),
  ].join('\n')
}

function figureText({ median, min, max }: Figure): string {
  return min === max ? numberText(median) : `${numberText(median)} (${numberText(min)}–${numberText(max)})`
}

function numberText(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}
