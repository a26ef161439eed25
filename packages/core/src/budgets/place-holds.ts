import { type Decimal, ZERO } from '../money/decimal.ts'

/** A limit that holds may not pass, as it stands before a group of them is decided. US dollars. */
export interface HardLimit {
  readonly limitUsd: Decimal
  readonly spentUsd: Decimal
  readonly heldUsd: Decimal
  /** Which amount of a hold counts. */
  readonly basis: 'list' | 'sell'
}

/** A hold that is asked for, with the limits that it falls under. */
export interface AskedHold<Limit extends HardLimit> {
  readonly listUsd: Decimal
  readonly sellUsd: Decimal
  readonly limits: readonly Limit[]
}

export type HoldVerdict<Limit extends HardLimit> =
  | { readonly ok: true; readonly remaining: ReadonlyMap<Limit, Decimal> }
  | {
      readonly ok: false
      readonly refusedBy: Limit
      /** Whether it would fit if nothing were held: it may fit soon. */
      readonly isHeldUp: boolean
    }

/**
 * Decides holds one after the other: each is granted if no limit is passed by what is spent, what is held and what
 * was granted before it. A limit that is reached refuses even a hold of nothing.
 */
export function placeHolds<Limit extends HardLimit>(
  asked: readonly AskedHold<Limit>[],
): readonly HoldVerdict<Limit>[] {
  const granted = new Map<Limit, Decimal>()
  const leftOf = (limit: Limit) =>
    limit.limitUsd
      .minus(limit.spentUsd)
      .minus(limit.heldUsd)
      .minus(granted.get(limit) ?? ZERO)
  return asked.map((hold) => {
    const amountIn = (limit: Limit) => (limit.basis === 'list' ? hold.listUsd : hold.sellUsd)
    const refusedBy = hold.limits.find((limit) => !fits(amountIn(limit), leftOf(limit)))
    if (refusedBy !== undefined) {
      const leftUnheld = refusedBy.limitUsd.minus(refusedBy.spentUsd)
      return { ok: false, refusedBy, isHeldUp: fits(amountIn(refusedBy), leftUnheld) }
    }
    for (const limit of hold.limits) {
      granted.set(limit, (granted.get(limit) ?? ZERO).plus(amountIn(limit)))
    }
    return { ok: true, remaining: new Map(hold.limits.map((limit) => [limit, leftOf(limit)])) }
  })
}

function fits(amount: Decimal, left: Decimal): boolean {
  return left.gt(ZERO) && amount.lte(left)
}
