import { decimal } from '@tokentally/core'
import type { Pool } from 'pg'
import { changeBudgets } from '../store.ts'
import { creditAccounts } from './balance.ts'
import { countRefills, insertEntry, organizationsWithRefills } from './credit-store.ts'

/**
 * Tops up the accounts whose balance fell below their threshold, each once for each crossing: after a refill the
 * balance is above the threshold, or the next run adds another, until the month's maximum is reached. Changes of
 * one organization's credit run one after the other, so two workers cannot both see the same crossing; and the
 * entry's key counts the month's refills, so that a repeated one is the same entry.
 *
 * @returns how many accounts were topped up
 */
export async function refillAccounts(pool: Pool, now: Date): Promise<number> {
  const month = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1))
  let refilled = 0
  for (const organizationId of await organizationsWithRefills(pool)) {
    // Looked at without a lock first: mostly there is nothing to do, and every change is told to all streams.
    const low = lowAccounts(await creditAccounts(pool, organizationId))
    for (const customer of low) {
      refilled += await changeBudgets(pool, organizationId, async (client) => {
        const [account] = await creditAccounts(client, organizationId, [customer])
        const refill = account?.autoRefill
        if (account === undefined || !refill || lowAccounts([account]).length === 0) return 0
        const refills = await countRefills(client, organizationId, customer, month)
        if (refills >= refill.maxPerMonth) return 0
        const { isNew } = await insertEntry(client, {
          organizationId,
          customer,
          kind: 'auto_refill',
          amountUsd: refill.amountUsd,
          note: null,
          idempotencyKey: `auto-refill ${month.toISOString().slice(0, 7)} ${refills + 1}`,
          apiKeyId: null,
          at: now,
        })
        return isNew ? 1 : 0
      })
    }
  }
  return refilled
}

function lowAccounts(accounts: Awaited<ReturnType<typeof creditAccounts>>): readonly string[] {
  return accounts
    .filter(
      ({ autoRefill, balanceUsd }) => autoRefill !== null && balanceUsd.lt(decimal(autoRefill.thresholdUsd)),
    )
    .map(({ customer }) => customer)
}
