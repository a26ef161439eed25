import {
  type BillingProfile,
  draftInvoice,
  type InvoiceDraft,
  type InvoiceRate,
  type InvoiceSelection,
  LINE_DIMENSIONS,
  type LineDimension,
  type UsageSum,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { ECB, lastRate, rateSources } from '../pricing/index.ts'
import type { ClosingDependencies } from './close-cycles.ts'
import {
  balanceKey,
  type ComputedInvoice,
  type ComputedTarget,
  carriedBalances,
  lockTargets,
  writeRevisions,
} from './compute-store.ts'
import { openInvoices } from './finalize.ts'
import { lockInvoicesOf } from './lock.ts'
import { usageSums } from './usage-sums.ts'

/**
 * Computes the lines of invoices: a pure function of the ledger, what the invoice selects, and the customer's billing
 * profile. Invoices that select alike are summed in one pass over the ledger.
 */

/** In one transaction. */
const INVOICES_AT_ONCE = 1_000
/** For the events of a whole cycle, and for another run that sums them up; other statements have a minute. */
const STATEMENT_TIMEOUT_MS = 30 * 60_000

export interface ComputeRequest {
  readonly organizationId: string
  /** Undefined: all that are pending. Those that are no longer pending, draft or blocked are left alone. */
  readonly invoiceIds?: readonly string[]
  /** Hands negative totals on to the next invoice. */
  readonly carriesOut?: boolean
}

/**
 * Writes new revisions of invoices: as drafts, or blocked with the reason; drafts whose profile says so are finalized
 * at once, unless something in them has no price. What is wrong with one invoice stands on it, and stops no other.
 *
 * @returns how many were computed
 */
export async function computeInvoices(
  { pool, now }: ClosingDependencies,
  { organizationId, invoiceIds, carriesOut = false }: ComputeRequest,
): Promise<number> {
  let total = 0
  for (;;) {
    const computed = await inTransaction(pool, async (client) => {
      await client.query(`set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`)
      // One at a time: others would sum the same ledger for nothing.
      await client.query(
        "select pg_advisory_xact_lock(hashtext('tokentally.compute_invoices'), hashtext($1))",
        [organizationId],
      )
      const targets = await lockTargets(client, organizationId, invoiceIds, INVOICES_AT_ONCE)
      if (targets.length === 0) return 0
      const drafts = await computeTargets(client, organizationId, targets, carriesOut)
      await writeRevisions(client, organizationId, drafts)
      const ready = drafts.filter(
        ({ target, draft }) =>
          target.profile.finalize === 'auto' && draft.reason === null && draft.unpricedEvents === 0,
      )
      await openInvoices(
        client,
        organizationId,
        ready.map(({ target }) => ({ id: target.invoice.id, netDays: target.profile.net_days })),
        now(),
      )
      return drafts.length
    })
    total += computed
    if (computed < INVOICES_AT_ONCE || invoiceIds !== undefined) return total
  }
}

async function computeTargets(
  client: PoolClient,
  organizationId: string,
  targets: readonly ComputedTarget[],
  carriesOut: boolean,
): Promise<readonly ComputedInvoice[]> {
  const inputs = await readInputs(
    client,
    organizationId,
    targets.map(({ invoice, profile }) => ({
      customer: invoice.customer,
      profile,
      selection: invoice.selection,
    })),
  )
  const customers = [...new Set(targets.map(({ invoice }) => invoice.customer))]
  await lockInvoicesOf(client, organizationId, customers)
  const balances = await carriedBalances(
    client,
    organizationId,
    customers,
    targets.map(({ invoice }) => invoice.id),
  )
  return targets.map((target, index) => {
    const { profile, invoice, hadCarriedOut } = target
    const key = balanceKey(invoice.customer, profile.currency)
    const draft = drafted({
      profile,
      startMs: invoice.selection.startMs,
      sums: inputs[index]?.sums ?? [],
      rate: inputs[index]?.rate,
      carriedIn: balances.get(key) ?? '0',
      carriesOut: carriesOut || hadCarriedOut,
    })
    if (draft.lines.some(({ kind }) => kind === 'carried_in')) balances.delete(key)
    return { target, draft }
  })
}

/** What is wrong with one invoice must not stop the others. */
function drafted(request: Parameters<typeof draftInvoice>[0]): InvoiceDraft {
  try {
    return draftInvoice(request)
  } catch (error) {
    const reason = `Its lines cannot be computed: ${error instanceof Error ? error.message : String(error)}`
    return { lines: [], total: '0', reason, notes: [], unpricedEvents: 0 }
  }
}

/** What the lines of a customer's invoice are made of. */
export interface InvoiceSource {
  readonly customer: string
  readonly profile: BillingProfile
  readonly selection: InvoiceSelection
}

export interface InvoiceInputs {
  readonly sums: readonly UsageSum[]
  /** For usage that was not sold in the invoice's currency; undefined where it is not needed or not known. */
  readonly rate: InvoiceRate | undefined
}

/**
 * Reads what `draftInvoice` needs. Sources that select the same cycle at the same positions share a pass over the ledger.
 *
 * @returns in the order of the sources
 */
export async function readInputs(
  database: Pool | PoolClient,
  organizationId: string,
  sources: readonly InvoiceSource[],
): Promise<readonly InvoiceInputs[]> {
  const groups = new Map<string, InvoiceSource[]>()
  for (const source of sources) {
    const { startMs, endMs, previousPosition, position } = source.selection
    // By meter each event is taken apart: others are spared that.
    const byMeter = source.profile.lines_by.includes('meter')
    const key = JSON.stringify([startMs, endMs, previousPosition, position, byMeter])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [source])
    else group.push(source)
  }
  const sumsOf = new Map<InvoiceSource, readonly UsageSum[]>()
  for (const group of groups.values()) {
    const [first] = group
    if (first === undefined) continue
    const byCustomer = await usageSums(
      database,
      {
        organizationId,
        customers: group.map(({ customer, selection }) => ({ customer, sinceMs: selection.sinceMs })),
        selection: first.selection,
      },
      dimensionsOf(group),
    )
    for (const source of group) sumsOf.set(source, byCustomer.get(source.customer) ?? [])
  }
  const rates = await readRates(database, organizationId, sources)
  return sources.map((source, index) => ({ sums: sumsOf.get(source) ?? [], rate: rates[index] }))
}

