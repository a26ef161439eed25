/**
 * What the service has decided about the calls of one scope, as `GET /api/v1/decisions` says it. No decision: calls
 * go as they are.
 */
export interface Decision {
  readonly action: DecisionAction
  /** Whose calls: each dimension has this value (`*`: any); none named is the whole organization. */
  readonly scope: Readonly<Record<string, string>>
  readonly reason: DecisionReason
  /** Null where a customer's credit is meant. */
  readonly budget: BudgetName | null
  /** A sentence for people. */
  readonly detail: string
  /** UTC milliseconds of the period's end, excluded; null where no end is known. */
  readonly untilMs: number | null
  /** With `rate_limit`: calls per value of the scope in any 60 seconds. */
  readonly requestsPerMinute: number | undefined
  /** With `downgrade`: the models that may still be called, in order of preference. */
  readonly models: readonly string[]
}

export type DecisionAction = 'block' | 'rate_limit' | 'downgrade'
export type DecisionReason = 'budget_exceeded' | 'credit_exhausted'

export interface BudgetName {
  readonly id: string
  readonly name: string
}

/** A snapshot as it was understood. */
export interface Snapshot {
  readonly decisions: readonly Decision[]
  /** How many were not: a newer service may decide what this version does not know. */
  readonly unknown: number
}

/**
 * Reads a snapshot. Preferences are in it too; they are for the gateway.
 *
 * @throws Error for what is no snapshot at all
 */
export function readSnapshot(json: string): Snapshot {
  const decisions = fieldOf(JSON.parse(json), 'decisions')
  if (!Array.isArray(decisions)) throw new TypeError('a snapshot of decisions has a list of them')
  const read: Decision[] = []
  for (const value of decisions) {
    const decision = readDecision(value)
    if (decision !== undefined) read.push(decision)
  }
  return { decisions: read, unknown: decisions.length - read.length }
}

/**
 * Field by field, without a schema: there may be thousands, and the application waits. 10,000 take 12 ms of CPU on top of
 * the 20 of JSON, with a schema 60.
 */
function readDecision(value: unknown): Decision | undefined {
  const action = fieldOf(value, 'action')
  const scope = fieldOf(value, 'scope')
  const reason = fieldOf(value, 'reason')
  const budget = readBudget(fieldOf(value, 'budget') ?? null)
  const untilMs = readInstant(fieldOf(value, 'until') ?? null)
  const requestsPerMinute = readRate(fieldOf(value, 'requests_per_minute') ?? undefined)
  const models = fieldOf(value, 'models') ?? NONE
  const detail = fieldOf(value, 'detail') ?? 'A limit is reached.'
  if (action !== 'block' && action !== 'rate_limit' && action !== 'downgrade') return undefined
  if (reason !== 'budget_exceeded' && reason !== 'credit_exhausted') return undefined
  if (!isScope(scope) || budget === undefined || untilMs === undefined || typeof detail !== 'string')
    return undefined
  if (!isTexts(models)) return undefined
  if (requestsPerMinute === null || (action === 'rate_limit' && requestsPerMinute === undefined))
    return undefined
  return { action, scope, reason, budget, detail, untilMs, requestsPerMinute, models }
}

const NONE: readonly string[] = []

function readBudget(value: unknown): BudgetName | null | undefined {
  if (value === null) return null
  const id = fieldOf(value, 'id')
  const name = fieldOf(value, 'name')
  return typeof id === 'string' && typeof name === 'string' ? { id, name } : undefined
}

/** An instant in ISO 8601, as UTC milliseconds. */
function readInstant(value: unknown): number | null | undefined {
  if (value === null) return null
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN
  return Number.isNaN(ms) ? undefined : ms
}

function isScope(value: unknown): value is Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  for (const name in value) if (typeof fieldOf(value, name) !== 'string') return false
  return true
}

/** @returns null for what is none */
function readRate(value: unknown): number | undefined | null {
  if (value === undefined) return undefined
  return typeof value === 'number' && value >= 0 ? value : null
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
