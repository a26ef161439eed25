import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import { invoiceDigits } from '../money/minor-units.ts'
import type { BillingProfile, LineDimension } from './billing-profile.ts'
import { localDate } from './cycle.ts'
import type { InvoiceLine, LineConversion, LineKind } from './invoice.ts'
import { roundAmount, roundLines } from './round-lines.ts'

/** Sums of entries of the ledger that are alike in `keys`, and were sold in the same currency at the same rate. */
export interface UsageSum {
  /** Usage of an earlier cycle that came after its invoice. */
  readonly isLate: boolean
  /** At least the dimensions of the profile's `lines_by`; null: without one. */
  readonly keys: Readonly<Partial<Record<LineDimension, string | null>>>
  /** Reversals count -1, late ratings 0: their events were counted before. */
  readonly events: number
  /** Tokens, or units of the meter. Exact decimal text, as are the amounts. */
  readonly quantity: string
  readonly listCostUsd: string
  readonly sellCostUsd: string
  /** `USD` for US dollars. */
  readonly soldIn: string
  /** Units of `soldIn` for one US dollar, and the day of that rate; null for US dollars. */
  readonly rate: string | null
  readonly rateDate: string | null
  /** Entries with a meter that has no price: what it would cost is not in the amounts. */
  readonly unpricedEvents: number
}

/** What usage that was not sold in the invoice's currency is converted at. */
export interface InvoiceRate {
  /** Units of the invoice's currency for one US dollar. */
  readonly rate: string
  /** `YYYY-MM-DD` */
  readonly rateDate: string
}

export interface DraftRequest {
  readonly profile: BillingProfile
  /** When the cycle begins, UTC milliseconds. */
  readonly startMs: number
  readonly sums: readonly UsageSum[]
  /** Undefined where none is known, or needed. */
  readonly rate: InvoiceRate | undefined
  /** What earlier negative invoices handed on, decimal text in the invoice's currency; "0": nothing. */
  readonly carriedIn: string
  /** Hands a negative total on to the next invoice. */
  readonly carriesOut: boolean
}

/** An invoice that is not written. */
export interface InvoiceDraft {
  readonly lines: readonly InvoiceLine[]
  /** Decimal text. */
  readonly total: string
  /** Why it cannot be finalized; null: it can. */
  readonly reason: string | null
  readonly notes: readonly string[]
  readonly unpricedEvents: number
}

/** What an amount is multiplied by; undefined: no rate is known. */
export interface AppliedRate {
  readonly rate: string
  readonly rateDate: string | null
}

/**
 * The rate from US dollars to the invoice's currency: events that were sold in it keep their own, all others are
 * converted at the invoice's.
 *
 * @returns undefined when a rate is needed and none is known
 */
export function appliedRate(
  currency: string,
  sold: Pick<UsageSum, 'soldIn' | 'rate' | 'rateDate'>,
  invoiceRate: InvoiceRate | undefined,
): AppliedRate | undefined {
  if (currency === 'USD') return { rate: '1', rateDate: null }
  if (sold.soldIn === currency && sold.rate !== null) return { rate: sold.rate, rateDate: sold.rateDate }
  return invoiceRate
}

/**
 * The lines of an invoice: usage in the order of its keys, late usage after it, then what the profile agrees on.
 *
 * - `allowance` takes away what is included, at most the usage.
 * - `discount` is a share of what is left, `minimum` what is then missing to the least. What is negative, because of
 *   corrections of earlier usage, stays a credit: the minimum is made up from zero.
 * - `carried_in` and `carried_out` come last.
 */
