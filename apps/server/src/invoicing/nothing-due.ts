import { cycleFrom, firstCycleStartMs } from '@tokentally/core'
import type { Pool } from 'pg'
import { Problem } from '../http/problem.ts'
import { listBilledCustomers } from './closing-store.ts'

const HOUR_MS = 3_600_000

/** Why a customer had no cycle to close, as the problem to answer with. */
export async function whyNothingWasClosed(
  pool: Pool,
  request: {
    readonly organizationId: string
    readonly customer: string
    readonly untilMs: number | undefined
    readonly nowMs: number
  },
): Promise<Problem> {
  const { organizationId, customer, untilMs, nowMs } = request
  const [billed] = await listBilledCustomers(pool, organizationId, [customer])
  if (billed === undefined) {
    return new Problem({ code: 'not-found', detail: `The customer ${customer} has no billing profile.` })
  }
  const { profile, last } = billed
  const conflict = (detail: string) => new Problem({ code: 'conflict', detail })
  if (last !== undefined && untilMs !== undefined && untilMs <= last.selection.endMs) {
    return conflict(
      `The cycles of ${customer} are closed already up to ${iso(last.selection.endMs)}; the last one is invoice ${last.invoiceId}.`,
    )
  }
  const closed =
    last === undefined
      ? ''
      : `The last one is closed already: invoice ${last.invoiceId}, up to ${iso(last.selection.endMs)}. `
  const next = cycleFrom(profile, last?.selection.endMs ?? firstCycleStartMs(profile))
  if (next === undefined) {
    return conflict(`${closed}${customer} is not invoiced any more: the billing profile ends.`)
  }
  const dueMs = next.endMs + profile.grace_hours * HOUR_MS
  if (dueMs > nowMs) {
    return conflict(
      `No cycle of ${customer} is due. ${closed}The next one ends at ${iso(next.endMs)}, and can be closed from ${iso(dueMs)} on.`,
    )
  }
  return conflict(`No cycle of ${customer} ended by then. ${closed}The next one ends at ${iso(next.endMs)}.`)
}

function iso(instantMs: number): string {
  return new Date(instantMs).toISOString()
}
