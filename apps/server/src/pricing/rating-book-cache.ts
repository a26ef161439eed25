import type { RatingBook } from '@tokentally/core'
import type { Pool } from 'pg'
import { loadRatingBook, readRevision } from './store.ts'

/** The rating book in memory. It may be behind the database; whoever writes money checks the revision there. */
export interface RatingBookCache {
  /** The rating book that was read last. */
  current(): RatingBook
  /** Reads the rating book again; calls at the same time share one read that began after the latest of them. */
  refresh(): Promise<RatingBook>
  /**
   * Reads the rating book again if another revision is committed.
   *
   * @param revision the committed revision where the caller knows it; asked for when left out
   */
  refreshIfChanged(revision?: number): Promise<RatingBook>
}

/** Reads the rating book for the first time. @throws when the database does not answer */
export async function createRatingBookCache(pool: Pool): Promise<RatingBookCache> {
  let book = await loadRatingBook(pool)
  let reading: Promise<RatingBook> | undefined
  let next: Promise<RatingBook> | undefined

  const read = async () => {
    const read = await loadRatingBook(pool)
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
