import { ZERO } from '../money/decimal.ts'
import { comparableModel } from '../pricing/model-match.ts'
import { PathMemo } from '../pricing/path-memo.ts'
import { catalogueProvider } from '../pricing/provider-aliases.ts'
import { modelNames, type Rating } from '../rating/rate.ts'
import type { MarkupBook } from '../rating/sell.ts'
import type { UsageEvent } from '../usage/usage-event.ts'
import { allRuleSpans, type MarkupRuleVersion, type RuleMatch, type RuleSpan } from './markup-rule.ts'
import { fitsPattern } from './model-pattern.ts'
import { compareSpecificity, specificity } from './precedence.ts'
import { type SellPrice, sellPrice } from './sell-price.ts'

/** What of an event decides which rule matches. */
export type RuleSubject = Pick<
  UsageEvent,
  'provider' | 'model' | 'responseModel' | 'customer' | 'feature' | 'tags'
>

/** The rules of a moment, ready to answer for any event. */
export interface PreparedMarkupBook extends MarkupBook {
  /** The version that applies at a time; undefined when none does. */
  find(organizationId: string, subject: RuleSubject, tsMs: number): MarkupRuleVersion | undefined
}

/** How many distinct subjects of an organization are remembered; the memory is emptied when it is full. */
const MEMO_MAX = 50_000

/**
 * Prepares markup rules for many events.
 *
 * The rule in force at the event's own time decides, the most specific one (`specificity`). A failed event
 * costs nothing and no rule applies to it. An event that was priced in two parts is charged with the second what is missing
 * to the sell cost of the whole: a minimum or a price for each request is due once.
 *
 * @param versions of all organizations, in order of entry
 */
export function buildMarkupBook(versions: readonly MarkupRuleVersion[]): PreparedMarkupBook {
  const books = new Map(
    [...Map.groupBy(versions, ({ organizationId }) => organizationId)].map(([organizationId, own]) => [
      organizationId,
      prepare(own),
    ]),
  )

  const search = (organizationId: string, subject: RuleSubject, tsMs: number): PreparedSpan | undefined => {
    const book = books.get(organizationId)
    if (book === undefined) return undefined
    const candidates = book.memo.get(book.path(subject), () => candidatesFor(book, subject))
    for (const candidate of candidates) {
      if (tsMs >= candidate.startMs && tsMs < candidate.endMs) return candidate
    }
    return undefined
  }

  return {
    find: (organizationId, subject, tsMs) => search(organizationId, subject, tsMs)?.version,
    apply(organizationId, event, rating) {
      if (books.size === 0 || event.status === 'error') return undefined
      const found = search(organizationId, event, event.tsMs)
      if (found === undefined) return undefined
      return { sellCostUsd: sellCost(found.price, event, rating), ruleId: found.version.versionId }
    },
  }
}

interface PreparedSpan extends RuleSpan {
  readonly price: SellPrice
}

interface OrganizationRules {
  /** The most specific first. */
  readonly spans: readonly PreparedSpan[]
  /** What some rule asks for; what none does, such as a request's own number, would make every event new. */
  readonly path: (subject: RuleSubject) => readonly (string | undefined)[]
  readonly memo: PathMemo<readonly PreparedSpan[]>
}

function prepare(versions: readonly MarkupRuleVersion[]): OrganizationRules {
  const spans = allRuleSpans(versions)
    .map((span) => ({
      span: { ...span, price: sellPrice(span.version.terms) },
      rank: specificity(span.version.match),
    }))
    .sort((a, b) => compareSpecificity(a.rank, b.rank))
    .map(({ span }) => span)
  return { spans, path: pathOf(spans.map(({ version }) => version.match)), memo: new PathMemo(MEMO_MAX) }
}

function pathOf(matches: readonly RuleMatch[]): OrganizationRules['path'] {
  const tagNames = [...new Set(matches.flatMap(({ tags }) => Object.keys(tags ?? {})))].sort()
  const hasProvider = matches.some(({ provider }) => provider !== undefined)
  const hasModel = matches.some(({ model }) => model !== undefined)
  const hasFeature = matches.some(({ feature }) => feature !== undefined)
  return (subject) => {
    const path = [subject.customer]
    if (hasProvider) path.push(subject.provider)
    if (hasModel) path.push(subject.model, subject.responseModel)
    if (hasFeature) path.push(subject.feature)
    for (const name of tagNames) path.push(tagOf(subject, name))
    return path
  }
}

function candidatesFor({ spans }: OrganizationRules, subject: RuleSubject): readonly PreparedSpan[] {
  const provider = catalogueProvider(subject.provider)
  const names = modelNames(subject).map(comparableModel)
  const matching = spans.flatMap((span) => {
    const { match } = span.version
    if (match.provider !== undefined && match.provider !== provider) return []
    if (match.customer !== undefined && match.customer !== subject.customer) return []
    if (match.feature !== undefined && match.feature !== subject.feature) return []
    for (const [name, value] of Object.entries(match.tags ?? {})) {
      if (tagOf(subject, name) !== value) return []
    }
    const { model } = match
    const name = model === undefined ? 0 : names.findIndex((one) => fitsPattern(model, one))
    return name === -1 ? [] : [{ span, name, rank: specificity(match) }]
  })
  return matching
    .sort((a, b) => compareSpecificity(a.rank, b.rank) || a.name - b.name)
    .map(({ span }) => span)
}

function tagOf({ tags }: RuleSubject, name: string): string | undefined {
  return tags !== undefined && Object.hasOwn(tags, name) ? tags[name] : undefined
}

function sellCost(price: SellPrice, event: UsageEvent, rating: Rating) {
  const requests = event.quantities['requests']
  const { lines, listCostUsd, earlier } = rating
  if (earlier === undefined || earlier.lines.length === 0) return price({ lines, listCostUsd, requests })
  if (lines.length === 0) return ZERO
  const whole = {
    lines: [...earlier.lines, ...lines],
    listCostUsd: earlier.listCostUsd.plus(listCostUsd),
    requests,
  }
  return price(whole).minus(price({ ...earlier, requests }))
}
