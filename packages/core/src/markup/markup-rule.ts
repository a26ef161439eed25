/** How a list cost becomes a sell cost, for the events that a rule matches. */
export interface MarkupRule {
  /** The organization's own name for the rule; the same through all its versions. */
  readonly id: string
  readonly match: RuleMatch
  readonly terms: MarkupTerms
}

/** What an event must carry; what is absent matches everything. */
export interface RuleMatch {
  /** A catalogue id (`catalogueProvider`). */
  readonly provider?: string
  /** A model or a pattern with `*` (`comparablePattern`); the model that answered or the one asked for fits. */
  readonly model?: string
  readonly customer?: string
  readonly feature?: string
  /** All of these, each with this value. */
  readonly tags?: Readonly<Record<string, string>>
}

/** What the customer pays. All amounts are exact decimal text, US dollars or fractions. */
export interface MarkupTerms {
  readonly basis: MarkupBasis
  /** At least this much for every request; null: no minimum. */
  readonly minimum: string | null
}

/**
 * - `list`: the list cost.
 * - `markup`: the list cost and a fraction of it; 0.20 is 20 % more.
 * - `discount`: the list cost less a fraction of it; 0.10 is 10 % less.
 * - `prices`: prices of our own by meter instead of the provider's. A meter that the rule does not price but
 *   that is part of one it does (METERS[…].pricedAs) has that one's price; any other costs what it is listed at.
 * - `price_per_request`: one price for each request, whatever is in it.
 */
export type MarkupBasis =
  | { readonly kind: 'list' }
  | { readonly kind: 'markup'; readonly markup: string }
  | { readonly kind: 'discount'; readonly discount: string }
  | { readonly kind: 'prices'; readonly prices: Readonly<Record<string, FixedPrice>> }
  | { readonly kind: 'price_per_request'; readonly price: string }

/** A sell price of one meter. */
export interface FixedPrice {
  /** US dollars for `per` units. */
  readonly price: string
  readonly per: 1 | 1000 | 1_000_000
}

/**
 * A rule from a time on. Never changed: an edit is another version, and the end of a rule is a version that
 * removes it.
 */
export interface MarkupRuleVersion extends MarkupRule {
  /** What a rated event keeps. */
  readonly versionId: string
  readonly organizationId: string
  /** Counts the versions of a rule, from 1. */
  readonly version: number
  /** When it was entered, UTC milliseconds. */
  readonly enteredMs: number
  /** From when on it replaces earlier versions, UTC milliseconds; not before it was entered. */
  readonly fromMs: number
  /** When it ends by itself, excluded; null: when another version replaces it. */
  readonly untilMs: number | null
  /** The version ends the rule: from `fromMs` on there is none. */
  readonly isRemoval: boolean
}

/** When a version is in force: `startMs` included, `endMs` excluded. */
export interface RuleSpan {
  readonly version: MarkupRuleVersion
  readonly startMs: number
  /** Infinity: no end is known yet. */
  readonly endMs: number
}

/**
 * When each version of one rule is in force. A version ends the one that is in force at its start, and takes the
 * place of one that was entered before and has not begun: the last word counts. What ended by itself does not
 * come back. No span changes before the time at which the last version was entered.
 *
 * @param versions of one rule, in order of entry
 */
export function ruleSpans(versions: readonly MarkupRuleVersion[]): readonly RuleSpan[] {
  let standing: MarkupRuleVersion[] = []
  for (const version of versions) {
    standing = [...standing.filter(({ fromMs }) => fromMs <= version.enteredMs), version]
  }
  return standing.flatMap((version, index) => {
    const startMs = version.fromMs
    const endMs = Math.min(version.untilMs ?? Infinity, standing[index + 1]?.fromMs ?? Infinity)
    return version.isRemoval || endMs <= startMs ? [] : [{ version, startMs, endMs }]
  })
}

/** When each version of all rules of an organization is in force. */
export function allRuleSpans(versions: readonly MarkupRuleVersion[]): readonly RuleSpan[] {
  return [...Map.groupBy(versions, ({ id }) => id).values()].flatMap(ruleSpans)
}
