import { z } from 'zod'
import { decimal, decimalFromLiteral, decimalText } from '../money/decimal.ts'
import { catalogueProvider } from '../pricing/provider-aliases.ts'
import type { FieldIssue } from '../usage/usage-event.ts'
import type { MarkupBasis, MarkupRule, MarkupTerms, RuleMatch } from './markup-rule.ts'
import { comparablePattern } from './model-pattern.ts'

/**
 * Markup rules in JSON, as the API takes and shows them and as rule files write them. The words of JSON and
 * those of the code meet in this file.
 */

/** A rule as it is asked for; entering it makes a version. */
export interface RuleDraft {
  readonly rule: MarkupRule
  /** From when; undefined: at once. */
  readonly fromMs: number | undefined
  readonly untilMs: number | null
}

const AMOUNT = /^-?(0|[1-9]\d{0,17})(\.\d{1,18})?$/
/** A double carries 15 decimal digits without loss; more must be written as text. */
const NUMBER_DIGITS_MAX = 15

interface Bounds {
  readonly max: string
  readonly negative: string
  readonly above: string
}

/** An exact decimal from text or a JSON number, in plain notation. */
function amount({ max, negative, above }: Bounds) {
  return z
    .union([z.string(), z.number()], { error: 'must be a decimal number, such as 0.20 or "0.20"' })
    .transform((value, context) => {
      const text = typeof value === 'string' ? value.trim() : literal(value)
      const problem =
        text === undefined
          ? `has more than ${NUMBER_DIGITS_MAX} digits: write it as text, "…", so that none is lost`
          : !AMOUNT.test(text)
            ? 'must be a decimal number with at most 18 digits before and after the point, such as 0.20'
            : decimal(text).lt(decimal('0'))
              ? negative
              : decimal(text).gt(decimal(max))
                ? above
                : undefined
      if (problem === undefined && text !== undefined) return decimalText(decimal(text))
      context.issues.push({ code: 'custom', message: problem ?? '', input: value })
      return z.NEVER
    })
}

function literal(value: number): string | undefined {
  const text = decimalText(decimalFromLiteral(value))
  return text.replace(/^-?0*\.?0*|\./g, '').length > NUMBER_DIGITS_MAX ? undefined : text
}

const MARKUP_MAX = '100'
const PRICE_MAX = '1000000'
const PER_REQUEST_MAX = '10000'

const price = amount({
  max: PRICE_MAX,
  negative: 'must not be negative',
  above: `is absurd: at most ${PRICE_MAX} dollars`,
})
const perRequest = amount({
  max: PER_REQUEST_MAX,
  negative: 'must not be negative',
  above: `is absurd: at most ${PER_REQUEST_MAX} dollars a request`,
})

const NUL = '\0'
const text = (max: number) =>
  z
    .string('must be text')
    .refine(
      (value) => value.isWellFormed() && !value.includes(NUL),
      'must be well-formed Unicode without NUL',
    )
    .min(1, 'must not be empty')
    .max(max, `must have at most ${max} characters`)

const DATE = /^\d{4}-\d{2}-\d{2}$/
const time = (description: string) =>
  z
    .union([z.iso.date(), z.iso.datetime({ offset: true })], {
      error: 'must be a date (2026-12-01: 00:00 UTC) or an instant (2026-12-01T08:00:00Z)',
    })
    .describe(description)

/** Rule ids stand in paths and in files. */
export const ruleId = z
  .string('must be text')
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
    'must be 1 to 128 letters, digits and . _ -, the first a letter or digit',
  )

const prices = z
  .record(
    z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, 'a meter is named in snake_case, 63 characters at most'),
    z.strictObject({
      price: price.describe('US dollars for `per` units.'),
      per: z.union([z.literal(1), z.literal(1000), z.literal(1_000_000)], {
        error: 'must be 1, 1000 or 1000000',
      }),
    }),
    'must be prices by meter',
  )
  .refine((all) => Object.keys(all).length > 0, 'at least one meter needs a price')
  .refine((all) => Object.keys(all).length <= 100, 'at most 100 meters')

const fields = {
  provider: text(128)
    .optional()
    .describe('Only this provider. Other names of it (`azure.ai.openai`) are taken as its own (`azure`).'),
  model: text(512).optional().describe('Only this model; `*` stands for any characters: `gpt-4o*`.'),
  customer: text(512).optional().describe('Only this customer.'),
  feature: text(512).optional().describe('Only this feature.'),
  tags: z
    .record(text(64), z.string('must be text').max(512), 'must be text by tag name')
    .refine((tags) => Object.keys(tags).length <= 20, 'at most 20 tags')
    .optional()
    .describe('Only events with all of these tags.'),
  markup: amount({
    max: MARKUP_MAX,
    negative: 'must not be negative: a price below the list is a `discount`',
    above: `is absurd: 0.20 is 20 % more, and at most ${MARKUP_MAX} is taken`,
  })
    .optional()
    .describe('The list cost and this fraction of it: 0.20 is 20 % more.'),
  discount: amount({
    max: '1',
    negative: 'must not be negative: a price above the list is a `markup`',
    above: 'must not be more than 1: 0.10 is 10 % less',
  })
    .optional()
    .describe('The list cost less this fraction of it: 0.10 is 10 % less.'),
  prices: prices.optional().describe('Sell prices by meter, instead of the list prices.'),
  price_per_request: perRequest
    .optional()
    .describe('US dollars for each request, whatever is in it, instead of the list prices.'),
  minimum: perRequest.optional().describe('US dollars: each request costs at least this much.'),
  effective_date: time(
    'From when: a date (00:00 UTC) or an instant, not in the past. Absent: at once.',
  ).optional(),
  until: time('When it ends, excluded: a date (00:00 UTC) or an instant. Absent: it does not.').optional(),
}

