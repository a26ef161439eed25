import { createHash } from 'node:crypto'
import type { UsageEvent } from '@tokentally/core'

/**
 * The attribution of an event that rollups are kept for. Users, conversations and tags are left out: they
 * have too many values to sum ahead, reports by them read the ledger.
 */
export const ROLLED_UP_COLUMNS = [
  'customer_id',
  'team_id',
  'project_id',
  'business_unit',
  'cost_center',
  'feature',
  'agent',
  'environment',
  'provider',
  'model',
  'operation',
  'status',
] as const

/** The values of one dimension set, in the order of `ROLLED_UP_COLUMNS`. */
export type DimensionValues = readonly (string | null)[]

export function dimensionValuesOf(event: UsageEvent): DimensionValues {
  return [
    event.customer ?? null,
    event.team ?? null,
    event.project ?? null,
    event.businessUnit ?? null,
    event.costCenter ?? null,
    event.feature ?? null,
    event.agent ?? null,
    event.environment ?? null,
    event.provider,
    event.model ?? null,
    event.operation,
    event.status,
  ]
}

/** Remembered sets; beyond this the memory is emptied and refills from use. */
const REMEMBERED_SETS_MAX = 50_000

interface RememberedSet {
  readonly id: string
  /** Organizations in whose committed data the set stands, so that it need not be inserted again. */
  readonly storedFor: Set<string>
}

/**
 * Gives dimension sets their ids. An id is the first half of SHA-256 over the values, so that every replica
 * makes the same one without asking the database.
 */
export class DimensionSets {
  readonly #remembered = new Map<string, RememberedSet>()

  /** The id of the event's dimension set, and whether the set is known to be stored already. */
  identify(
    organizationId: string,
    values: DimensionValues,
  ): { readonly id: string; readonly isStored: boolean } {
    const key = JSON.stringify(values)
    let set = this.#remembered.get(key)
    if (set === undefined) {
      if (this.#remembered.size >= REMEMBERED_SETS_MAX) this.#remembered.clear()
      set = { id: uuidOf(createHash('sha256').update(key).digest()), storedFor: new Set() }
      this.#remembered.set(key, set)
    }
    return { id: set.id, isStored: set.storedFor.has(organizationId) }
  }

  /** To be called once the transaction that stored the sets has committed. */
  remember(organizationId: string, sets: Iterable<DimensionValues>): void {
    for (const values of sets) this.#remembered.get(JSON.stringify(values))?.storedFor.add(organizationId)
  }
}

/** A UUID of version 8 (RFC 9562, section 5.8) from the first 16 bytes of a hash. */
function uuidOf(hash: Buffer): string {
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x80
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80
  const hex = hash.toString('hex', 0, 16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
