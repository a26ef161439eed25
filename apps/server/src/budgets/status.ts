import {
  type BudgetPeriod,
  type BudgetStatus,
  type Decimal,
  decimal,
  decimalText,
  periodAt,
  periodBefore,
  rolledOver,
  ZERO,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { EVERYBODY, NOTHING_SPENT, type Spending, spendingBy } from './spending.ts'
import { type Budget, definitionsAt, listBudgets } from './store.ts'

/** A budget with how it stands for one value of its scope. */
export interface Standing {
  readonly budget: Budget
  readonly status: BudgetStatus
}

/** The values of each dimension that somebody asks about; undefined: all that have spending. */
export type AskedValues = (budget: Budget) => readonly string[] | undefined

/**
 * How all budgets in force stand, of one or of all organizations, each in the period that is current at `nowMs`.
 * Wildcards are expanded to the values that have spending in the period; a budget that has not begun, or whose
 * custom period is over, is left out.
 */
export async function budgetStatuses(
  pool: Pool,
  { organizationId, nowMs }: { readonly organizationId?: string | undefined; readonly nowMs: number },
): Promise<readonly BudgetStatus[]> {
  const budgets = await listBudgets(pool, organizationId)
  const statuses: BudgetStatus[] = []
  for (const [id, ofOrganization] of Map.groupBy(budgets, (budget) => budget.organizationId)) {
    const standings = await standingsOf(pool, id, ofOrganization, nowMs)
    statuses.push(...standings.map(({ status }) => status))
  }
  return statuses
}

/** How budgets of one organization stand. A budget of one value stands alone, also where nothing is spent. */
export async function standingsOf(
  database: Pool | PoolClient,
  organizationId: string,
  budgets: readonly Budget[],
  nowMs: number,
  asked: AskedValues = () => undefined,
): Promise<readonly Standing[]> {
  const current = budgets.flatMap((budget) => {
    const period = currentPeriod(budget, nowMs)
    return period === undefined ? [] : [{ budget, period }]
  })
  const values = (budget: Budget) => {
    const { value } = budget.definition.scope
    return value === null ? [EVERYBODY] : value === '*' ? asked(budget) : [value]
  }
  const spent = new Spendings(database, organizationId)
  for (const { budget, period } of current) spent.ask(budget, period, values(budget))
  const previous = await previousPeriods(database, organizationId, current)
  for (const [budget, { period }] of previous) spent.ask(budget, period, values(budget))
  await spent.read()

  return current.flatMap(({ budget, period }) => {
    const { scope, basis, amountUsd, timeZone, thresholds, forecastThresholds, enforcement } =
      budget.definition
    const amount = decimal(amountUsd)
    const before = previous.get(budget)
    return (values(budget) ?? spent.valuesOf(budget, period)).map((value) => {
      const carried =
        before === undefined ? ZERO : rolledOver(before.amountUsd, spent.of(budget, before.period, value))
      return {
        budget,
        status: {
          organizationId,
          budgetId: budget.id,
          budgetName: budget.definition.name,
          scope: { dimension: scope.dimension, value: scope.value === null ? null : value },
          period,
          timeZone,
          basis,
          limitUsd: decimalText(amount.plus(carried)),
          spentUsd: decimalText(spent.of(budget, period, value)),
          thresholds,
          forecastThresholds,
          enforcement,
        },
      }
    })
  })
}

/** The period that counts now; undefined before the budget starts and outside of a custom period. */
export function currentPeriod({ definition }: Budget, nowMs: number): BudgetPeriod | undefined {
  const { period, timeZone, startsAtMs } = definition
  const current = periodAt(period, timeZone, nowMs)
  return current === undefined || (startsAtMs !== null && startsAtMs > nowMs)
    ? undefined
    : cutAtStart(current, startsAtMs)
}

function cutAtStart(period: BudgetPeriod, startsAtMs: number | null): BudgetPeriod {
  return startsAtMs === null || startsAtMs <= period.startMs
    ? period
    : { startMs: startsAtMs, endMs: period.endMs }
}

interface Predecessor {
  readonly period: BudgetPeriod
  /** What the budget allowed then. */
  readonly amountUsd: Decimal
}

/**
 * The periods that pass on what they left. The amount is what the budget said when that period ended: raising
 * a budget today gives nothing for yesterday, and a budget that did not exist then left nothing.
 */
async function previousPeriods(
  database: Pool | PoolClient,
  organizationId: string,
  current: readonly { readonly budget: Budget; readonly period: BudgetPeriod }[],
): Promise<ReadonlyMap<Budget, Predecessor>> {
  const candidates = current.flatMap(({ budget, period }) => {
    const { definition } = budget
    if (!definition.rollover) return []
    const before = periodBefore(definition.period, definition.timeZone, period.startMs)
    // A period that is cut at the start of the budget has no predecessor: `before` is its own first part.
    const started = definition.startsAtMs ?? Number.NEGATIVE_INFINITY
    return before === undefined || started >= before.endMs || before.endMs !== period.startMs
      ? []
      : [{ budget, period: cutAtStart(before, definition.startsAtMs) }]
  })
  const definitions = await definitionsAt(
    database,
    organizationId,
    candidates.map(({ budget, period }) => ({ budgetId: budget.id, beforeMs: period.endMs })),
  )
  return new Map(
    candidates.flatMap(({ budget, period }): [Budget, Predecessor][] => {
      const then = definitions.get(budget.id)
      return then === undefined ? [] : [[budget, { period, amountUsd: decimal(then.amountUsd) }]]
    }),
  )
}

/** Reads the spending of many budgets with one query for each dimension and period. */
class Spendings {
  readonly #database: Pool | PoolClient
  readonly #organizationId: string
  readonly #asked = new Map<
    string,
    {
      readonly dimension: Budget['definition']['scope']['dimension']
      readonly period: BudgetPeriod
      values: Set<string> | undefined
      result: ReadonlyMap<string, Spending>
    }
  >()

  constructor(database: Pool | PoolClient, organizationId: string) {
    this.#database = database
    this.#organizationId = organizationId
  }

  ask(budget: Budget, period: BudgetPeriod, values: readonly string[] | undefined): void {
    const { dimension } = budget.definition.scope
    const key = keyOf(dimension, period)
    const known = this.#asked.get(key)
    if (known === undefined) {
      const set = values === undefined ? undefined : new Set(values)
      this.#asked.set(key, { dimension, period, values: set, result: new Map() })
    } else if (values === undefined) known.values = undefined
    else for (const value of values) known.values?.add(value)
  }

  async read(): Promise<void> {
    for (const asked of this.#asked.values()) {
      if (asked.values?.size === 0) continue
      asked.result = await spendingBy(this.#database, {
        organizationId: this.#organizationId,
        dimension: asked.dimension,
        period: asked.period,
        values: asked.values === undefined ? undefined : [...asked.values],
      })
    }
  }

  of({ definition }: Budget, period: BudgetPeriod, value: string): Decimal {
    const { listUsd, sellUsd } =
      this.#asked.get(keyOf(definition.scope.dimension, period))?.result.get(value) ?? NOTHING_SPENT
    return definition.basis === 'list' ? listUsd : sellUsd
  }

  /** The values that have spending, in a stable order. */
  valuesOf({ definition }: Budget, period: BudgetPeriod): readonly string[] {
    return [...(this.#asked.get(keyOf(definition.scope.dimension, period))?.result.keys() ?? [])].sort()
  }
}

function keyOf(dimension: string, { startMs, endMs }: BudgetPeriod): string {
  return `${dimension} ${startMs} ${endMs}`
}
