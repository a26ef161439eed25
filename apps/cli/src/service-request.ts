import { z } from 'zod'

const TIMEOUT_MS = 60_000
/** A large file takes its time. */
const FILE_TIMEOUT_MS = 15 * 60_000

/** The service did not give what was asked for. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError'
}

/** Where a service is, and the key to it. */
export interface ServiceAddress {
  readonly url: string
  readonly apiKey: string
  readonly fetch: typeof fetch
}

const problemSchema = z.object({
  title: z.string().optional(),
  detail: z.string().optional(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
})

/** What a service answered: what was asked for, or why not (RFC 9457), as far as it says. */
export type ServiceAnswer =
  | { readonly ok: true; readonly json: unknown }
  | { readonly ok: false; readonly status: number; readonly problem: z.infer<typeof problemSchema> }

/**
 * Asks a service: with a body by POST, else by GET.
 *
 * @throws ServiceError when it does not answer, or not as a TokenTally service
 */
export function askService(service: ServiceAddress, path: string, body?: object): Promise<ServiceAnswer> {
  return request(service, path, {
    method: body === undefined ? 'GET' : 'POST',
    ...(body !== undefined && {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
}

/**
 * Sends a file as it is, while it is read.
 *
 * @throws ServiceError when the service does not answer, or not as a TokenTally service
 */
export function sendFile(
  service: ServiceAddress,
  path: string,
  file: ReadableStream<Uint8Array>,
): Promise<ServiceAnswer> {
  return request(service, path, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream' },
    body: file,
    duplex: 'half',
    signal: AbortSignal.timeout(FILE_TIMEOUT_MS),
  })
}

async function request(
  { url, apiKey, fetch }: ServiceAddress,
  path: string,
  init: RequestInit & { readonly headers?: Readonly<Record<string, string>> },
): Promise<ServiceAnswer> {
  const base = baseOf(url)
  let response: Response
  try {
    response = await fetch(`${base}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${apiKey}`, ...init.headers },
    })
  } catch (error) {
    throw new ServiceError(`${base} does not answer: ${reasonOf(error)}`, { cause: error })
  }
  if (!response.ok) {
    const problem = problemSchema.safeParse(await response.json().catch(() => undefined))
    return { ok: false, status: response.status, problem: problem.data ?? {} }
  }
  try {
    return { ok: true, json: await response.json() }
  } catch (error) {
    throw new ServiceError(`${base} does not answer as a TokenTally service`, { cause: error })
  }
}

/** A URL without slashes at its end: paths begin with one. */
export function baseOf(url: string): string {
  return url.replace(/\/+$/, '')
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  return cause instanceof Error && cause.message !== '' ? cause.message : error.message
}
