import { randomUUID } from 'node:crypto'
import {
  type BudgetStatus,
  type Decimal,
  decimal,
  type HoldVerdict,
  placeHolds,
  ZERO,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { type CreditAccount, creditAccounts } from '../credit/balance.ts'
import { EVERYBODY } from '../spending.ts'
import { standingsOf } from '../status.ts'
import { type Budget, listBudgets } from '../store.ts'
import { heldIn, heldScopeOf, heldScopeOfCredit } from './held-amounts.ts'
import {
  type Bound,
  dimensionValue,
  findHoldsOfEvents,
  findKnownEvents,
  type Hold,
  type HoldDimensions,
  insertHolds,
  type NewHold,
} from './hold-store.ts'

/**
 * Grants and refuses holds. The database is the judge: a process keeps no counters, so nothing is wrong after
 * it dies, and replicas need nothing else in common.
 *
 * Requests of one organization that come while another group of theirs is decided wait and make the next group.
 * A group takes the organization's lock (a session's advisory lock: it is freed when the connection breaks),
 * and then begins a transaction whose one snapshot shows what is spent and what is held: an amount is in the
 * ledger or in a hold, never in both or neither. All requests of the group are decided in sequence against that,
 * and what is granted is inserted in bulk. The lock is held from before the snapshot until after the commit, so
 * the next group, on whichever replica, sees it.
 *
 * One lock for an organization, not one for each limit: most calls fall under the same few limits, and with one
 * lock there is no order to get wrong.
 */

/** Largest group; the rest waits for the next. */
const GROUP_MAX = 1_000
/** Requests that may wait in one process. */
const WAITING_MAX = 10_000
/** Organizations whose groups are decided at the same time in one process. */
const DESKS_MAX = 3

/** A hold that is asked for. */
export interface HoldRequest {
  readonly organizationId: string
  readonly eventId: string
  readonly dimensions: HoldDimensions
  readonly listUsd: Decimal
  readonly sellUsd: Decimal
  readonly bound: Bound
  readonly ttlMs: number
  /** Whether a hold of unknown cost may pass hard limits. */
  readonly mayBeUnpriced: boolean
}

/** A limit that holds may not pass: a `block` budget for one value, or a customer's credit. */
export interface HoldLimit {
  readonly limitUsd: Decimal
  readonly spentUsd: Decimal
  readonly heldUsd: Decimal
  readonly basis: 'list' | 'sell'
  readonly status: BudgetStatus | null
  /** The customer whose credit it is; null for a budget. */
  readonly creditOf: string | null
}

export type HoldOutcome =
  | {
      readonly kind: 'granted'
      readonly hold: Pick<Hold, 'id' | 'eventId' | 'expiresAt' | 'bound'>
      readonly listUsd: Decimal
      readonly sellUsd: Decimal
      readonly remaining: ReadonlyMap<HoldLimit, Decimal>
    }
  /** A live hold of the same event, placed before. */
  | { readonly kind: 'repeated'; readonly hold: Hold }
  | { readonly kind: 'refused'; readonly by: HoldLimit; readonly isHeldUp: boolean }
  | { readonly kind: 'unpriced'; readonly by: HoldLimit }
  /** The event is in the ledger already. */
  | { readonly kind: 'over' }

/** Too many requests wait for their holds. */
export class HoldsBusy extends Error {
  override readonly name = 'HoldsBusy'
}

interface Waiting {
  readonly request: HoldRequest
  readonly resolve: (outcome: HoldOutcome) => void
  readonly reject: (error: unknown) => void
}

export class HoldDesk {
  readonly #pool: Pool
  readonly #now: () => Date
  readonly #waiting = new Map<string, Waiting[]>()
  readonly #busy = new Set<string>()
  #waitingCount = 0
  #idle: PromiseWithResolvers<void> | undefined

  constructor({ pool, now }: { readonly pool: Pool; readonly now: () => Date }) {
    this.#pool = pool
    this.#now = now
  }

  /** Asks for a hold. @throws HoldsBusy when too many wait; nothing is held then */
  place(request: HoldRequest): Promise<HoldOutcome> {
    if (this.#waitingCount >= WAITING_MAX) return Promise.reject(new HoldsBusy())
    const { promise, resolve, reject } = Promise.withResolvers<HoldOutcome>()
    const queue = this.#waiting.get(request.organizationId) ?? []
    queue.push({ request, resolve, reject })
    this.#waiting.set(request.organizationId, queue)
    this.#waitingCount++
    // In the next turn of the event loop: requests that were parsed in this one join the group.
    setImmediate(() => this.#begin())
    return promise
  }

  /** Resolves once everybody who asked has an answer. */
  async drain(): Promise<void> {
    if (this.#busy.size === 0 && this.#waiting.size === 0) return
    this.#idle ??= Promise.withResolvers<void>()
    await this.#idle.promise
  }

  #begin(): void {
    for (const [organizationId, queue] of this.#waiting) {
      if (this.#busy.size >= DESKS_MAX) return
      if (this.#busy.has(organizationId)) continue
      const group = queue.splice(0, GROUP_MAX)
      if (queue.length === 0) this.#waiting.delete(organizationId)
      this.#waitingCount -= group.length
      this.#busy.add(organizationId)
      void this.#serve(organizationId, group)
    }
    if (this.#busy.size === 0) {
      this.#idle?.resolve()
      this.#idle = undefined
    }
  }

  async #serve(organizationId: string, group: readonly Waiting[]): Promise<void> {
    try {
      const outcomes = await this.#decide(
        organizationId,
        group.map(({ request }) => request),
      )
      group.forEach(({ resolve, reject }, index) => {
        const outcome = outcomes[index]
        if (outcome === undefined) reject(new Error('a hold was not decided'))
        else resolve(outcome)
      })
    } catch (error) {
      for (const { reject } of group) reject(error)
    } finally {
      this.#busy.delete(organizationId)
      this.#begin()
    }
  }

  async #decide(organizationId: string, requests: readonly HoldRequest[]): Promise<readonly HoldOutcome[]> {
    const client = await this.#pool.connect()
    try {
      await client.query(`select pg_advisory_lock(${LOCK_CLASS}, hashtext($1))`, [organizationId])
      await client.query('begin isolation level repeatable read')
      const outcomes = await decideGroup(client, organizationId, requests, this.#now())
      await client.query('commit')
      await client.query(`select pg_advisory_unlock(${LOCK_CLASS}, hashtext($1))`, [organizationId])
      client.release()
      return outcomes
    } catch (error) {
      // Closing the connection frees the lock and takes back what was not committed.
      client.release(true)
      throw error
    }
  }
}

const LOCK_CLASS = "hashtext('tokentally.holds')"

async function decideGroup(
  client: PoolClient,
  organizationId: string,
  requests: readonly HoldRequest[],
  now: Date,
): Promise<readonly HoldOutcome[]> {
  const eventIds = requests.map((request) => request.eventId)
  const known = await findKnownEvents(client, organizationId, eventIds)
  const placed = new Map(
    (await findHoldsOfEvents(client, organizationId, eventIds, now)).map((hold) => [hold.eventId, hold]),
  )
  const open = requests.filter(({ eventId }) => !known.has(eventId) && !placed.has(eventId))
  const limits = await limitsOf(client, organizationId, open, now)
  const outcomes = new Map<HoldRequest, HoldOutcome>()
  const asked: HoldRequest[] = []
  const repeats = new Map<string, HoldRequest>()
  for (const request of open) {
    const [hard] = limits.get(request) ?? []
    const first = repeats.get(request.eventId)
    if (first !== undefined) continue
    if (request.bound.from === 'unpriced' && !request.mayBeUnpriced && hard !== undefined)
      outcomes.set(request, { kind: 'unpriced', by: hard })
    else {
      asked.push(request)
      repeats.set(request.eventId, request)
    }
  }
  const verdicts = placeHolds(
    asked.map((request) => ({
      listUsd: request.listUsd,
      sellUsd: request.sellUsd,
      limits: limits.get(request) ?? [],
    })),
  )
  const granted: NewHold[] = []
  asked.forEach((request, index) => {
    const verdict = verdicts[index]
    if (verdict === undefined) return
    outcomes.set(request, outcomeOf(request, verdict, now, granted))
  })
  await insertHolds(client, organizationId, granted)
  return requests.map((request) => {
    const hold = placed.get(request.eventId)
    if (known.has(request.eventId)) return { kind: 'over' }
    if (hold !== undefined) return { kind: 'repeated', hold }
    const own = outcomes.get(request)
    if (own !== undefined) return own
    const first = repeats.get(request.eventId)
    return (first && outcomes.get(first)) ?? { kind: 'over' }
  })
}

function outcomeOf(
  request: HoldRequest,
  verdict: HoldVerdict<HoldLimit>,
  now: Date,
  granted: NewHold[],
): HoldOutcome {
  if (!verdict.ok) return { kind: 'refused', by: verdict.refusedBy, isHeldUp: verdict.isHeldUp }
  const { eventId, dimensions, listUsd, sellUsd, bound } = request
  const expiresAt = new Date(now.getTime() + request.ttlMs)
  const hold = { id: randomUUID(), eventId, dimensions, listUsd, sellUsd, bound, createdAt: now, expiresAt }
  granted.push(hold)
  return { kind: 'granted', hold, listUsd, sellUsd, remaining: verdict.remaining }
}

/** The hard limits that each request falls under, as they stand. */
async function limitsOf(
  client: PoolClient,
  organizationId: string,
  requests: readonly HoldRequest[],
  now: Date,
): Promise<ReadonlyMap<HoldRequest, readonly HoldLimit[]>> {
  const budgets = (await listBudgets(client, organizationId)).filter(
    (budget) => budget.definition.enforcement === 'block',
  )
  const asked = new Map<Budget, Set<string>>()
  for (const budget of budgets) {
    const { dimension, value } = budget.definition.scope
    const values = new Set(requests.flatMap((request) => dimensionValue(request.dimensions, dimension) ?? []))
    const matching = value === null || value === '*' ? values : new Set(values.has(value) ? [value] : [])
    if (matching.size > 0) asked.set(budget, matching)
  }
  const standings = await standingsOf(client, organizationId, [...asked.keys()], now.getTime(), (budget) => [
    ...(asked.get(budget) ?? []),
  ])
  const customers = new Set(requests.flatMap((request) => request.dimensions.customer_id ?? []))
  const accounts = customers.size === 0 ? [] : await creditAccounts(client, organizationId, [...customers])

  const held = await heldIn(client, organizationId, now, [
    ...standings.map(({ status }) => heldScopeOf(status)),
    ...accounts.map(({ customer }) => heldScopeOfCredit(customer)),
  ])
  const limits = [
    ...standings.map(({ status }, index) => ({
      dimension: status.scope.dimension,
      value: status.scope.value ?? EVERYBODY,
      limit: budgetLimit(status, held[index] ?? ZERO),
    })),
    ...accounts.map((account, index) => ({
      dimension: 'customer' as const,
      value: account.customer,
      limit: creditLimit(account, held[standings.length + index] ?? ZERO),
    })),
  ]
  return new Map(
    requests.map((request) => [
      request,
      limits
        .filter(({ dimension, value }) => dimensionValue(request.dimensions, dimension) === value)
        .map(({ limit }) => limit),
    ]),
  )
}

function budgetLimit(status: BudgetStatus, heldUsd: Decimal): HoldLimit {
  return {
    limitUsd: decimal(status.limitUsd),
    spentUsd: decimal(status.spentUsd),
    heldUsd,
    basis: status.basis,
    status,
    creditOf: null,
  }
}

function creditLimit({ customer, paidInUsd, usedUsd }: CreditAccount, heldUsd: Decimal): HoldLimit {
  return { limitUsd: paidInUsd, spentUsd: usedUsd, heldUsd, basis: 'sell', status: null, creditOf: customer }
}
