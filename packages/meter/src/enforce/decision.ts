import { z } from 'zod'

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

const decisionSchema = z.object({
  action: z.enum(['block', 'rate_limit', 'downgrade']),
  scope: z.record(z.string(), z.string()),
  reason: z.enum(['budget_exceeded', 'credit_exhausted']),
  budget: z
    .object({ id: z.string(), name: z.string() })
    .nullish()
    .transform((budget) => budget ?? null),
  detail: z.string().default('A limit is reached.'),
  until: z.iso
    .datetime({ offset: true })
    .nullish()
    .transform((until) => (until == null ? null : Date.parse(until))),
  requests_per_minute: z.number().nonnegative().nullish(),
  models: z
    .array(z.string())
    .nullish()
    .transform((models) => models ?? []),
})

const snapshotSchema = z.object({ decisions: z.array(z.unknown()) })

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
  const { decisions } = snapshotSchema.parse(JSON.parse(json))
  const read = decisions.flatMap((value) => {
    const { data, success } = decisionSchema.safeParse(value)
    if (!success || (data.action === 'rate_limit' && data.requests_per_minute == null)) return []
    const { until, requests_per_minute, ...same } = data
    return [{ ...same, untilMs: until, requestsPerMinute: requests_per_minute ?? undefined }]
  })
  return { decisions: read, unknown: decisions.length - read.length }
}
