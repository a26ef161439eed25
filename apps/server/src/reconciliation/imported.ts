import type { VendorRow, VendorSourceName } from '@tokentally/core'
import { decimal, decimalText } from '@tokentally/core'
import { BillingError } from '@tokentally/providers'

/** What a file or an answer holds, summed up. */
export interface ImportedFigures {
  readonly source: VendorSourceName
  readonly part: string
  /** In order. */
  readonly days: readonly string[]
  readonly rows: readonly VendorRow[]
  readonly lines: number
  readonly ignoredLines: number
  readonly contentSha256: Buffer
}

/** Sums that one file may have; a year of 50 models, 6 meters, 3 tiers and 5 keys are 1.6 million lines of a bill at most. */
const SUMS_MAX = 500_000
/** Fifty years: more is a wrong column. */
const DAYS_MAX = 18_000

/** Sums up rows by what tells them apart, so that memory grows with the figures and not with the file. */
export class FigureSums {
  readonly #sums = new Map<string, VendorRow>()
  readonly #days = new Set<string>()
  lines = 0
  ignoredLines = 0

  addDay(day: string): void {
    if (this.#days.size >= DAYS_MAX) {
      throw new BillingError([{ path: 'file', message: `has more than ${DAYS_MAX} days` }])
    }
    this.#days.add(day)
  }

  add(row: VendorRow): void {
    this.addDay(row.day)
    const key = JSON.stringify([
      row.day,
      row.kind,
      row.model,
      row.meter,
      row.serviceTier,
      row.keyId,
      row.projectId,
      row.quantity === null,
      row.costUsd === null,
    ])
    const sum = this.#sums.get(key)
    if (sum === undefined && this.#sums.size >= SUMS_MAX) {
      throw new BillingError([
        { path: 'file', message: `has more than ${SUMS_MAX} figures: send it in parts of fewer days` },
      ])
    }
    this.#sums.set(key, sum === undefined ? row : plus(sum, row))
  }

  days(): readonly string[] {
    return [...this.#days].toSorted()
  }

  rows(): readonly VendorRow[] {
    return [...this.#sums.values()]
  }
}

function plus(a: VendorRow, b: VendorRow): VendorRow {
  return {
    ...a,
    quantity: sumText(a.quantity, b.quantity),
    costUsd: sumText(a.costUsd, b.costUsd),
    lines: a.lines + b.lines,
  }
}

function sumText(a: string | null, b: string | null): string | null {
  return a === null || b === null ? (a ?? b) : decimalText(decimal(a).plus(decimal(b)))
}
