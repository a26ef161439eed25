import {
  correctedEvent,
  correctionEntryId,
  decimalText,
  type FieldIssue,
  type RatedEvent,
  type RatingBook,
  rate,
  sell,
  usageEventToJson,
} from '@tokentally/core'
import { type RatedEventRow, storedEvent, storedRating } from '../ledger/index.ts'
import type { Change } from './request.ts'

/** What becomes of one event. */
export type Planned =
  | { readonly kind: 'corrected'; readonly before: RatedEvent; readonly after: RatedEvent | undefined }
  /** The change leaves it as it is; it is not taken back. */
  | { readonly kind: 'unchanged' }
  /** With the change it would be no valid event. */
  | { readonly kind: 'invalid'; readonly issues: readonly FieldIssue[] }

/**
 * Decides what stands in for an event.
 *
 * A change of attribution keeps the amounts as they were frozen; whose event it is decides the currency. A change
 * of what the price depends on, or `rerate`, has it rated and sold again, by what the book says about the
 * event's own time.
 */
export function planCorrection(
  row: RatedEventRow,
  change: Change,
  {
    correctionId,
    book,
    nowMs,
  }: { readonly correctionId: string; readonly book: RatingBook; readonly nowMs: number },
): Planned {
  const before: RatedEvent = { event: storedEvent(row), ...storedRating(row) }
  if (change.void === true) return { kind: 'corrected', before, after: undefined }
  const eventId = correctionEntryId(correctionId, 'replacement', row.event_id)
  const corrected = correctedEvent(before.event, change.set ?? {}, { eventId, nowMs })
  if (!corrected.ok) return { kind: 'invalid', issues: corrected.issues }
  const { event } = corrected
  const after = ratedAnew(row.organization_id, event, before, book, {
    isRatedAnew: change.rerate === true || corrected.isPricedAnew,
  })
  const isSame = !corrected.isChanged && moneyOf(before) === moneyOf(after)
  return isSame ? { kind: 'unchanged' } : { kind: 'corrected', before, after }
}

function ratedAnew(
  organizationId: string,
  event: RatedEvent['event'],
  before: RatedEvent,
  book: RatingBook,
  { isRatedAnew }: { readonly isRatedAnew: boolean },
): RatedEvent {
  if (isRatedAnew) {
    const rating = rate(organizationId, event, book.prices)
    return { event, rating, sale: sell(organizationId, event, rating, book) }
  }
  if (event.customer === before.event.customer) return { ...before, event }
  const conversion = book.currencies.conversion(organizationId, event.customer, event.tsMs)
  return { event, rating: before.rating, sale: { ...before.sale, conversion } }
}

/** Everything about an event's money, to be compared as text. */
export function moneyOf({ rating, sale }: RatedEvent): string {
  return JSON.stringify([
    rating.status,
    rating.lines.map((line) => [line.meter, String(line.quantity), line.unitPriceUsd, line.costUsd]),
    decimalText(rating.listCostUsd),
    [...rating.unpricedMeters],
    rating.priceVersionId,
    decimalText(sale.sellCostUsd),
    sale.markupRuleId,
    sale.conversion === null
      ? null
      : [sale.conversion.currency, sale.conversion.rate, sale.conversion.rateDate],
  ])
}

/** The whole of a plan for one event as text: two plans are the same where all these texts are. */
export function planText(eventId: string, after: RatedEvent | undefined): string {
  if (after === undefined) return `${JSON.stringify([eventId, null])}\n`
  const { event_id: _, ...json } = usageEventToJson(after.event)
  return `${JSON.stringify([eventId, json, moneyOf(after)])}\n`
}
