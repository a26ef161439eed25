import type { FieldIssue } from '@tokentally/core'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { isDatabaseUnavailable } from '../database/unavailable.ts'
import { PROBLEM_CONTENT_TYPE, Problem, problemCodeOfStatus } from './problem.ts'

/** Seconds after which a caller may try again while the database is away. */
const UNAVAILABLE_RETRY_AFTER_S = 2

/** Answers a request with a problem, whatever was thrown. What is not meant for callers is only logged. */
export function answerWithProblem(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const problem = toProblem(error)
  if (problem.status >= 500) {
    const level = problem.code === 'internal-error' ? 'error' : 'warn'
    request.log[level]({ err: error, method: request.method, url: request.url }, 'request failed')
  }
  if (problem.retryAfterS !== undefined) reply.header('retry-after', String(Math.ceil(problem.retryAfterS)))
  return reply.code(problem.status).type(PROBLEM_CONTENT_TYPE).send(JSON.stringify(problem.toBody()))
}

/** Turns anything thrown into the problem that its caller may see. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  if (isDatabaseUnavailable(error)) {
    return new Problem({
      code: 'unavailable',
      detail: 'The database cannot be reached. Nothing was stored.',
      retryAfterS: UNAVAILABLE_RETRY_AFTER_S,
      cause: error,
    })
  }
  if (isFastifyError(error)) return fastifyProblem(error)
  if (isUnstorableText(error)) {
    return new Problem({ code: 'invalid-request', detail: 'Text must not contain NUL.', cause: error })
  }
  return new Problem({ code: 'internal-error', cause: error })
}

/** PostgreSQL's text holds every character but NUL (SQLSTATE 22021; 22P05 inside JSON). */
function isUnstorableText(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === '22021' || error.code === '22P05')
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && 'statusCode' in error
}

function fastifyProblem(error: FastifyError): Problem {
  if (error.validation !== undefined) {
    return new Problem({
      code: 'invalid-request',
      detail: `The ${error.validationContext ?? 'request'} is not valid.`,
      errors: error.validation.flatMap(fieldIssues),
      cause: error,
    })
  }
  const status = error.statusCode ?? 500
  if (status >= 500) return new Problem({ code: 'internal-error', cause: error })
  return new Problem({ code: problemCodeOfStatus(status), status, detail: error.message, cause: error })
}

/** One schema issue as field paths written with dots (`events.3.ts`); unknown fields are named one by one. */
function fieldIssues(issue: NonNullable<FastifyError['validation']>[number]): FieldIssue[] {
  const parent = issue.instancePath.replace(/^\//, '').replaceAll('/', '.')
  const keys: unknown = issue.params['keys']
  if (issue.keyword === 'unrecognized_keys' && Array.isArray(keys)) {
    return keys.map((key) => ({
      path: parent === '' ? String(key) : `${parent}.${String(key)}`,
      message: 'unknown field',
    }))
  }
  return [{ path: parent, message: issue.message ?? 'is not valid' }]
}
