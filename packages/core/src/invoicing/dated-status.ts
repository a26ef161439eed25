/**
 * Statuses that another system tells of in any order, and again and again: which of two stands.
 *
 * The one that is further on in the thing's life; of two that are as far, the later one; of two at the same time, the
 * one that is named later here. Whatever order a set of messages comes in, the same one stands in the end.
 */

/** Statuses in groups; whoever has reached a group never goes back to one before. */
export type StatusOrder = readonly (readonly string[])[]

/** As Stripe documents: a paid or void invoice stays so, one that is given up may still be paid or voided. */
export const INVOICE_PAYMENT_ORDER: StatusOrder = [['open'], ['uncollectible'], ['paid', 'void']]
/** As Stripe documents: a payout that was paid may still fail. */
export const PAYOUT_ORDER: StatusOrder = [['pending'], ['in_transit'], ['paid'], ['canceled', 'failed']]
/** As Stripe documents; before the end, a dispute may ask for evidence again. */
export const DISPUTE_ORDER: StatusOrder = [
  ['warning_needs_response', 'warning_under_review', 'needs_response', 'under_review'],
  ['warning_closed', 'prevented', 'lost', 'won'],
]

export interface DatedStatus {
  readonly status: string
  /** When it became so, UTC milliseconds; null: before any message. */
  readonly atMs: number | null
}

/** Whether `next` takes the place of `standing`. A status that is in no group never does. */
export function supersedes(order: StatusOrder, next: DatedStatus, standing: DatedStatus): boolean {
  const [group, place] = rank(order, next.status)
  const [standingGroup, standingPlace] = rank(order, standing.status)
  if (group === -1) return false
  if (group !== standingGroup) return group > standingGroup
  const atMs = next.atMs ?? Number.NEGATIVE_INFINITY
  const standingAtMs = standing.atMs ?? Number.NEGATIVE_INFINITY
  return atMs === standingAtMs ? place > standingPlace : atMs > standingAtMs
}

function rank(order: StatusOrder, status: string): readonly [group: number, place: number] {
  const group = order.findIndex((statuses) => statuses.includes(status))
  return [group, order[group]?.indexOf(status) ?? -1]
}
