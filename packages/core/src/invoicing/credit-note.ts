import { handOut } from '../gpu/hand-out.ts'
import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'
import { invoiceDigits } from '../money/minor-units.ts'
import type { FieldIssue } from '../usage/usage-event.ts'
import type { BillingProfile } from './billing-profile.ts'
import type { LineKind } from './invoice.ts'

/**
 * What a credit note may give back.
 *
 * - It is tied to lines: what was charged for usage, and what was missing to the minimum. Never more than is left of a
 *   line, and all notes of an invoice together never more than its total.
 * - In full: what is left of the total, handed out over the lines by what is left of each.
 * - From a correction: what the invoice would have been less, had the events been as corrected: its allowance, discount
 *   and minimum count. Only lines that decrease are credited; the decrease is handed out over them.
 */

const ROUND_HALF_EVEN = 2
const CREDITABLE: readonly LineKind[] = ['usage', 'minimum']

/** A line of an invoice, with what notes have given back of it. Amounts are decimal text. */
export interface CreditableLine {
  readonly lineNo: number
  readonly kind: LineKind
  readonly amount: string
  readonly credited: string
}

/** A finalized invoice as a note sees it. Amounts are decimal text in its currency. */
export interface CreditableInvoice {
  readonly currency: string
  readonly total: string
  readonly credited: string
  readonly lines: readonly CreditableLine[]
}

/** An amount, decimal text, of one line. */
export interface CreditedLine {
  readonly lineNo: number
  readonly amount: string
}

export type CreditRequest = { readonly full: true } | { readonly lines: readonly CreditedLine[] }

export type CreditPlan =
  | { readonly ok: true; readonly lines: readonly CreditedLine[]; readonly total: string }
  /** Paths are those of the request. */
  | { readonly ok: false; readonly issues: readonly FieldIssue[] }

/** Decides about a credit note that a person asks for. */
export function planCredit(invoice: CreditableInvoice, request: CreditRequest): CreditPlan {
  const digits = invoiceDigits(invoice.currency)
  const left = unitsLeft(invoice)
  if ('full' in request) {
    if (left.total <= 0n) return refused('full', 'nothing is left of the invoice')
    const open = [...left.lines].filter(([, units]) => units > 0n)
    return planned(
      open.map(([lineNo]) => lineNo),
      handOut(
        left.total,
        open.map(([, units]) => units),
      ),
      digits,
    )
  }
  const issues: FieldIssue[] = []
  const seen = new Set<number>()
  let total = 0n
  for (const [index, { lineNo, amount }] of request.lines.entries()) {
    const path = `lines.${index}`
    const ofLine = left.lines.get(lineNo)
    if (ofLine === undefined) {
      issues.push({ path: `${path}.line_no`, message: 'is not a line that can be credited' })
      continue
    }
    if (seen.has(lineNo)) issues.push({ path: `${path}.line_no`, message: 'is named twice' })
    seen.add(lineNo)
    const exact = decimal(amount)
    if (!exact.round(digits).eq(exact) || exact.lte(ZERO)) {
      issues.push({
        path: `${path}.amount`,
        message: `must be above zero, with at most ${digits} digits after the point`,
      })
      continue
    }
    const units = unitsOf(exact, digits)
    total += units
    if (units > ofLine) {
      issues.push({
        path: `${path}.amount`,
        message: `is more than the ${amountText(ofLine, digits)} that are left of the line`,
      })
    }
  }
  if (issues.length === 0 && total > left.total) {
    issues.push({
      path: 'lines',
      message: `are together more than the ${amountText(left.total, digits)} that are left of the invoice`,
    })
  }
  if (issues.length > 0) return { ok: false, issues }
  return planned(
    request.lines.map(({ lineNo }) => lineNo),
    request.lines.map(({ amount }) => unitsOf(decimal(amount), digits)),
    digits,
  )
}

/** What a correction did to one event of an invoice: its reversal, and the replacement where there is one. */
export interface CorrectedUsage {
  /** Ids of those entries. */
  readonly entries: readonly { readonly eventId: string; readonly amount: Decimal }[]
  /** The line that the event is on. */
  readonly lineNo: number
}

export type CorrectionCredit =
  | {
      readonly kind: 'credit'
      readonly lines: readonly CreditedLine[]
      readonly total: string
      /** What the note settles. The rest comes into the next invoice. */
      readonly settled: readonly CorrectedUsage[]
    }
  | { readonly kind: 'nothing'; readonly reason: string }

/**
 * Decides what a correction gives back on an invoice.
 *
 * @param usageBefore the invoice's usage, not rounded, with what earlier notes have settled of it
 */
