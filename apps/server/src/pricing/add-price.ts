import { randomUUID } from 'node:crypto'
import { catalogueProvider, defaultStart, mayBeginAt, type PriceVersion } from '@tokentally/core'
import type { Pool } from 'pg'
import { Problem } from '../http/problem.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { changePriceBook, insertPrices, loadPriceBook, type NewPrice, readRevision } from './store.ts'

/** A price that an organization sets for itself. */
export interface OwnPrice {
  readonly organizationId: string
  readonly provider: string
  /** Empty: for the provider's events without a model. */
  readonly model: string
  readonly rates: PriceVersion['rates']
  /** Undefined: at once, or from the beginning for a model without any price. */
  readonly effectiveFromMs: number | undefined
}

/**
 * Enters an organization's own price. It is in force for the next event on every replica: the ledger compares
 * revisions in the transaction that appends.
 *
 * @throws Problem `invalid-request` naming `effective_from` when it would change what calls cost that may be
 *   rated already
 */
export async function addPrice(
  { pool, ratingBooks, now }: { pool: Pool; ratingBooks: RatingBookCache; now: () => Date },
  own: OwnPrice,
): Promise<{ readonly price: NewPrice; readonly createdAt: Date }> {
  const added = await changePriceBook(pool, async (client) => {
    const held = ratingBooks.current().prices
    const book = (await readRevision(client)) === held.revision ? held : await loadPriceBook(client)
    // The time is taken under the lock: nothing is rated between it and the commit.
    const nowMs = now().getTime()
    const candidates = book.candidates(own.organizationId, own.provider, own.model === '' ? [] : [own.model])
    const fromMs = own.effectiveFromMs ?? defaultStart(candidates, nowMs)
    if (!mayBeginAt(candidates, fromMs, nowMs)) throw mustNotLieInThePast(nowMs)
    const price: NewPrice = {
      id: randomUUID(),
      organizationId: own.organizationId,
      provider: catalogueProvider(own.provider),
      model: own.model,
      match: { equals: own.model },
      effectiveFromMs: fromMs,
      rates: own.rates,
      source: 'POST /api/v1/prices',
      edition: null,
    }
    return { price, createdAt: await insertPrices(client, [price]) }
  })
  await ratingBooks.refresh()
  return added
}

function mustNotLieInThePast(nowMs: number): Problem {
  return new Problem({
    code: 'invalid-request',
    detail: 'A price cannot begin in the past where the model had one already: calls are rated by it.',
    errors: [
      {
        path: 'effective_from',
        message: `must not lie before ${new Date(nowMs).toISOString()}, because this model has a price`,
      },
    ],
  })
}
