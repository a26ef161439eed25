/** Small statistics and tables for the benches. */

/** A figure that was measured several times. */
export interface Figure {
  readonly median: number
  /** The 95 % confidence interval of the median; with fewer than six rounds, the smallest and largest value. */
  readonly low: number
  readonly high: number
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
  /** Ours divided by the rival's, round by round; of differences, which can be near zero, that of the medians. */
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

/**
 * The interval needs no assumption about how the values scatter: half of them lie below the true median, so that
 * its rank is binomial (Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2, in the usual
 * approximation by the normal distribution).
 *
 * @throws RangeError for no values
 */
export function figureOf(values: readonly number[]): Figure {
  const sorted = values.toSorted((a, b) => a - b)
  const rounds = sorted.length
  const [min] = sorted
  const max = sorted.at(-1)
  const upper = sorted[rounds >> 1]
  const lower = sorted[(rounds - 1) >> 1]
  if (min === undefined || max === undefined || upper === undefined || lower === undefined) {
    throw new RangeError('a figure needs at least one value')
  }
  const rank = Math.max(0, Math.floor((rounds - 1.96 * Math.sqrt(rounds)) / 2))
  const low = sorted[rank] ?? min
  const high = sorted[rounds - 1 - rank] ?? max
  return { median: (upper + lower) / 2, low, high, min, max, rounds }
}

/** Figures of two differences against the same baseline. */
export function compareAdded(
  labels: Omit<Comparison, 'ours' | 'rival' | 'ratio'>,
  pairs: readonly { readonly ours: number; readonly rival: number }[],
): Comparison {
  const ours = figureOf(pairs.map((pair) => pair.ours))
  const rival = figureOf(pairs.map((pair) => pair.rival))
  return { ...labels, ours, rival, ratio: figureOf([ours.median / rival.median]) }
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

function figureText({ median, low, high }: Figure): string {
  return low === high ? numberText(median) : `${numberText(median)} (${numberText(low)}–${numberText(high)})`
}

function numberText(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** Does some work, and how long it took. */
export async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const start = performance.now()
  const result = await work()
  return { ms: performance.now() - start, result }
}
