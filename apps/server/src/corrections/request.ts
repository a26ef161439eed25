import { createHash } from 'node:crypto'
import { eventChangesSchema, type FieldIssue } from '@tokentally/core'
import { z } from 'zod'
import { Problem } from '../http/problem.ts'
import { type DimensionFilter, readFilters, readPeriod } from '../reports/index.ts'

/** Ids that one request may name; a larger selection is a range with filters. */
export const EVENT_IDS_MAX = 10_000
const REASON_MAX = 1_000

const storable = (text: z.ZodString) =>
  text.refine(
    (value) => value.isWellFormed() && !value.includes('\0'),
    'must be well-formed Unicode without NUL',
  )
const filterValue = z.union([z.string(), z.array(z.string()).min(1).max(1_000)])

const byIdSchema = z.strictObject({
  event_ids: z
    .array(storable(z.string().min(1).max(256)))
    .min(1)
    .max(EVENT_IDS_MAX),
})
const byRangeSchema = z
  .object({
    start: z.string().describe('Included. A date, or an RFC 3339 instant.'),
    end: z.string().describe('Excluded. A date, or an RFC 3339 instant.'),
    timezone: z.string().optional().describe('IANA name; default UTC. Where days begin.'),
  })
  .catchall(filterValue.describe('A filter by any dimension or `tag.NAME`: a value, or any of several.'))

const changeSchema = z
  .strictObject({
    set: eventChangesSchema.optional(),
    rerate: z
      .boolean()
      .optional()
      .describe('Rate and sell again, by what the prices and rules of now say about the time of the event.'),
    void: z.boolean().optional().describe('Take the events back without replacement.'),
  })
  .superRefine((change, context) => {
    const hasChange = change.set !== undefined || change.rerate === true
    if (change.void === true && hasChange) {
      context.addIssue({ code: 'custom', path: ['void'], message: 'goes without set and rerate' })
    } else if (change.void !== true && !hasChange) {
      context.addIssue({ code: 'custom', message: 'must have set, or rerate or void with true' })
    }
  })

/** The body of `POST /api/v1/corrections`. */
export const correctionRequestSchema = z.strictObject({
  id: z
    .uuid()
    .optional()
    .describe(
      'Your idempotency key: a repeat with it applies nothing again. Made by the server when absent.',
    ),
  reason: storable(z.string().trim().min(1).max(REASON_MAX)).describe(
    'Why; kept for ever, so no personal data.',
  ),
  select: z
    .looseObject({ event_ids: z.unknown().optional() })
    .describe(
      `Which events: \`event_ids\` (up to ${EVENT_IDS_MAX}), or \`start\` and \`end\` with filters as in GET /api/v1/usage.`,
    ),
  change: changeSchema,
  preview: z.boolean().optional().describe('Only show what would happen.'),
  dry_run: z.boolean().optional().describe('The same as `preview`.'),
  preview_token: z
    .string()
    .max(100)
    .optional()
    .describe('Of a preview: applies exactly what was shown, or nothing (409).'),
})

export type CorrectionRequest = z.infer<typeof correctionRequestSchema>

/** What is to become of each event. */
export type Change = CorrectionRequest['change']

/** Which events are to be corrected. */
export type Selection =
  | { readonly kind: 'ids'; readonly eventIds: readonly string[] }
  | {
      readonly kind: 'range'
      readonly startMs: number
      readonly endMs: number
      readonly filters: readonly DimensionFilter[]
    }

/**
 * Reads which events a request means.
 *
 * @throws Problem naming every field that is wrong, below `select`
 */
export function readSelection(select: CorrectionRequest['select'], nowMs: number): Selection {
  return belowSelect(() => {
    if (select.event_ids !== undefined) {
      const { event_ids } = parsed(byIdSchema, select)
      return { kind: 'ids', eventIds: [...new Set(event_ids)] }
    }
    const query = parsed(byRangeSchema, select)
    const { start, end, timezone } = query
    const { startMs, endMs } = readPeriod({ start, end, timezone }, nowMs)
    const filters = readFilters(query, ['start', 'end', 'timezone'])
    return { kind: 'range', startMs, endMs, filters }
  })
}

/** Tells a repeat of a request from another one under the same id. */
export function requestHash({ reason, select, change }: CorrectionRequest): Buffer {
  return createHash('sha256')
    .update(JSON.stringify(inOrder({ reason, select, change })))
    .digest()
}

function inOrder(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(inOrder)
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, entry]) => [name, inOrder(entry)])
}

function parsed<Output>(schema: z.ZodType<Output>, value: unknown): Output {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const errors = result.error.issues.flatMap((issue): FieldIssue[] => {
    const path = issue.path.join('.')
    return issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({ path: key, message: 'goes without event_ids' }))
      : [{ path, message: issue.message }]
  })
  throw new Problem({ code: 'invalid-request', detail: 'The selection is not valid.', errors })
}

function belowSelect<Result>(read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof Problem) || error.errors === undefined) throw error
    throw new Problem({
      code: error.code,
      detail: 'The selection is not valid.',
      errors: error.errors.map(({ path, message }) => ({ path: `select.${path}`, message })),
      cause: error,
    })
  }
}
