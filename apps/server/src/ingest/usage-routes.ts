import { type FieldIssue, usageEventSchema } from '@tokentally/core'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { PROBLEM_CONTENT_TYPE, Problem, problemSchema } from '../http/problem.ts'
import type { DeadLetters } from './dead-letters.ts'
import { type BodyLimits, decodeUtf8, readBody } from './request-body.ts'
import { type Submission, type SubmitDependencies, submit } from './submit.ts'
import { readUsageBody } from './usage-body.ts'

export interface UsageDependencies extends SubmitDependencies {
  readonly deadLetters: DeadLetters
  readonly limits: BodyLimits
}

const submissionSchema = z.object({
  accepted: z.number().int().describe('Committed now'),
  duplicates: z.number().int().describe('Already in the ledger, with the same content'),
  rejected: z.array(
    z.object({
      index: z.number().int(),
      event_id: z.string().optional(),
      errors: z.array(z.object({ path: z.string(), message: z.string() })),
    }),
  ),
})
/** A problem with the counts of the answer beside it. */
const refusalSchema = problemSchema.extend(submissionSchema.shape)
const bodySchema = z.union([
  usageEventSchema,
  z.array(usageEventSchema).max(10_000),
  z.strictObject({ events: z.array(usageEventSchema).max(10_000) }),
])
/** The body is checked event by event in the handler, so that one bad event costs no good one. */
const acceptAny = () => () => ({ value: undefined })

/** `POST /api/v1/usage`, and `POST /usage` for integrations of old. */
export function registerUsageRoutes(app: App, dependencies: UsageDependencies): void {
  app.route({
    method: 'POST',
    url: '/api/v1/usage',
    config: { scope: 'ingest' },
    validatorCompiler: acceptAny,
    schema: {
      tags: ['ingestion'],
      summary: 'Usage events',
      description:
        'One event, an array or {"events": […]} of up to 10,000, NDJSON, or CloudEvents; gzip too. Answered after the commit.',
      body: bodySchema,
      response: { 200: submissionSchema, 400: refusalSchema, 409: refusalSchema },
    },
    handler: async (request, reply) => {
      const body = await readBody(request.raw, request.headers, dependencies.limits)
      const { events, isSingle } = readUsageBody(body, request.headers['content-type'] ?? '', (name) => {
        const value = request.headers[name]
        return typeof value === 'string' ? decodeURIComponent(value) : undefined
      })
      const submission = await submit(dependencies, request.organizationId, events)
      await dependencies.deadLetters.store(request.organizationId, 'usage', events, submission.rejected)
      const problem = wholeRefusal(submission, isSingle)
      if (problem === undefined) return answerOf(submission)
      return reply
        .code(problem.code === 'conflict' ? 409 : 400)
        .header('content-type', PROBLEM_CONTENT_TYPE)
        .send({ ...problem.toBody(), ...answerOf(submission) })
    },
  })

  app.route({
    method: 'POST',
    url: '/usage',
    config: { scope: 'ingest' },
    validatorCompiler: acceptAny,
    schema: {
      tags: ['tenants'],
      summary: 'One usage event in the form of old',
      body: legacySchema,
      response: { 200: submissionSchema },
    },
    handler: async (request) => {
      const body = await readBody(request.raw, request.headers, dependencies.limits)
      const event = fromLegacy(body)
      const submission = await submit(dependencies, request.organizationId, [event])
      const problem = wholeRefusal(submission, true)
      if (problem !== undefined) throw problem
      return answerOf(submission)
    },
  })
}

/** An event in the words of the integrations of old; a tenant is a customer. */
const legacySchema = z.strictObject({
  event_id: z.string().optional(),
  tenant_id: z.string(),
  provider: z.string(),
  model: z.string(),
  prompt_tokens: z.number().int().min(0),
  completion_tokens: z.number().int().min(0),
  timestamp: z.union([z.string(), z.number().describe('Unix seconds')]).optional(),
  latency_ms: z.number().min(0).optional(),
  host: z.union([z.string(), z.record(z.string(), z.string())]).optional(),
})

function fromLegacy(body: Buffer): unknown {
  const parsed = legacySchema.safeParse(jsonOf(body))
  if (!parsed.success) {
    throw new Problem({
      code: 'invalid-request',
      errors: parsed.error.issues.flatMap((issue): FieldIssue[] =>
        issue.code === 'unrecognized_keys'
          ? issue.keys.map((path) => ({ path, message: 'is not a known field' }))
          : [{ path: issue.path.join('.'), message: issue.message }],
      ),
    })
  }
  const {
    event_id,
    tenant_id,
    provider,
    model,
    prompt_tokens,
    completion_tokens,
    timestamp,
    latency_ms,
    host,
  } = parsed.data
  return {
    ...(event_id !== undefined && { event_id }),
    ...(timestamp !== undefined && { ts: instantOf(timestamp) }),
    customer_id: tenant_id,
    provider,
    model,
    input_tokens: prompt_tokens,
    output_tokens: completion_tokens,
    ...(latency_ms !== undefined && { latency_ms }),
    ...(host !== undefined && { host: typeof host === 'string' ? { name: host } : host }),
  }
}

function instantOf(timestamp: string | number): string {
  const date = new Date(typeof timestamp === 'number' ? timestamp * 1000 : timestamp)
  if (!Number.isNaN(date.getTime())) return date.toISOString()
  throw new Problem({
    code: 'invalid-request',
    errors: [{ path: 'timestamp', message: 'must be RFC 3339 or Unix seconds' }],
  })
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(decodeUtf8(body))
  } catch (cause) {
    if (cause instanceof Problem) throw cause
    throw new Problem({ code: 'invalid-request', detail: 'The body is not valid JSON.', cause })
  }
}

function answerOf({ accepted, duplicates, rejected }: Submission) {
  return {
    accepted,
    duplicates,
    rejected: rejected.map(({ index, event_id, errors }) => ({
      index,
      ...(event_id !== undefined && { event_id }),
      errors: [...errors],
    })),
  }
}

/** A request of which nothing is good is an error: 409 when ids are taken, else 400 naming every field. */
function wholeRefusal(
  { accepted, duplicates, rejected }: Submission,
  isSingle: boolean,
): Problem | undefined {
  if (rejected.length === 0 || accepted + duplicates > 0) return undefined
  const errors = rejected.flatMap(({ index, errors }) =>
    errors.map(({ path, message }) => ({
      path: isSingle ? path : path === '' ? `${index}` : `${index}.${path}`,
      message,
    })),
  )
  return rejected.every((event) => event.isConflict)
    ? new Problem({ code: 'conflict', detail: 'The ids belong to events with other content.', errors })
    : new Problem({ code: 'invalid-request', detail: 'No event of the request is valid.', errors })
}
