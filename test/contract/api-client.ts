import { request } from 'node:http'
import type { Pool } from 'pg'
import { expect } from 'vitest'
import { z } from 'zod'
import type { TestService } from '../harness/index.ts'

/** The service as a stranger sees it: HTTP and nothing else. */

/** What came back. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly bytes: Buffer
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown
}

export interface Call {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Objects are sent as JSON, text and bytes as they are. */
  readonly body?: unknown
  /** The owner's when absent; null: none. */
  readonly key?: string | null
}

/** Calls the service; with a body by POST. */
export async function call(service: TestService, path: string, options: Call = {}): Promise<Answer> {
  const { body, key = service.ownerKey } = options
  const response = await fetch(service.url + path, {
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    headers: {
      ...(key !== null && { authorization: `Bearer ${key}` }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...options.headers,
    },
    ...(body !== undefined && { body: bytesOf(body) }),
  })
  return answerOf(response)
}

/** Sends usage events. */
export function sendUsage(
  service: TestService,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return call(service, '/api/v1/usage', { body, headers })
}

/** Streams a body in chunks, of which the sender does not tell the length; also sends what fetch refuses to. */
export function stream(
  service: TestService,
  path: string,
  headers: Readonly<Record<string, string>>,
  chunks: Iterable<Uint8Array>,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      service.url + path,
      { method: 'POST', headers: { authorization: `Bearer ${service.ownerKey}`, ...headers } },
      (incoming) => {
        let text = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (chunk: string) => {
          text += chunk
        })
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, text }))
      },
    )
    outgoing.on('error', reject)
    const iterator = chunks[Symbol.iterator]()
    const write = (): void => {
      for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
        if (!outgoing.write(next.value)) {
          outgoing.once('drain', write)
          return
        }
      }
      outgoing.end()
    }
    write()
  })
}

async function answerOf(response: Response): Promise<Answer> {
  const bytes = Buffer.from(await response.arrayBuffer())
  const text = bytes.toString('utf8')
  return { status: response.status, headers: response.headers, text, bytes, json: jsonOf(text) }
}

function bytesOf(body: unknown): string | Uint8Array<ArrayBuffer> {
  if (typeof body === 'string') return body
  if (body instanceof Uint8Array) return new Uint8Array(body)
  return JSON.stringify(body)
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const issueSchema = z.object({ path: z.string(), message: z.string().min(1) })
const submissionSchema = z.strictObject({
  accepted: z.number().int(),
  duplicates: z.number().int(),
  rejected: z.array(
    z.strictObject({
      index: z.number().int(),
      event_id: z.string().optional(),
      errors: z.array(issueSchema).min(1),
    }),
  ),
})
const problemSchema = z.looseObject({
  type: z.string().min(1),
  title: z.string().min(1),
  status: z.number().int(),
  detail: z.string().optional(),
  errors: z.array(issueSchema).optional(),
})

export type Problem = z.infer<typeof problemSchema>

/** The answer to events, of which at least one was good. */
export function submissionOf(answer: Answer): z.infer<typeof submissionSchema> {
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return submissionSchema.parse(answer.json)
}

/** The problem details (RFC 9457) of an answer with this status. */
export function problemOf(answer: Answer, status: number): Problem {
  expect([answer.status, answer.text]).toEqual([status, expect.any(String)])
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json\b/)
  const problem = problemSchema.parse(answer.json)
  expect(problem.status).toBe(status)
  return problem
}

/** The fields that a problem names. */
export function pathsOf(problem: Problem): readonly string[] {
  return (problem.errors ?? []).map((issue) => issue.path)
}

/** Makes a key with these scopes. */
export async function createKey(
  service: TestService,
  scopes: readonly string[],
): Promise<{ readonly id: string; readonly key: string }> {
  const answer = await call(service, '/api/v1/keys', { body: { name: scopes.join(' '), scopes } })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return z.object({ id: z.string(), key: z.string() }).parse(answer.json)
}

const ledgerSchema = z.object({
  events: z.number(),
  keys: z.number(),
  paired: z.number(),
  batched: z.number(),
})

/**
 * Counts the events of the ledger, after making sure that none is stored by half: each has its key and its place
 * in a batch, and none of these stands alone.
 */
export async function countEvents(pool: Pool): Promise<number> {
  const { rows } = await pool.query(`
    select
      (select count(*)::int from usage_event) as events,
      (select count(*)::int from event_key) as keys,
      (select count(*)::int from usage_event join event_key using (organization_id, event_id, ts, batch_id)) as paired,
      (select coalesce(sum(event_count), 0)::int from ledger_batch) as batched`)
  const { events, keys, paired, batched } = ledgerSchema.parse(rows[0])
  expect({ keys, paired, batched }).toEqual({ keys: events, paired: events, batched: events })
  return events
}

/** Runs what must leave no event in the ledger. */
export async function storesNothing<Result>(pool: Pool, act: () => Promise<Result>): Promise<Result> {
  const before = await countEvents(pool)
  const result = await act()
  expect(await countEvents(pool)).toBe(before)
  return result
}
