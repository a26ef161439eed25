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
        return typeof value === 'string' ? decodeHeader(name, value) : undefined
      })
      const submission = await submit(dependencies, request, events)
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
      const submission = await submit(dependencies, request, [event])
      const problem = wholeRefusal(withLegacyNames(submission), true)
      if (problem !== undefined) throw problem
      return answerOf(submission)
    },
  })
}

/** CloudEvents percent-encode what a header cannot hold (HTTP binding 1.0.2, section 3.1.3.2). */
function decodeHeader(name: string, value: string): string {
  try {
    return decodeURIComponent(value)
  } catch (cause) {
    throw new Problem({
      code: 'invalid-request',
      errors: [{ path: name, message: 'is not percent-encoded UTF-8' }],
      cause,
    })
  }
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

const LEGACY_NAMES: Readonly<Record<string, string>> = {
  ts: 'timestamp',
  customer_id: 'tenant_id',
  input_tokens: 'prompt_tokens',
  output_tokens: 'completion_tokens',
}

/** Names the fields as the sender wrote them. */
function withLegacyNames(submission: Submission): Submission {
  const rejected = submission.rejected.map((event) => ({
    ...event,
    errors: event.errors.map(({ path, message }) => ({ path: LEGACY_NAMES[path] ?? path, message })),
  }))
  return { ...submission, rejected }
}

/** RFC 3339; without an offset, as Python's `isoformat` prints it, it is UTC wherever the service runs. */
const TIMESTAMP = /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2}(?:\.\d+)?)([Zz]|[+-]\d{2}:\d{2})?$/

function instantOf(timestamp: string | number): string {
  if (typeof timestamp === 'string') {
    const [, day, time, offset = 'Z'] = TIMESTAMP.exec(timestamp) ?? []
    if (day !== undefined && time !== undefined) return `${day}T${time}${offset.toUpperCase()}`
  } else {
    const date = new Date(timestamp * 1000)
    if (!Number.isNaN(date.getTime())) return date.toISOString()
  }
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
