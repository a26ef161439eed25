import { randomUUID } from 'node:crypto'
import { type Cycle, closableCycles } from '@tokentally/core'
import type { Pool } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import {
  type BilledCustomer,
  insertPending,
  listBilledCustomers,
  type PendingInvoice,
  selectionsOf,
  takePosition,
} from './closing-store.ts'
import { lockInvoicesOf } from './lock.ts'

/**
 * Closes cycles: settles what each invoice is made of, and leaves it `pending`.
 *
 * First the organization's next position is taken, once for all customers that are due. Then, some hundred customers
 * at a time and each under its lock, the invoices are written. A kill in between leaves customers who are still due,
 * or invoices that are still pending; the next run goes on from there, at a position of its own. Two runs beside each
 * other close each cycle once: a customer whose last invoice is beyond a run's position is left to the other.
 */

/** Cycles of a customer in one run; the next one goes on. */
const CYCLES_MAX = 120
const CUSTOMERS_AT_ONCE = 500

export interface ClosingDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

export interface ClosingRequest {
  readonly organizationId: string
  /** Undefined: all customers. */
  readonly customer?: string | undefined
  /** Only cycles that ended by then, UTC milliseconds. */
  readonly untilMs?: number | undefined
}

/** @returns the ids of the invoices that were written, in the order of customers and cycles */
export async function closeCycles(
  { pool, now }: ClosingDependencies,
  request: ClosingRequest,
): Promise<readonly string[]> {
  const { organizationId } = request
  const nowMs = now().getTime()
  const dueOf = (billed: BilledCustomer) => dueCycles(billed, nowMs, request.untilMs)
  const asked = request.customer === undefined ? null : [request.customer]
  const due = (await listBilledCustomers(pool, organizationId, asked)).filter((one) => dueOf(one).length > 0)
  if (due.length === 0) return []

  const position = await inTransaction(pool, (client) => takePosition(client, organizationId, now()))
  const closed: string[] = []
  for (let from = 0; from < due.length; from += CUSTOMERS_AT_ONCE) {
    const customers = due.slice(from, from + CUSTOMERS_AT_ONCE).map(({ customer }) => customer)
    const written = await inTransaction(pool, async (client) => {
      await lockInvoicesOf(client, organizationId, customers)
      // Read again: another run may have closed cycles while the locks were waited for.
      const billed = await listBilledCustomers(client, organizationId, customers)
      const invoices = billed
        .filter(({ last }) => last === undefined || last.selection.position < position)
        .flatMap((one) => pendingInvoices(one, dueOf(one), position))
      return insertPending(client, organizationId, invoices, now())
    })
    closed.push(...written)
  }
  return closed
}

/** Cycles of a customer that ended and waited for late events, the earliest first. */
export function dueCycles(
  { profile, last }: BilledCustomer,
  nowMs: number,
  untilMs: number | undefined,
): readonly Cycle[] {
  return closableCycles(profile, { lastEndMs: last?.selection.endMs, nowMs, max: CYCLES_MAX }).filter(
    ({ endMs }) => untilMs === undefined || endMs <= untilMs,
  )
}

function pendingInvoices(
  { customer, profile, last }: BilledCustomer,
  cycles: readonly Cycle[],
  position: number,
): readonly PendingInvoice[] {
  return selectionsOf(last?.selection, cycles, position).map((selection) => ({
    id: randomUUID(),
    customer,
    profile,
    selection,
    replaces: null,
  }))
}