export function draftInvoice(request: DraftRequest): InvoiceDraft {
  const { profile, sums, carriedIn, carriesOut } = request
  const { currency } = profile
  const digits = invoiceDigits(currency)
  const unpricedEvents = Math.max(
    0,
    sums.reduce((count, sum) => count + sum.unpricedEvents, 0),
  )
  const notes = unpricedEvents === 0 ? [] : [unpricedNote(unpricedEvents)]

  const usage = usageLines(request)
  if (usage === undefined) {
    const reason = `No exchange rate from USD to ${currency} is known for the last day of the cycle or before.`
    return { lines: [], total: '0', reason, notes, unpricedEvents }
  }
  const rounded = roundLines(
    usage.map(({ exactAmount }) => decimal(exactAmount)),
    digits,
  )
  const lines: InvoiceLine[] = usage.map((line, index) => ({
    ...line,
    lineNo: index + 1,
    amount: decimalText(rounded.amounts[index] ?? ZERO),
  }))
  let total = rounded.total
  const add = (kind: LineKind, description: string, exact: Decimal) => {
    const amount = roundAmount(exact, digits)
    if (amount.eq(ZERO)) return
    lines.push({
      ...NO_USAGE,
      lineNo: lines.length + 1,
      kind,
      description,
      exactAmount: decimalText(exact),
      amount: decimalText(amount),
    })
    total = total.plus(amount)
  }

  const allowance = decimal(profile.allowance)
  add('allowance', 'Included usage', lesser(allowance, positive(total)).times(decimal('-1')))
  add(
    'discount',
    `Discount of ${decimalText(decimal(profile.discount).times(decimal('100')))} %`,
    positive(total).times(decimal(profile.discount)).times(decimal('-1')),
  )
  const minimum = decimal(profile.minimum)
  add('minimum', `Minimum of ${profile.minimum} ${currency}`, positive(minimum.minus(positive(total))))
  add('carried_in', 'Carried over from earlier invoices', decimal(carriedIn))
  if (carriesOut && total.lt(ZERO)) {
    add('carried_out', 'Carried over to the next invoice', total.times(decimal('-1')))
  }
  return { lines, total: decimalText(total), reason: problemOf(profile, total), notes, unpricedEvents }
}

/** Why an invoice with this total cannot be a draft; null: it can. */
function problemOf(profile: BillingProfile, total: Decimal): string | null {
  if (total.lt(ZERO)) {
    return `The total is negative (${decimalText(total)} ${profile.currency}): carry it forward to the next invoice, or void it.`
  }
  const isStripe = profile.system === 'stripe_invoices' || profile.system === 'stripe_meters'
  if (isStripe && !isGiven(profile.stripe_customer_id)) {
    return 'The billing profile names Stripe, but no stripe_customer_id.'
  }
  if (profile.system === 'chargebee' && !isGiven(profile.chargebee_customer_id)) {
    return 'The billing profile names Chargebee, but no chargebee_customer_id.'
  }
  return null
}

function isGiven(id: string | null | undefined): boolean {
  return id !== null && id !== undefined
}

function unpricedNote(count: number): string {
  return `${grouped(String(count))} ${count === 1 ? 'event has' : 'events have'} a meter without a price, which is not charged. Once it has one, it is late usage of the next invoice.`
}

interface Group {
  readonly isLate: boolean
  readonly values: readonly (string | null)[]
  readonly sums: UsageSum[]
}

/** Usage lines that are not rounded yet; undefined when a rate is missing. */
function usageLines({
  profile,
  startMs,
  sums,
  rate,
}: DraftRequest): readonly Omit<InvoiceLine, 'lineNo' | 'amount'>[] | undefined {
  const groups = new Map<string, Group>()
  for (const sum of sums) {
    const values = profile.lines_by.map((name) => sum.keys[name] ?? null)
    const key = JSON.stringify([sum.isLate, ...values])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { isLate: sum.isLate, values, sums: [sum] })
    else group.sums.push(sum)
  }
  const lateNote = ` (late usage before ${localDate(startMs, profile.timezone)})`
  const lines: Omit<InvoiceLine, 'lineNo' | 'amount'>[] = []
  for (const { isLate, values, sums: parts } of [...groups.values()].sort(inOrder)) {
    const conversions = conversionsOf(profile.currency, parts, rate)
    if (conversions === undefined) return undefined
    const events = parts.reduce((count, part) => count + part.events, 0)
    const quantity = total(parts, ({ quantity: units }) => units)
    lines.push({
      kind: 'usage',
      description: describe(profile.lines_by, values, events, quantity) + (isLate ? lateNote : ''),
      isLate,
      keys: Object.fromEntries(profile.lines_by.map((name, index) => [name, values[index] ?? null])),
      events,
      quantity,
      listCostUsd: total(parts, ({ listCostUsd }) => listCostUsd),
      sellCostUsd: total(parts, ({ sellCostUsd }) => sellCostUsd),
      conversions,
      exactAmount: total(conversions, ({ amount }) => amount),
    })
  }
  return lines
}

