import { type Decimal, decimalFromLiteral, ZERO } from '../money/decimal.ts'
import { callMultiplier } from '../pricing/call-multiplier.ts'
import type { PriceBook } from '../pricing/price-book.ts'
import type { PriceVersion } from '../pricing/price-version.ts'
import { modelNames } from '../rating/rate.ts'
import { rateCard } from '../rating/rate-card.ts'
import { disjointQuantities } from '../usage/meters.ts'
import type { CallGroup } from './call-group.ts'

/** What is otherwise about a group's calls. */
export interface OtherTerms {
  readonly model?: string
  readonly serviceTier?: string
}

/** A price for a group of calls. */
export interface GroupPrice {
  readonly version: PriceVersion
  readonly costUsd: Decimal
}

/**
 * What a group's calls cost at the prices of a moment, to the last digit what `rate` makes of each of them, added up.
 *
 * @param at the moment, UTC milliseconds
 * @param terms what to change about the calls; absent: nothing
 * @returns undefined where some meter has no price, and where sums do not tell: prices that grow within a call
 *   (`marginal`), or differ by the hour
 */
export function repriceGroup(
  book: PriceBook,
  organizationId: string,
  at: number,
  group: CallGroup,
  terms: OtherTerms = {},
): GroupPrice | undefined {
  const names = terms.model === undefined ? modelNames(group) : [terms.model]
  const tier = terms.serviceTier ?? group.serviceTier
  const call = {
    provider: group.provider,
    serviceTier: tier,
    region: group.region,
    customer: group.customer,
    quantities: { input_tokens: group.inputTokens },
  }
  const version = book.find(organizationId, group.provider, names, at, call)
  return version === undefined ? undefined : priceGroup(version, group, call)
}

/** What a group's calls cost by one version. @returns undefined where sums do not tell, as `repriceGroup` */
export function priceGroup(
  version: PriceVersion,
  group: CallGroup,
  call: Parameters<typeof callMultiplier>[1],
): GroupPrice | undefined {
  if (version.timeOfDay !== undefined) return undefined
  const multiplier = callMultiplier(version, call)
  if (multiplier === undefined) return undefined
  const card = rateCard(version, group.inputTokens, multiplier)
  let costUsd = ZERO
  for (const [meter, quantity] of Object.entries(disjointQuantities(group.quantities))) {
    const price = card.get(meter)
    if (price === undefined || price.brackets !== undefined) return undefined
    costUsd = costUsd.plus(price.usd.times(decimalFromLiteral(quantity)))
  }
  const perRequest = card.get('requests')
  if (perRequest !== undefined)
    costUsd = costUsd.plus(perRequest.usd.times(decimalFromLiteral(group.requests)))
  return { version, costUsd }
}
