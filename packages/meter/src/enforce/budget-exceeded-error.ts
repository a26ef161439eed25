import { randomBytes } from 'node:crypto'
import type { BudgetName, DecisionAction, DecisionReason } from './decision.ts'

/** Why a call was refused. */
export type RefusalCode = DecisionReason | 'decisions_unavailable'

/** What a refusal says. */
export interface Refusal {
  readonly code: RefusalCode
  readonly action: DecisionAction
  readonly scope: Readonly<Record<string, string>>
  readonly budget: BudgetName | null
  readonly detail: string
  readonly until: Date | null
  readonly retryAfterS: number
}

/** RFC 9457 problem details of a refusal, as the Express and Koa packages answer with. */
export interface RefusalProblem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: RefusalCode
  readonly scope: Readonly<Record<string, string>>
  readonly budget: BudgetName | null
  readonly until: string | null
  readonly retry_after_s: number
}

const TITLES: Readonly<Record<RefusalCode, string>> = {
  budget_exceeded: 'The budget is used up',
  credit_exhausted: 'The credit is used up',
  decisions_unavailable: 'It is not known whether the budget allows this',
}

/**
 * An LLM call that was not made, because a limit does not allow it. Thrown to the application as it is where the
 * SDK lets it through; `budgetErrorOf(error)` finds it in what SDKs make of it.
 *
 * `status`, `statusCode`, `expose` and `headers` are what Express, Koa and others read from an error that nobody
 * has handled.
 */
export class BudgetExceededError extends Error implements Refusal {
  override readonly name = 'BudgetExceededError'
  readonly code: RefusalCode
  /** What was decided for the scope; `block` where nothing could be asked. */
  readonly action: DecisionAction
  /** The scope that is limited; empty for the whole organization. */
  readonly scope: Readonly<Record<string, string>>
  /** Null where a customer's credit is meant, or nothing could be asked. */
  readonly budget: BudgetName | null
  /** The sentence of the service, without the refusal's id. */
  readonly detail: string
  /** When the limit's period ends; null where no end is known. */
  readonly until: Date | null
  /** Whole seconds after which another try may go through, at least 1. */
  readonly retryAfterS: number
  /** Names this refusal in texts that are made of it. */
  readonly refusalId: string

  constructor(refusal: Refusal) {
    const refusalId = refusalIdOf(++refusals)
    super(`${refusal.detail} ${markOf(refusalId)}`)
    this.code = refusal.code
    this.action = refusal.action
    this.scope = refusal.scope
    this.budget = refusal.budget
    this.detail = refusal.detail
    this.until = refusal.until
    this.retryAfterS = refusal.retryAfterS
    this.refusalId = refusalId
    remember(this)
  }

  /** 429; 503 for `decisions_unavailable`. */
  get status(): number {
    return this.code === 'decisions_unavailable' ? 503 : 429
  }

  get statusCode(): number {
    return this.status
  }

  get expose(): boolean {
    return true
  }

  get headers(): Readonly<Record<string, string>> {
    return { 'retry-after': String(this.retryAfterS) }
  }

  /** The body of the answer that this error becomes. */
  toProblem(): RefusalProblem {
    return {
      type: `urn:tokentally:problem:${this.code.replaceAll('_', '-')}`,
      title: TITLES[this.code],
      status: this.status,
      detail: this.detail,
      code: this.code,
      scope: this.scope,
      budget: this.budget,
      until: this.until?.toISOString() ?? null,
      retry_after_s: this.retryAfterS,
    }
  }
}

/** The header of an answer that stands for a refusal. */
export const REFUSAL_HEADER = 'x-tokentally-refusal'

/** Of this process alone: a text with another one's refusal is none of ours. */
let processId: string | undefined
let refusals = 0

function refusalIdOf(number: number): string {
  processId ??= randomBytes(4).toString('hex')
  return processId + (number % 0x1_0000_0000).toString(16).padStart(8, '0')
}

/** Refusals that can still be found again by their ids. */
const REMEMBERED_MAX = 1_000
const remembered = new Map<string, BudgetExceededError>()

function remember(error: BudgetExceededError): void {
  remembered.set(error.refusalId, error)
  if (refusals > REMEMBERED_MAX) remembered.delete(refusalIdOf(refusals - REMEMBERED_MAX))
}

const markOf = (refusalId: string) => `[tokentally refusal ${refusalId}]`
const MARK = /\[tokentally refusal ([0-9a-f]{16})\]/

/** Where SDKs keep what an error was made of. */
const INNER = ['cause', 'error', 'lastError', 'errors', 'response', 'rawResponse', 'data', 'reason'] as const
const TEXTS = ['message', 'body', 'responseBody', 'detail'] as const
const LEVELS_MAX = 6

/**
 * The refusal behind an error, whatever an SDK has made of it, or behind an answer (`Response`).
 *
 * It is looked for along `cause` and the like; by the header that the answer to an SDK bears; and by the refusal's
 * id in the error's text, among the last 1,000 of the process.
 *
 * @returns undefined for every other error
 */
export function budgetErrorOf(error: unknown): BudgetExceededError | undefined {
  return found(error, LEVELS_MAX)
}

function found(value: unknown, levels: number): BudgetExceededError | undefined {
  if (value instanceof BudgetExceededError) return value
  // Nothing was refused yet.
  if (remembered.size === 0 || levels === 0) return undefined
  if (typeof value === 'string') return byMark(value)
  if (typeof value !== 'object' || value === null) return undefined
  if (Array.isArray(value)) {
    for (const one of value.toReversed()) {
      const inside = found(one, levels - 1)
      if (inside !== undefined) return inside
    }
    return undefined
  }
  for (const name of ['headers', 'responseHeaders']) {
    const known = remembered.get(headerIn(fieldOf(value, name)) ?? '')
    if (known !== undefined) return known
  }
  for (const name of TEXTS) {
    const text = fieldOf(value, name)
    const known = typeof text === 'string' ? byMark(text) : undefined
    if (known !== undefined) return known
  }
  for (const name of INNER) {
    const inside = found(fieldOf(value, name), levels - 1)
    if (inside !== undefined) return inside
  }
  return undefined
}

function byMark(text: string): BudgetExceededError | undefined {
  const id = MARK.exec(text)?.[1]
  return id === undefined ? undefined : remembered.get(id)
}

/** Of `Headers`, whoever made them, or a plain object. */
function headerIn(headers: unknown): string | undefined {
  const get = fieldOf(headers, 'get')
  const value: unknown =
    typeof get === 'function'
      ? Reflect.apply(get, headers, [REFUSAL_HEADER])
      : fieldOf(headers, REFUSAL_HEADER)
  return typeof value === 'string' ? value : undefined
}

/** A field of something of which nothing is known; a getter may throw. */
function fieldOf(value: unknown, name: string): unknown {
  try {
    return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
  } catch {
    return undefined
  }
}
