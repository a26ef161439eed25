import { type Decimal, decimalText, ZERO } from '../money/decimal.ts'
import { percentText } from '../money/divide.ts'

/** Digits after the point of a margin in percent. */
const PERCENT_PLACES = 2

/** What is left of a sale. */
export interface Margin {
  /** Sell less list cost; exact decimal text, US dollars, negative where something is sold below cost. */
  readonly margin: string
  /** Of the sell cost, as in gross margin; rounded half to even at two digits. Null where nothing was sold. */
  readonly marginPercent: string | null
}

/** The margin of a sum of sales. */
export function marginOf(listCostUsd: Decimal, sellCostUsd: Decimal): Margin {
  const margin = sellCostUsd.minus(listCostUsd)
  return {
    margin: decimalText(margin),
    marginPercent: sellCostUsd.eq(ZERO) ? null : percentText(margin, sellCostUsd, PERCENT_PLACES),
  }
}
