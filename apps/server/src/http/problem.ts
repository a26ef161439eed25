import type { FieldIssue } from '@tokentally/core'
import { z } from 'zod'

/** Status and title of every problem that the service answers with; nothing else decides on a status. */
const PROBLEMS = {
  'invalid-request': [400, 'The request is not valid'],
  unauthorized: [401, 'A valid API key is required'],
  forbidden: [403, 'The API key does not allow this'],
  'not-found': [404, 'There is nothing here'],
  'request-timeout': [408, 'The request took too long to arrive'],
  conflict: [409, 'The request conflicts with what is stored'],
  'content-too-large': [413, 'The request is too large'],
  'unsupported-media-type': [415, 'The content type is not supported'],
  'unsupported-content-encoding': [415, 'The content encoding is not supported'],
  'unprocessable-content': [422, 'The content cannot be processed'],
  'too-many-requests': [429, 'Too many requests'],
  'budget-exceeded': [429, 'A budget is used up'],
  'credit-exhausted': [429, 'The prepaid credit is used up'],
  'internal-error': [500, 'Something went wrong here'],
  unavailable: [503, 'The service cannot do this right now'],
} as const satisfies Record<string, readonly [status: number, title: string]>

/** A problem's name; the last part of its `type`. */
export type ProblemCode = keyof typeof PROBLEMS

/** The content type of RFC 9457. */
export const PROBLEM_CONTENT_TYPE = 'application/problem+json'

/** The body of every error answer (RFC 9457 problem details). */
export const problemSchema = z
  .object({
    type: z.string().describe('`urn:tokentally:problem:` and the name of the problem.'),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().optional(),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .describe('What is wrong with which field, for a 400.'),
  })
  .describe('Problem details, RFC 9457')

export type ProblemBody = z.infer<typeof problemSchema>

/** What a `Problem` is made of. `detail` is read by callers: no SQL, no paths, no secrets. */
export interface ProblemOptions {
  readonly code: ProblemCode
  readonly title?: string
  readonly detail?: string
  /** Overrides the code's own status, for protocols that prescribe another. */
  readonly status?: number
  readonly errors?: readonly FieldIssue[]
  /** Seconds after which to try again; becomes the `Retry-After` header. */
  readonly retryAfterS?: number
  readonly cause?: unknown
}

/** An error that is meant for the caller. Anything else that is thrown becomes a 500 without details. */
export class Problem extends Error {
  override readonly name = 'Problem'
  readonly code: ProblemCode
  readonly status: number
  readonly title: string
  readonly detail: string | undefined
  readonly errors: readonly FieldIssue[] | undefined
  readonly retryAfterS: number | undefined

  constructor(options: ProblemOptions) {
    const [status, title] = PROBLEMS[options.code]
    super(options.detail ?? options.title ?? title, { cause: options.cause })
    this.code = options.code
    this.status = options.status ?? status
    this.title = options.title ?? title
    this.detail = options.detail
    this.errors = options.errors
    this.retryAfterS = options.retryAfterS
  }

  /** The answer's body. */
  toBody(): ProblemBody {
    return {
      type: `urn:tokentally:problem:${this.code}`,
      title: this.title,
      status: this.status,
      ...(this.detail === undefined ? {} : { detail: this.detail }),
      ...(this.errors === undefined ? {} : { errors: [...this.errors] }),
    }
  }
}

/** The code that a bare HTTP status stands for, as far as there is one. */
export function problemCodeOfStatus(status: number): ProblemCode {
  for (const [code, [known]] of Object.entries(PROBLEMS)) {
    if (known === status && isProblemCode(code)) return code
  }
  return status >= 400 && status < 500 ? 'invalid-request' : 'internal-error'
}

function isProblemCode(value: string): value is ProblemCode {
  return Object.hasOwn(PROBLEMS, value)
}