const BASES = ['markup', 'discount', 'prices', 'price_per_request'] as const

/** What only shows when fields are seen together. Runs also when one of them is wrong, to say all at once. */
function contradictions(value: unknown, context: { addIssue(issue: Contradiction): void }): void {
  if (typeof value !== 'object' || value === null) return
  const given = BASES.filter((basis) => basis in value && Object.entries(value).some(isGiven(basis)))
  const complain = (field: string, message: string) =>
    context.addIssue({ code: 'custom', path: [field], message })
  for (const basis of given.slice(1)) {
    complain(basis, `goes without ${given[0]}: a rule has one way of pricing`)
  }
  if (given.length === 0 && !Object.entries(value).some(isGiven('minimum'))) {
    complain('markup', `is missing: a rule needs one of ${BASES.join(', ')}, or a minimum`)
  }
  const from = 'effective_date' in value ? instant(value.effective_date) : undefined
  const until = 'until' in value ? instant(value.until) : undefined
  if (from !== undefined && until !== undefined && until <= from) {
    complain('until', 'must lie after effective_date')
  }
}

type Contradiction = { readonly code: 'custom'; readonly path: string[]; readonly message: string }

const isGiven =
  (field: string) =>
  ([name, value]: [string, unknown]) =>
    name === field && value !== undefined
const always = { when: () => true }

/** A rule without its id, as `PUT /api/v1/markup-rules/{id}` takes it. */
export const markupRuleBody = z.strictObject(fields).superRefine(contradictions, always)

/** A rule with its id. */
export const markupRuleJson = z
  .strictObject({ id: ruleId.describe('Your name for the rule.'), ...fields })
  .superRefine(contradictions, always)

/** A rule whose id may be left to the service. */
export const newMarkupRuleJson = z
  .strictObject({ id: ruleId.optional().describe('Your name for the rule; made when absent.'), ...fields })
  .superRefine(contradictions, always)

/** The JSON form of a rule, as it is written. */
export type MarkupRuleJson = z.input<typeof markupRuleJson>

/** Reads a rule that a schema above has taken. */
export function ruleDraft(id: string, json: z.output<typeof markupRuleBody>): RuleDraft {
  return {
    rule: { id, match: matchOf(json), terms: { basis: basisOf(json), minimum: json.minimum ?? null } },
    fromMs: instant(json.effective_date),
    untilMs: instant(json.until) ?? null,
  }
}

/** Reads a rule of a file. Reports every problem at once, each with its field. */
export function readRule(
  json: unknown,
): { readonly draft: RuleDraft } | { readonly issues: readonly FieldIssue[] } {
  const parsed = markupRuleJson.safeParse(json)
  if (parsed.success) {
    const { id, ...body } = parsed.data
    return { draft: ruleDraft(id, body) }
  }
  return {
    issues: parsed.error.issues.flatMap((issue): FieldIssue[] => {
      const parent = issue.path.map(String)
      if (issue.code === 'unrecognized_keys') {
        return issue.keys.map((key) => ({ path: [...parent, key].join('.'), message: 'unknown field' }))
      }
      return [{ path: parent.join('.'), message: issue.message }]
    }),
  }
}

/** What a rule matches and how it prices, in JSON; times are the caller's to add. */
export function ruleToJson({ match, terms }: Pick<MarkupRule, 'match' | 'terms'>) {
  return { ...match, ...basisToJson(terms.basis), ...(terms.minimum !== null && { minimum: terms.minimum }) }
}

function basisToJson(basis: MarkupBasis) {
  switch (basis.kind) {
    case 'list':
      return {}
    case 'markup':
      return { markup: basis.markup }
    case 'discount':
      return { discount: basis.discount }
    case 'prices':
      return { prices: basis.prices }
    case 'price_per_request':
      return { price_per_request: basis.price }
  }
}

function matchOf(json: z.output<typeof markupRuleBody>): RuleMatch {
  const { provider, model, customer, feature, tags } = json
  return {
    ...(provider !== undefined && { provider: catalogueProvider(provider) }),
    ...(model !== undefined && { model: comparablePattern(model) }),
    ...(customer !== undefined && { customer }),
    ...(feature !== undefined && { feature }),
    ...(tags !== undefined && Object.keys(tags).length > 0 && { tags: sorted(tags) }),
  }
}

function basisOf(json: z.output<typeof markupRuleBody>): MarkupTerms['basis'] {
  if (json.markup !== undefined) return { kind: 'markup', markup: json.markup }
  if (json.discount !== undefined) return { kind: 'discount', discount: json.discount }
  if (json.prices !== undefined) return { kind: 'prices', prices: sorted(json.prices) }
  if (json.price_per_request !== undefined) {
    return { kind: 'price_per_request', price: json.price_per_request }
  }
  return { kind: 'list' }
}

/** By name, so that the same content is the same text. */
function sorted<T>(record: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function instant(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined
  const ms = Date.parse(DATE.test(value) ? `${value}T00:00:00Z` : value)
  return Number.isNaN(ms) ? undefined : ms
}