function dimensionsOf(sources: readonly InvoiceSource[]): readonly LineDimension[] {
  return LINE_DIMENSIONS.filter((name) => sources.some(({ profile }) => profile.lines_by.includes(name)))
}

/** The last rate on or before the last day of each cycle: of the customer's own source, else of the European Central Bank. */
export async function readRates(
  database: Pool | PoolClient,
  organizationId: string,
  sources: readonly InvoiceSource[],
): Promise<readonly (InvoiceRate | undefined)[]> {
  const foreign = sources.filter(({ profile }) => profile.currency !== 'USD')
  if (foreign.length === 0) return []
  const own = await rateSources(
    database,
    organizationId,
    foreign.map(({ customer }) => customer),
  )
  const publishers = new Map(
    own.map(({ customer, currency, source }) => [balanceKey(customer, currency), source]),
  )
  const known = new Map<string, InvoiceRate | undefined>()
  const rates: (InvoiceRate | undefined)[] = []
  for (const { customer, profile, selection } of sources) {
    if (profile.currency === 'USD') {
      rates.push(undefined)
      continue
    }
    const publisher = publishers.get(balanceKey(customer, profile.currency)) ?? ECB
    const key = JSON.stringify([publisher, profile.currency, selection.endMs])
    if (!known.has(key)) {
      const before = new Date(selection.endMs)
      known.set(
        key,
        await lastRate(database, { organizationId, source: publisher, currency: profile.currency, before }),
      )
    }
    rates.push(known.get(key))
  }
  return rates
}
