import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import type { PriceBook } from '../pricing/price-book.ts'
import type { UsageEvent } from '../usage/usage-event.ts'
import type { Rating } from './rate.ts'

/** What a customer is charged for an event. Stored with the event and never computed again. */
export interface Sale {
  /** US dollars, exact, not rounded. */
  readonly sellCostUsd: Decimal
  /** The markup rule that made the sell cost of the list cost; null: customers pay the list cost. */
  readonly markupRuleId: string | null
  /** What the customer pays in; null: US dollars. */
  readonly conversion: Conversion | null
}

/** Another currency than US dollars, at the rate that was in force. */
export interface Conversion {
  /** ISO 4217 code. */
  readonly currency: string
  /** Units of the currency for one US dollar, exact decimal text; the sell cost times this is what is charged. */
  readonly rate: string
  /** The day that the rate was published for, `YYYY-MM-DD`. */
  readonly rateDate: string
}

/** An organization's markup rules, as of one revision. */
export interface MarkupBook {
  /**
   * The sell cost of an event by the most specific rule that was in force at the event's own time.
   *
   * @returns undefined when no rule matches: the customer pays the list cost
   */
  apply(
    organizationId: string,
    event: UsageEvent,
    rating: Rating,
  ): { readonly sellCostUsd: Decimal; readonly ruleId: string } | undefined
}

/** The currencies that customers pay in, with the exchange rates known, as of one revision. */
export interface CurrencyBook {
  /** @returns null when the customer pays in US dollars */
  conversion(organizationId: string, customer: string | undefined, tsMs: number): Conversion | null
}

/** Everything that decides what an event is sold for. */
export interface SellBook {
  readonly markups: MarkupBook
  readonly currencies: CurrencyBook
}

/** Everything that decides what an event costs and is sold for, read in one snapshot. */
export interface RatingBook extends SellBook {
  /** Grows with every change of prices, markup rules, currencies and exchange rates; tells replicas apart. */
  readonly revision: number
  readonly prices: PriceBook
}

/** Customers pay the list cost. */
export const NO_MARKUPS: MarkupBook = { apply: () => undefined }

/** Customers pay in US dollars. */
export const NO_CURRENCIES: CurrencyBook = { conversion: () => null }

/** The one place where a list cost becomes a sell cost. */
export function sell(organizationId: string, event: UsageEvent, rating: Rating, book: SellBook): Sale {
  const marked = book.markups.apply(organizationId, event, rating)
  return {
    sellCostUsd: marked?.sellCostUsd ?? rating.listCostUsd,
    markupRuleId: marked?.ruleId ?? null,
    conversion: book.currencies.conversion(organizationId, event.customer, event.tsMs),
  }
}

/** What is charged in the customer's own currency; exact. */
export function chargedAmount(sale: Sale): Decimal {
  if (sale.conversion === null) return sale.sellCostUsd
  return sale.sellCostUsd.eq(ZERO) ? ZERO : sale.sellCostUsd.times(decimal(sale.conversion.rate))
}
