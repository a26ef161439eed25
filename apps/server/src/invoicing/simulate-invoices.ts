import {
  appliedRate,
  type Decimal,
  decimal,
  decimalText,
  draftInvoice,
  type Invoice,
  type InvoiceRate,
  type MarkupRule,
  type UsageSum,
  ZERO,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { ruleChooser, sellUsage } from '../simulation/index.ts'
import { readRates } from './compute-invoice.ts'
import { type ChargedInvoice, entriesSource, lastInvoices } from './simulation-store.ts'

/**
 * What each customer's last invoices would have been under other markup rules. Nothing is written.
 *
 * An invoice's entries are those that it was made of. They are sold by the rules at hand, at the exchange rates that they were
 * sold at, and the invoice's own profile goes on top: allowance, discount, minimum. Invoices that select alike share a
 * pass over the ledger. What is carried over between invoices is left out on both sides.
 */

export interface InvoiceSimulationRequest {
  readonly organizationId: string
  /** As if each had been in force all the time; none of them tie. */
  readonly rules: readonly MarkupRule[]
  /** Undefined: all that have invoices. */
  readonly customers: readonly string[] | undefined
  /** Of each customer, the last ones. */
  readonly count: number
}

/** In the invoice's currency. */
export interface InvoiceSums {
  readonly listCost: Decimal
  readonly revenueBefore: Decimal
  readonly revenueAfter: Decimal
}

export interface SimulatedInvoice extends InvoiceSums {
  readonly invoice: Invoice
  /** Why there is no answer, and the sums are zero; null: there is one. */
  readonly reason: string | null
}

export type InvoiceSimulationStep =
  | { readonly kind: 'progress'; readonly fraction: number; readonly events: number }
  | { readonly kind: 'result'; readonly invoices: readonly SimulatedInvoice[] }

/** Tells how far it is after each pass, and at last the result, by customer and cycle. */
export async function* simulateInvoices(
  pool: Pool,
  request: InvoiceSimulationRequest,
): AsyncGenerator<InvoiceSimulationStep> {
  const { organizationId, rules } = request
  const charged = await lastInvoices(pool, request)
  const chooser = ruleChooser({ rules, groupBy: ['customer_id', 'entry_sale'] })
  const simulated = new Map<ChargedInvoice, SimulatedInvoice>()
  let events = 0
  for (const group of alike(charged)) {
    const [first] = group
    if (first === undefined) continue
    const source = entriesSource({
      organizationId,
      customers: group.map(({ invoice: { customer, selection } }) => ({
        customer,
        sinceMs: selection.sinceMs,
      })),
      selection: first.invoice.selection,
    })
    const sums = new Map<string, UsageSum[]>()
    for (const { group: usage, sums: sold } of await sellUsage(pool, source, chooser)) {
      const customer = chooser.traitOf(usage, 'customer_id') ?? ''
      const sum = usageSum(chooser.traitOf(usage, 'entry_sale') ?? '', sold)
      const known = sums.get(customer)
      if (known === undefined) sums.set(customer, [sum])
      else known.push(sum)
      events += sold.events
    }
    const rates = await readRates(
      pool,
      organizationId,
      group.map(({ invoice }) => invoice),
    )
    for (const [index, one] of group.entries()) {
      simulated.set(one, simulate(one, sums.get(one.invoice.customer) ?? [], rates[index]))
    }
    yield { kind: 'progress', fraction: simulated.size / charged.length, events }
  }
  yield { kind: 'result', invoices: charged.flatMap((one) => simulated.get(one) ?? []) }
}

/** Invoices that select alike. A customer has no two of them. */
function alike(charged: readonly ChargedInvoice[]): readonly (readonly ChargedInvoice[])[] {
  const groups = new Map<string, ChargedInvoice[]>()
  for (const one of charged) {
    const { startMs, endMs, previousPosition, position } = one.invoice.selection
    const key = JSON.stringify([startMs, endMs, previousPosition, position])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [one])
    else group.push(one)
  }
  return [...groups.values()]
}

/** @param sale currency, rate and its day, with bars between; the currency alone for US dollars */
function usageSum(
  sale: string,
  sold: { readonly events: number; readonly listCostUsd: Decimal; readonly sellAfterUsd: Decimal },
): UsageSum {
  const [soldIn = 'USD', rate, rateDate] = sale.split('|')
  return {
    isLate: false,
    keys: {},
    events: sold.events,
    quantity: '0',
    listCostUsd: decimalText(sold.listCostUsd),
    sellCostUsd: decimalText(sold.sellAfterUsd),
    soldIn,
    rate: rate ?? null,
    rateDate: rateDate ?? null,
    unpricedEvents: 0,
  }
}

function simulate(
  { invoice, charged }: ChargedInvoice,
  sums: readonly UsageSum[],
  rate: InvoiceRate | undefined,
): SimulatedInvoice {
  let listCost = ZERO
  for (const sum of sums) {
    const applied = appliedRate(invoice.currency, sum, rate)
    if (applied === undefined) {
      const reason = `No exchange rate from USD to ${invoice.currency} is known for the last day of the cycle or before.`
      return { invoice, reason, listCost: ZERO, revenueBefore: ZERO, revenueAfter: ZERO }
    }
    listCost = listCost.plus(decimal(sum.listCostUsd).times(decimal(applied.rate)))
  }
  // Lines add up to the total whatever they are told apart by.
  const { total } = draftInvoice({
    profile: { ...invoice.profile, lines_by: [] },
    startMs: invoice.selection.startMs,
    sums,
    rate,
    carriedIn: '0',
    carriesOut: false,
  })
  return { invoice, reason: null, listCost, revenueBefore: decimal(charged), revenueAfter: decimal(total) }
}
