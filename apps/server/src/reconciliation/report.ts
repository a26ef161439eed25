import {
  type Decimal,
  type Reconciliation,
  type ReconciliationGroup,
  reconcile,
  type Vendor,
} from '@tokentally/core'
import type { Pool } from 'pg'
import type { RatingBookCache } from '../pricing/index.ts'
import { findConnection } from './connection-store.ts'
import { loadFigures } from './import-store.ts'
import { canonicalModel, knownModel, loadLedgerHours } from './ledger-store.ts'

export interface ReportRequest {
  readonly organizationId: string
  readonly vendor: Vendor
  /** Included, `YYYY-MM-DD`. */
  readonly startDay: string
  /** Excluded. */
  readonly endDay: string
  readonly groupBy: readonly ReconciliationGroup[]
  readonly tolerance: Decimal
}

const DAY_MS = 24 * 3_600_000

/** Compares a vendor's figures with the ledger; undefined when the vendor has told of none of the days. */
export async function reconcileVendor(
  { pool, ratingBooks }: { readonly pool: Pool; readonly ratingBooks: RatingBookCache },
  request: ReportRequest,
): Promise<Reconciliation | undefined> {
  const { organizationId, vendor, startDay, endDay } = request
  const { figures, coveredDays } = await loadFigures(pool, request)
  if (coveredDays.size === 0) return undefined
  const book = (await ratingBooks.refreshIfChanged()).prices
  const connection = await findConnection(pool, organizationId, vendor)
  const ledger = await loadLedgerHours(pool, book, {
    organizationId,
    vendor,
    // A vendor's day may begin up to 14 hours before ours, or 12 after it.
    start: new Date(msOf(startDay) - DAY_MS),
    end: new Date(msOf(endDay) + DAY_MS),
  })
  const meteredKeys = connection?.meteredKeys ?? null
  return reconcile({
    vendor,
    days: daysBetween(startDay, endDay),
    coveredDays,
    figures: figures.map((figure) =>
      figure.kind === 'usage' && figure.model !== null
        ? { ...figure, model: canonicalModel(book, organizationId, vendor, figure.model) }
        : figure,
    ),
    ledger,
    meteredKeys: meteredKeys === null ? undefined : new Set(meteredKeys),
    isKnownModel: (model) => knownModel(book, organizationId, vendor, model) !== undefined,
    groupBy: request.groupBy,
    tolerance: request.tolerance,
  })
}

export function msOf(day: string): number {
  return Date.parse(`${day}T00:00:00Z`)
}

export function daysBetween(startDay: string, endDay: string): readonly string[] {
  const count = Math.round((msOf(endDay) - msOf(startDay)) / DAY_MS)
  return Array.from({ length: Math.max(0, count) }, (_, index) => dayOf(msOf(startDay) + index * DAY_MS))
}

export function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