export function planCorrectionCredit(
  invoice: CreditableInvoice,
  profile: Pick<BillingProfile, 'allowance' | 'discount' | 'minimum'>,
  usageBefore: Decimal,
  usages: readonly CorrectedUsage[],
): CorrectionCredit {
  const digits = invoiceDigits(invoice.currency)
  const changes = new Map<number, Decimal>()
  for (const { lineNo, entries } of usages) {
    const change = entries.reduce((sum, { amount }) => sum.plus(amount), changes.get(lineNo) ?? ZERO)
    changes.set(lineNo, change)
  }
  const decreases = [...changes]
    .filter(([, change]) => change.lt(ZERO))
    .sort(([a], [b]) => a - b)
    .map(([lineNo, change]) => ({ lineNo, decrease: ZERO.minus(change) }))
  if (decreases.length === 0) {
    return { kind: 'nothing', reason: 'No line of the invoice becomes less.' }
  }
  const decrease = decreases.reduce((sum, one) => sum.plus(one.decrease), ZERO)
  const less = usageCharge(profile, usageBefore).minus(usageCharge(profile, usageBefore.minus(decrease)))
  const left = unitsLeft(invoice)
  const wanted = unitsOf(less.round(digits, ROUND_HALF_EVEN), digits)
  const parts = handOut(wanted, weightsOf(decreases.map((one) => one.decrease))).map((part, index) =>
    lesser(part, left.lines.get(decreases[index]?.lineNo ?? 0) ?? 0n),
  )
  const lines: { lineNo: number; units: bigint }[] = []
  let open = left.total
  for (const [index, part] of parts.entries()) {
    const units = lesser(part, open)
    if (units <= 0n) continue
    open -= units
    lines.push({ lineNo: decreases[index]?.lineNo ?? 0, units })
  }
  if (lines.length === 0) {
    return {
      kind: 'nothing',
      reason: 'The invoice would have been the same, or nothing is left of its lines.',
    }
  }
  const lower = new Set(decreases.map(({ lineNo }) => lineNo))
  const plan = planned(
    lines.map(({ lineNo }) => lineNo),
    lines.map(({ units }) => units),
    digits,
  )
  return {
    kind: 'credit',
    lines: plan.lines,
    total: plan.total,
    settled: usages.filter(({ lineNo }) => lower.has(lineNo)),
  }
}

/** What usage costs after allowance, discount and minimum; not rounded. */
export function usageCharge(
  { allowance, discount, minimum }: Pick<BillingProfile, 'allowance' | 'discount' | 'minimum'>,
  usage: Decimal,
): Decimal {
  const included = decimal(allowance)
  const beyond = usage.minus(positive(usage).lt(included) ? positive(usage) : included)
  const discounted = beyond.minus(positive(beyond).times(decimal(discount)))
  return discounted.plus(positive(decimal(minimum).minus(positive(discounted))))
}

function unitsLeft({ currency, total, credited, lines }: CreditableInvoice): {
  readonly total: bigint
  readonly lines: ReadonlyMap<number, bigint>
} {
  const digits = invoiceDigits(currency)
  const minus = (whole: string, part: string) => unitsOf(decimal(whole).minus(decimal(part)), digits)
  return {
    total: minus(total, credited),
    lines: new Map(
      lines
        .filter(({ kind, amount }) => CREDITABLE.includes(kind) && decimal(amount).gt(ZERO))
        .map((line) => [line.lineNo, minus(line.amount, line.credited)]),
    ),
  }
}

function planned(
  lineNos: readonly number[],
  units: readonly bigint[],
  digits: number,
): CreditPlan & { readonly ok: true } {
  const lines = lineNos.flatMap((lineNo, index) => {
    const part = units[index] ?? 0n
    return part === 0n ? [] : [{ lineNo, amount: amountText(part, digits) }]
  })
  return {
    ok: true,
    lines: lines.sort((a, b) => a.lineNo - b.lineNo),
    total: amountText(
      units.reduce((sum, part) => sum + part, 0n),
      digits,
    ),
  }
}

function refused(path: string, message: string): CreditPlan {
  return { ok: false, issues: [{ path, message }] }
}

/** Whole numbers in proportion to decimals that are not negative. */
function weightsOf(amounts: readonly Decimal[]): readonly bigint[] {
  const places = Math.max(0, ...amounts.map((amount) => amount.c.length - 1 - amount.e))
  return amounts.map((amount) => unitsOf(amount, places))
}

function unitsOf(amount: Decimal, digits: number): bigint {
  return BigInt(decimalText(amount.times(decimal(`1e${digits}`))))
}

function amountText(units: bigint, digits: number): string {
  return decimalText(decimal(units).times(decimal(`1e-${digits}`)))
}

function positive(amount: Decimal): Decimal {
  return amount.gt(ZERO) ? amount : ZERO
}

function lesser(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}
