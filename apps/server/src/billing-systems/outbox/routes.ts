import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { pageOf, parseCursor } from '../../http/page-cursor.ts'
import { Problem, problemSchema } from '../../http/problem.ts'
import { listSteps, type OutboxStep } from './outbox-reads.ts'
import { retryStream } from './outbox-store.ts'

export interface OutboxRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  /** Told when steps are to be tried again. */
  readonly onRetry: () => void
}

const TAGS = ['billing systems']
const STATUSES = ['waiting', 'done', 'refused'] as const

const stepJson = z.object({
  system: z.string(),
  stream: z
    .string()
    .describe('What it belongs to, such as `invoice:ID`: steps of a stream are done in order.'),
  step_no: z.number().int(),
  about: z.string().describe('`invoice`, `credit_note:ID`, `void` …'),
  action: z.string(),
  status: z.enum(STATUSES),
  attempts: z.number().int(),
  next_attempt_at: z
    .string()
    .nullable()
    .describe('Null: it waits for the step before it, or is not tried again.'),
  last_error: z.string().nullable(),
  created_at: z.string(),
  done_at: z.string().nullable(),
})

const cursorSchema = z.tuple([z.iso.datetime(), z.string(), z.string(), z.number().int()])
const systemName = z.string().min(1).max(64)
const streamName = z.string().min(1).max(1_024)

/** Registers everything under `/api/v1/outbox`. */
export function registerOutboxRoutes(app: App, { pool, now, onRetry }: OutboxRouteDependencies): void {
  app.get(
    '/api/v1/outbox',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'What other systems are told, step by step, oldest first',
        querystring: z.strictObject({
          status: z.enum(STATUSES).optional(),
          system: systemName.optional(),
          stream: streamName.optional(),
          limit: z.coerce.number().int().min(1).max(500).default(50),
          cursor: z.string().max(3_000).optional().describe('`next_cursor` of the page before.'),
        }),
        response: {
          200: z.object({ steps: z.array(stepJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }) => {
      const after = query.cursor === undefined ? undefined : parseCursor(query.cursor, cursorSchema)
      const steps = await listSteps(pool, {
        organizationId,
        status: query.status,
        system: query.system,
        stream: query.stream,
        limit: query.limit + 1,
        after:
          after === undefined
            ? undefined
            : { createdAt: new Date(after[0]), system: after[1], stream: after[2], stepNo: after[3] },
      })
      const { page, nextCursor } = pageOf(steps, query.limit, ({ createdAt, system, stream, stepNo }) => [
        createdAt.toISOString(),
        system,
        stream,
        stepNo,
      ])
      return { steps: page.map(stepToJson), next_cursor: nextCursor }
    },
  )

  app.post(
    '/api/v1/outbox/retry',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Try a stream again that was refused or waits, at once',
        description: 'The steps stay as they were planned; what was done is not done again.',
        body: z.strictObject({
          stream: streamName.describe('Such as `invoice:ID`.'),
          system: systemName.optional().describe('Default: every system of the stream.'),
        }),
        response: {
          200: z.object({ retried: z.number().int().describe('Steps that are tried now.') }),
          400: problemSchema,
          404: problemSchema,
        },
      },
    },
    async ({ organizationId, body }) => {
      const { stream, system } = body
      const retried = await retryStream(pool, { organizationId, system, stream }, now())
      if (retried === 0) {
        const known = await listSteps(pool, {
          organizationId,
          stream,
          system,
          status: undefined,
          limit: 1,
          after: undefined,
        })
        if (known.length === 0) {
          throw new Problem({ code: 'not-found', detail: 'There is no such stream in the outbox.' })
        }
      }
      onRetry()
      return { retried }
    },
  )
}

function stepToJson(step: OutboxStep): z.infer<typeof stepJson> {
  return {
    system: step.system,
    stream: step.stream,
    step_no: step.stepNo,
    about: step.about,
    action: step.action,
    status: step.status,
    attempts: step.attempts,
    next_attempt_at: step.nextAttemptAt?.toISOString() ?? null,
    last_error: step.lastError,
    created_at: step.createdAt.toISOString(),
    done_at: step.doneAt?.toISOString() ?? null,
  }
}