/** One for each rate, in the order of their days; undefined when a rate is missing. */
function conversionsOf(
  currency: string,
  sums: readonly UsageSum[],
  invoiceRate: InvoiceRate | undefined,
): readonly LineConversion[] | undefined {
  const byRate = new Map<string, { soldIn: string; applied: AppliedRate; sellCostUsd: Decimal }>()
  for (const sum of sums) {
    const sellCostUsd = decimal(sum.sellCostUsd)
    const applied = appliedRate(currency, sum, invoiceRate)
    if (applied === undefined) {
      // Nothing times whatever the rate is.
      if (sellCostUsd.eq(ZERO)) continue
      return undefined
    }
    const key = JSON.stringify([applied.rateDate, sum.soldIn, applied.rate])
    const known = byRate.get(key)
    byRate.set(key, {
      soldIn: sum.soldIn,
      applied,
      sellCostUsd: known === undefined ? sellCostUsd : known.sellCostUsd.plus(sellCostUsd),
    })
  }
  return [...byRate]
    .sort(
      ([a, { applied: first }], [b, { applied: second }]) =>
        compare(first.rateDate ?? '', second.rateDate ?? '') || compare(a, b),
    )
    .map(([, { soldIn, applied, sellCostUsd }]) => ({
      soldIn,
      ...applied,
      sellCostUsd: decimalText(sellCostUsd),
      amount: decimalText(sellCostUsd.times(decimal(applied.rate))),
    }))
}

function describe(
  linesBy: readonly LineDimension[],
  values: readonly (string | null)[],
  events: number,
  quantity: string,
): string {
  const names = values.map((value, index) => value ?? `no ${linesBy[index] ?? ''}`)
  const what = names.length === 0 ? 'Usage' : names.join(' · ')
  if (linesBy.includes('meter')) return `${what}, ${grouped(quantity)} ${quantity === '1' ? 'unit' : 'units'}`
  return `${what}, ${grouped(String(events))} ${events === 1 ? 'call' : 'calls'}`
}

/** 1204567.5 as 1,204,567.5. */
function grouped(number: string): string {
  const [whole = '', fraction] = number.split('.')
  const text = whole.replaceAll(/\B(?=(\d{3})+$)/g, ',')
  return fraction === undefined ? text : `${text}.${fraction}`
}

/** Late usage last; by keys, what has none last. */
function inOrder(a: Group, b: Group): number {
  if (a.isLate !== b.isLate) return a.isLate ? 1 : -1
  for (const [index, first] of a.values.entries()) {
    const second = b.values[index] ?? null
    if (first === second) continue
    if (first === null) return 1
    if (second === null) return -1
    return compare(first, second)
  }
  return 0
}

function compare(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

function total<Item>(items: readonly Item[], amount: (item: Item) => string): string {
  return decimalText(items.reduce((sum, item) => sum.plus(decimal(amount(item))), ZERO))
}

function positive(amount: Decimal): Decimal {
  return amount.gt(ZERO) ? amount : ZERO
}

function lesser(a: Decimal, b: Decimal): Decimal {
  return a.lt(b) ? a : b
}

const NO_USAGE = {
  isLate: false,
  keys: {},
  events: 0,
  quantity: '0',
  listCostUsd: '0',
  sellCostUsd: '0',
  conversions: [],
}
