import { randomUUID } from 'node:crypto'
import {
  canonicalTier,
  catalogueProvider,
  defaultStart,
  mayBeginAt,
  modelPatternMatch,
  type PriceBook,
  type PriceConditions,
  type PriceVersion,
  rivalsOf,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { Problem } from '../http/problem.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { changePriceBook, insertPrices, loadPriceBook, type NewPrice, readRevision } from './store.ts'

/** A price that an organization sets for itself. */
export interface OwnPrice extends Pick<PriceConditions, 'timeOfDay' | 'serviceTier' | 'region' | 'customer'> {
  readonly organizationId: string
  readonly provider: string
  /** Empty: for the provider's events without a model. With a discount, a pattern. */
  readonly model: string
  /** Empty with a discount. */
  readonly rates: PriceVersion['rates']
  /** A fraction off the catalogue's price. */
  readonly discount?: string | undefined
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
    const fromMs = startOf(own, book, nowMs)
    const price: NewPrice = {
      id: randomUUID(),
      organizationId: own.organizationId,
      provider: catalogueProvider(own.provider),
      model: own.model,
      match: own.discount === undefined ? { equals: own.model } : modelPatternMatch(own.model),
      effectiveFromMs: fromMs,
      timeOfDay: own.timeOfDay,
      serviceTier: own.serviceTier === undefined ? undefined : canonicalTier(own.serviceTier),
      region: own.region?.toLowerCase(),
      customer: own.customer,
      discount: own.discount,
      rates: own.rates,
      source: 'POST /api/v1/prices',
      edition: null,
    }
    return { price, createdAt: await insertPrices(client, [price]) }
  })
  await ratingBooks.refresh()
  return added
}

/** @throws Problem when the price may not begin where it is asked to */
function startOf(own: OwnPrice, book: PriceBook, nowMs: number): number | null {
  const { effectiveFromMs } = own
  // A discount is off a price that calls were rated by.
  if (own.discount !== undefined) {
    if (effectiveFromMs !== undefined && effectiveFromMs < nowMs) throw mustNotLieInThePast(nowMs)
    return effectiveFromMs ?? nowMs
  }
  const conditions = {
    ...own,
    serviceTier: own.serviceTier === undefined ? undefined : canonicalTier(own.serviceTier),
    region: own.region?.toLowerCase(),
  }
  const candidates = rivalsOf(
    book.candidates(own.organizationId, own.provider, own.model === '' ? [] : [own.model]),
    own.provider,
    conditions,
  )
  const isConditional =
    own.serviceTier !== undefined || own.region !== undefined || own.customer !== undefined
  const fromMs = effectiveFromMs ?? defaultStart(candidates, nowMs, isConditional)
  if (!mayBeginAt(candidates, fromMs, nowMs, isConditional)) throw mustNotLieInThePast(nowMs)
  return fromMs
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
