import type { Plan } from './plan.ts'

/** A request as a fake vendor sees it. */
export interface VendorRequest {
  /** As the client asked for it, whatever machine answers. */
  readonly host: string
  readonly path: string
  readonly query: URLSearchParams
  readonly json: Readonly<Record<string, unknown>>
  /** The body, which may be no JSON. */
  readonly text: string
  /** Counts the requests of the moment's plan, from 1. Ids are made of it, so that the same call gets the same ids. */
  readonly number: number
  readonly plan: Plan
}

/** A piece of a body as the vendor writes it, with what of the model's words is in it. */
export interface Piece {
  readonly bytes: Uint8Array
  readonly text?: string
  /** The same of a body that is no stream. */
  readonly plainText?: string
  /** All output until here, where the vendor says it in every piece. */
  readonly runningOutput?: number
}

export interface VendorAnswer {
  readonly status?: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: readonly Piece[]
}

/** One vendor: what it answers, and how it refuses. */
export interface Vendor {
  answer(request: VendorRequest): VendorAnswer
  fail(status: number, request: VendorRequest): VendorAnswer
}

/**
 * A body that is one JSON value, in two pieces so that it can break in between.
 *
 * @param words the model's own, where it matters how much of them is in the first piece
 */
export function json(
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
  words = '',
): VendorAnswer {
  const bytes = Buffer.from(JSON.stringify(value))
  const middle = Math.floor(bytes.length / 2)
  const plainText = beginningIn(bytes.subarray(0, middle), words)
  return {
    headers: { 'content-type': 'application/json', ...headers },
    body: [
      { bytes: bytes.subarray(0, middle), plainText },
      { bytes: bytes.subarray(middle), plainText: words.slice(plainText.length) },
    ],
  }
}

/** How much of a text is in the first part of a body. */
function beginningIn(bytes: Buffer, words: string): string {
  const part = bytes.toString('utf8')
  let length = words.length
  while (length > 0 && !part.includes(words.slice(0, length))) length--
  return words.slice(0, length)
}

export function failure(
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): VendorAnswer {
  return { status, ...json(value, headers) }
}

/** A body that is a stream of server-sent events. */
export function eventStream(
  body: readonly Piece[],
  headers: Readonly<Record<string, string>> = {},
): VendorAnswer {
  return { headers: { 'content-type': 'text/event-stream; charset=utf-8', ...headers }, body }
}

/** A server-sent event without a name. */
export function data(value: unknown, said: Omit<Piece, 'bytes'> = {}): Piece {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return { bytes: Buffer.from(`data: ${text}\n\n`), ...said }
}

/** A server-sent event that is named after its `type`. */
export function named(
  value: { readonly type: string; readonly [field: string]: unknown },
  said: Omit<Piece, 'bytes'> = {},
): Piece {
  return { bytes: Buffer.from(`event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`), ...said }
}

/** Members whose value is not undefined. */
export function present(object: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
}

/** A whole share of an amount: the running total after `part` of `whole` pieces. */
export function share(amount: number, part: number, whole: number): number {
  return Math.floor((amount * part) / whole)
}

export const CREATED = 1_795_000_000

/** Headers by which OpenAI, and those who took over its ways, let themselves be asked again. */
export const RETRY_SOON = { 'retry-after-ms': '1', 'retry-after': '1', 'x-should-retry': 'true' } as const
