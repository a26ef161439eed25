import { type Decimal, decimalText, ZERO } from '../money/decimal.ts'
import type { Rating } from '../rating/rate.ts'
import { chargedAmount, type Sale } from '../rating/sell.ts'
import type { UsageEvent } from '../usage/usage-event.ts'

/** An event with what it costs and is sold for. */
export interface RatedEvent {
  readonly event: UsageEvent
  readonly rating: Rating
  readonly sale: Sale
}

/** Sums of events, as reports would show them. Money is exact decimal text. */
export interface CorrectionSums {
  readonly requests: number
  readonly unpriced_requests: number
  readonly input_tokens: number
  readonly output_tokens: number
  /** US dollars. */
  readonly list_cost: string
  /** The sell cost, US dollars. */
  readonly total_cost: string
  /** What customers pay, by the currency they pay in, ascending. */
  readonly charged: readonly { readonly currency: string; readonly amount: string }[]
}

/** Adds up events. */
export class CorrectionTally {
  #requests = 0
  #unpricedRequests = 0
  #inputTokens = 0
  #outputTokens = 0
  #listCost = ZERO
  #totalCost = ZERO
  readonly #charged = new Map<string, Decimal>()

  /** @param sign -1 takes an event out */
  add({ event, rating, sale }: RatedEvent, sign: 1 | -1 = 1): void {
    const signed = (amount: Decimal) => (sign === 1 ? amount : ZERO.minus(amount))
    this.#requests += sign
    if (rating.status !== 'rated') this.#unpricedRequests += sign
    this.#inputTokens += sign * (event.quantities['input_tokens'] ?? 0)
    this.#outputTokens += sign * (event.quantities['output_tokens'] ?? 0)
    this.#listCost = this.#listCost.plus(signed(rating.listCostUsd))
    this.#totalCost = this.#totalCost.plus(signed(sale.sellCostUsd))
    const currency = sale.conversion?.currency ?? 'USD'
    this.#charged.set(currency, (this.#charged.get(currency) ?? ZERO).plus(signed(chargedAmount(sale))))
  }

  sums(): CorrectionSums {
    return {
      requests: this.#requests,
      unpriced_requests: this.#unpricedRequests,
      input_tokens: this.#inputTokens,
      output_tokens: this.#outputTokens,
      list_cost: decimalText(this.#listCost),
      total_cost: decimalText(this.#totalCost),
      charged: [...this.#charged]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([currency, amount]) => ({ currency, amount: decimalText(amount) })),
    }
  }
}
