import { z } from 'zod'
import { ServiceError } from './service-source.ts'

const TIMEOUT_MS = 60_000

/** Where a service is, and the key to it. */
export interface ServiceAddress {
  readonly url: string
  readonly apiKey: string
  readonly fetch: typeof fetch
}

/**
 * Asks a service: with a body by POST, else by GET.
 *
 * @returns what it answers, parsed
 * @throws ServiceError saying why it does not, with every field that it complains about
 */
export async function requestService(
  { url, apiKey, fetch }: ServiceAddress,
  path: string,
  body?: object,
): Promise<unknown> {
  const base = url.replace(/\/+$/, '')
  let response: Response
  try {
    response = await fetch(`${base}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization: `Bearer ${apiKey}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch (error) {
    throw new ServiceError(`${base} does not answer: ${reasonOf(error)}`, { cause: error })
  }
  if (!response.ok) throw new ServiceError(`${base} answered ${response.status}${await detailOf(response)}`)
  try {
    return await response.json()
  } catch (error) {
    throw new ServiceError(`${base} does not answer as a TokenTally service`, { cause: error })
  }
}

const problemSchema = z.object({
  detail: z.string().optional(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
})

async function detailOf(response: Response): Promise<string> {
  const problem = problemSchema.safeParse(await response.json().catch(() => undefined))
  if (!problem.success) return ''
  const { detail, errors = [] } = problem.data
  const fields = errors.map(({ path, message }) => `\n  ${path} ${message}`).join('')
  return `${detail === undefined ? '' : `: ${detail}`}${fields}`
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  return cause instanceof Error && cause.message !== '' ? cause.message : error.message
}
