import { type Decimal, ZERO } from '../money/decimal.ts'
import { type Cell, explain, smaller } from './cell.ts'

/**
 * Finds the vendor's keys (or projects) whose usage nobody metered, and lets them explain what they used.
 *
 * Where it is stated which keys are metered, every other one is not. Else a key counts as unmetered when the
 * vendor's surplus has room for all of its usage on every day, model and meter that it was used with: a key that is
 * metered leaves no such room. Of several, the largest is taken first, and the next must fit into what it left.
 */
export function explainUnmeteredKeys(
  cells: readonly Cell[],
  meteredKeys: ReadonlySet<string> | undefined,
): void {
  const cellsByKey = new Map<string, { cells: Cell[]; total: Decimal }>()
  for (const cell of cells) {
    for (const [key, quantity] of cell.vendorByKey) {
      if (quantity.lte(ZERO) || cell.causes.some(({ cause, detail }) => isOf(cause, detail, key))) continue
      const entry = cellsByKey.get(key) ?? { cells: [], total: ZERO }
      entry.cells.push(cell)
      entry.total = entry.total.plus(quantity)
      cellsByKey.set(key, entry)
    }
  }
  const keys = [...cellsByKey].toSorted(([, a], [, b]) => b.total.cmp(a.total))
  for (const [key, { cells: ofKey }] of keys) {
    const isUnmetered =
      meteredKeys === undefined
        ? ofKey.every((cell) => cell.restQuantity.gte(cell.vendorByKey.get(key) ?? ZERO))
        : !meteredKeys.has(key)
    if (!isUnmetered) continue
    for (const cell of ofKey) {
      if (cell.restQuantity.lte(ZERO)) continue
      const quantity = smaller(cell.restQuantity, cell.vendorByKey.get(key) ?? ZERO)
      explain(cell, 'unmetered_key', quantity, detailOf(key))
    }
  }
}

function detailOf(key: string): string {
  return `No events of the vendor's key or project ${key}`
}

function isOf(cause: string, detail: string, key: string): boolean {
  return cause === 'unmetered_key' && detail === detailOf(key)
}
