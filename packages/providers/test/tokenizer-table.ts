import { CORPUS } from './tokenizer-corpus.ts'

/** Counts of the corpus, by the name of its texts. */
export type CorpusCounts = Readonly<Record<string, number>>

/** What vendors' own vocabularies make of the corpus. */
export interface Reference {
  /** With its version. */
  readonly source: string
  readonly counts: CorpusCounts
}

/** Counts each text of the corpus. */
export function countCorpus(encodedLength: (text: string) => number): CorpusCounts {
  return Object.fromEntries(Object.entries(CORPUS).map(([name, text]) => [name, encodedLength(text)]))
}

/** One row of the table of errors: how far counts are from the reference, text by text. */
export function errorRow(family: string, counted: CorpusCounts, reference: Reference): string {
  const errors = Object.keys(CORPUS).map((name) => percent(counted[name] ?? 0, reference.counts[name] ?? 0))
  return `| ${family} | ${errors.join(' | ')} | ${reference.source} |`
}

export const ERROR_TABLE_HEAD = [
  `| Models | ${Object.keys(CORPUS).join(' | ')} | Against |`,
  `|---${'|---'.repeat(Object.keys(CORPUS).length)}|---|`,
]

function percent(counted: number, reference: number): string {
  if (counted === reference) return '0'
  const error = ((counted - reference) / reference) * 100
  return `${error > 0 ? '+' : '−'}${Math.abs(error).toFixed(1)} %`
}
