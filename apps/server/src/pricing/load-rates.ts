import type { Pool } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { type DifferingRate, insertRates, type NewRate } from './currency-store.ts'
import type { DailyRate } from './ecb-file.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { announceRatingChange } from './store.ts'

/** What came of loading rates. */
export interface LoadedRates {
  /** Rates of the file. */
  readonly rates: number
  /** Those that were not known. */
  readonly added: number
  /** Those that differ from what is kept, at most 100. The first stands: events were sold by it. */
  readonly differing: readonly DifferingRate[]
}

/**
 * Keeps rates that are not known yet, all or none. They are in force for the next event on every replica.
 *
 * @param to whom they are for (null: every organization) and who publishes them
 */
export async function loadRates(
  { pool, ratingBooks }: { readonly pool: Pool; readonly ratingBooks: RatingBookCache },
  to: { readonly owner: string | null; readonly source: string },
  rates: readonly NewRate[],
): Promise<LoadedRates> {
  const { added, differing } = await inTransaction(pool, async (client) => {
    const inserted = await insertRates(client, to, rates)
    if (inserted.added > 0) await announceRatingChange(client)
    return inserted
  })
  if (added > 0) await ratingBooks.refresh()
  return { rates: rates.length, added, differing }
}

/** A daily rate holds from the beginning of its day, UTC. */
export function fromDaily(rates: readonly DailyRate[]): readonly NewRate[] {
  return rates.map(({ day, currency, unitsPerEur }) => ({
    currency,
    validFrom: new Date(`${day}T00:00:00Z`),
    unitsPerEur,
  }))
}
