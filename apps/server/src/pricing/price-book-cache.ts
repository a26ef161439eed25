import type { PriceBook } from '@tokentally/core'
import type { Pool } from 'pg'
import { loadPriceBook, readRevision } from './store.ts'

/** The price book in memory. It may be behind the database; whoever writes money checks the revision there. */
export interface PriceBookCache {
  /** The price book that was read last. */
  current(): PriceBook
  /** Reads the price book again; calls at the same time share one read that began after the latest of them. */
  refresh(): Promise<PriceBook>
  /**
   * Reads the price book again if another revision is committed.
   *
   * @param revision the committed revision where the caller knows it; asked for when left out
   */
  refreshIfChanged(revision?: number): Promise<PriceBook>
}

/** Reads the price book for the first time. @throws when the database does not answer */
export async function createPriceBookCache(pool: Pool): Promise<PriceBookCache> {
  let book = await loadPriceBook(pool)
  let reading: Promise<PriceBook> | undefined
  let next: Promise<PriceBook> | undefined

  const read = async () => {
    const read = await loadPriceBook(pool)
    if (read.revision > book.revision) book = read
    return book
  }
  const start = () => {
    const started = read().finally(() => {
      if (reading === started) reading = undefined
    })
    reading = started
    return started
  }
  const refresh = () => {
    if (reading === undefined) return start()
    // The read under way may have begun before the change that this caller knows of.
    next ??= reading
      .catch(() => undefined)
      .then(() => {
        next = undefined
        return start()
      })
    return next
  }
  return {
    current: () => book,
    refresh,
    async refreshIfChanged(revision) {
      return (revision ?? (await readRevision(pool))) === book.revision ? book : refresh()
    },
  }
}
