import { readdirSync, readFileSync } from 'node:fs'
import { findContradictions } from '@tokentally/core'
import fc from 'fast-check'
import type { ReadUsage, UsageReader } from '../src/index.ts'

const TRANSCRIPTS = new URL('../transcripts/', import.meta.url)

/** Bytes of a transcript, named as `openai-chat/stream.sse`. */
export function transcript(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(name, TRANSCRIPTS)))
}

/** Names of a format's transcripts that end so. */
export function transcriptNames(format: string, ending: string): string[] {
  return readdirSync(new URL(`${format}/`, TRANSCRIPTS))
    .filter((file) => file.endsWith(ending))
    .map((file) => `${format}/${file}`)
}

/** An answer, and where its body is cut on the way. */
export interface Answer {
  readonly bytes: Uint8Array
  readonly status?: number
  readonly contentType: string
  readonly cuts?: readonly number[]
}

/** What was read, with the text for an estimate. */
export type Reading = ReadUsage & { readonly outputText: string }

/** What the application saw and what was read. */
export interface Exchange {
  readonly seen: Buffer
  readonly result: Reading
}

/**
 * A body in the chunks that the network makes of it, each in memory that is overwritten as soon as the next is
 * asked for: a reader must keep copies. Some networks hand out `Buffer`s, whose `slice` is no copy.
 */
export function* chunksOf(bytes: Uint8Array, cuts: readonly number[] = []): Generator<Uint8Array> {
  const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length]
  for (const [index, start] of edges.slice(0, -1).entries()) {
    const copy = new Uint8Array(bytes.subarray(start, edges[index + 1]))
    const chunk = index % 2 === 0 ? Buffer.from(copy.buffer) : copy
    yield chunk
    chunk.fill(0)
  }
}

/** Lets an answer pass through a reader. */
export function exchange(
  reader: UsageReader,
  { bytes, status = 200, contentType, cuts = [] }: Answer,
): Exchange {
  reader.respond(status, (name) => (name === 'content-type' ? contentType : null))
  const seen: Uint8Array[] = []
  for (const chunk of chunksOf(bytes, cuts)) seen.push(new Uint8Array(reader.push(chunk)))
  seen.push(new Uint8Array(reader.end()))
  return { seen: Buffer.concat(seen), result: { ...reader.result(), outputText: reader.outputText() } }
}

/** An exchange as one text: thousands of them are compared sooner so than as objects. */
export function textOf({ seen, result }: Exchange): string {
  return `${seen.toString('latin1')}\n${JSON.stringify(result)}`
}

/** Every way to cut a body in two, and one byte at a time. */
export function everyCut(length: number): number[][] {
  const positions = Array.from({ length: length + 1 }, (_, position) => position)
  return [positions, ...positions.map((position) => [position])]
}

/** Places to cut a body, some twice: empty chunks happen too. */
export function cutsOf(length: number): fc.Arbitrary<number[]> {
  return fc.array(fc.nat(length), { maxLength: 40 })
}

/** What may stand where a provider's count should: the good, the bad and the huge. */
export const countLike: fc.Arbitrary<unknown> = fc.oneof(
  fc.nat(100_000),
  fc.constantFrom(0, -1, 0.5, 1e308, -1e308, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER + 1),
  fc.constantFrom<unknown>(null, true, '12', '', [], [5], {}, { total: 5 }),
  fc.jsonValue({ maxDepth: 2 }),
)

/** A usage object with the given keys, each holding anything or missing; a list of keys stands for an object. */
export function usageLike(shape: Readonly<Record<string, readonly string[] | null>>): fc.Arbitrary<unknown> {
  const members = Object.entries(shape).map(([key, inner]): [string, fc.Arbitrary<unknown>] => [
    key,
    inner === null ? countLike : fc.oneof(countLike, anyOf(inner.map((name) => [name, countLike]))),
  ])
  return fc.oneof({ weight: 9, arbitrary: anyOf(members) }, countLike)
}

function anyOf(members: readonly (readonly [string, fc.Arbitrary<unknown>])[]): fc.Arbitrary<unknown> {
  return fc.record(Object.fromEntries(members), { requiredKeys: [] })
}

/** What no usage event may have: quantities that are no whole, exact count, and parts above their whole. */
export function badCounts({ quantities = {} }: ReadUsage): (readonly [meter: string, problem: unknown])[] {
  return [
    ...Object.entries(quantities).filter(([, quantity]) => !Number.isSafeInteger(quantity) || quantity < 0),
    ...findContradictions(quantities).map(({ meter, message }) => [meter, message] as const),
  ]
}
