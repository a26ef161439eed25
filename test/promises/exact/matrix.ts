import { readFileSync } from 'node:fs'
import type { Quantities, UsageEvent } from '@tokentally/core'
import { createTokenCounter, parseEndpoints, type TokenCounter } from '@tokentally/providers'
import { setGlobalDispatcher } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tapDispatcher } from '../../../packages/meter/src/tap/dispatcher.ts'
import { tapFetch } from '../../../packages/meter/src/tap/fetch.ts'
import type { TapDependencies } from '../../../packages/meter/src/tap/tap.ts'
import {
  type FakeVendors,
  MARKER,
  type Plan,
  pieces,
  type Say,
  startFakeVendors,
  type Truth,
} from '../../fake-provider/vendors/index.ts'
import { tapDependencies } from '../../harness/tap.ts'
import type { Overhead, Reference } from './references.ts'
import { accuracyOf, expectInTable } from './table.ts'
import { PROMPT } from './texts.ts'

/**
 * The matrix: every way of calling a provider, in each of the circumstances that a call may meet. Each case is made
 * twice, by the official SDK at the vendor's own URL: without the meter and with it. What the application receives
 * must be the same, and what the meter counts the truth that the provider was told.
 */

/** One way of calling a provider. */
export interface Way<Client> {
  readonly name: string
  readonly truth: Truth
  readonly say?: Partial<Say>
  /** Whether the SDK hands out the answer as it comes. */
  readonly isStreamed?: boolean
  /** What the event says beside its quantities. */
  readonly event?: Partial<UsageEvent>
  /** Quantities that no truth knows, or that an answer does not have. */
  readonly quantities?: Readonly<Record<string, number | undefined>>
  /** Whether all that is billed can be seen in the texts: no picture, no hidden reasoning, nothing cached. */
  readonly isCountable?: boolean
  /** Whether it is also tried with a connection that breaks, though its answer is no stream. */
  readonly breaksToo?: boolean
  /** Circumstances in which this way is not tried, because they take time: it is tried in others. */
  readonly without?: readonly Circumstance[]
  call(client: Client): Promise<unknown>
}

/** A provider by one of its official SDKs. */
export interface Subject<Client> {
  /** As the table names it. */
  readonly name: string
  readonly sdk: string
  readonly provider: string
  /** Further endpoint mappings. */
  readonly endpoints?: string
  /** Whether the SDK tells its attempts apart. */
  readonly numbersAttempts?: boolean
  /** Whether each piece of a stream has the totals so far: then nothing needs to be estimated. */
  readonly hasRunningTotals?: boolean
  /** Who bills what is cut, where the vocabulary of its models is public. */
  readonly reference?: Reference
  /** Where it is not: what is documented around a prompt. */
  readonly overhead?: Overhead
  /** Whether a stream names its input at its start: then only its output needs to be estimated. */
  readonly namesInputFirst?: boolean
  /** Whether it takes compressed answers. */
  readonly takesGzip?: boolean
  /** Whether leaving a stream waits for its next piece: where it is cut is chance then. */
  readonly leavesLate?: boolean
  /** Statuses of the attempts that fail. */
  readonly failures?: readonly number[]
  readonly ways: readonly Way<Client>[]
  client(vendors: FakeVendors): Client
  /** Meters a client that no tap sees. */
  meter?(client: Client, dependenciesOf: () => TapDependencies | undefined): void
  close?(client: Client): void
}

export type Circumstance =
  | 'normal'
  | 'retried'
  | 'gzip'
  | 'split'
  | 'left early'
  | 'left early and cut'
  | 'dropped'

/** What the application got, and how it ended. */
interface Outcome {
  readonly got: unknown
  readonly error: string | undefined
}

const ATTEMPTS_MAX = 3

/** Pieces of a text that is long enough for one percent of it to be more than a token. */
const LONG = 120

export function describeMatrix<Client>(subject: Subject<Client>): void {
  const events: UsageEvent[] = []
  const errors: unknown[] = []
  let arrived: () => void = () => undefined
  let vendors: FakeVendors
  let counter: TokenCounter
  let dependencies: TapDependencies
  const nodes = globalThis.fetch
  const accuracy = accuracyOf(subject.name, subject.sdk, versionOf(subject.sdk), subject.reference?.name)
  let expectedEvents = 0

  beforeAll(async () => {
    vendors = await startFakeVendors()
    counter = createTokenCounter()
    dependencies = {
      ...tapDependencies(events, errors),
      sink: {
        append: (event) => {
          events.push(event)
          arrived()
        },
        hold: () => () => undefined,
      },
      tokenCounter: counter,
      endpoints: parseEndpoints(subject.endpoints ?? ''),
    }
  })
  afterAll(async () => {
    globalThis.fetch = nodes
    await counter.close()
    await vendors.close()
  })

  /** The world as the SDK finds it, with the meter or without. */
  async function withClient<T>(isMetered: boolean, work: (client: Client) => Promise<T>): Promise<T> {
    const dispatcher = vendors.dispatcher()
    const dependenciesOf = () => dependencies
    if (isMetered) tapDispatcher(dispatcher, dependenciesOf)
    setGlobalDispatcher(dispatcher)
    globalThis.fetch = isMetered ? tapFetch(nodes, dependenciesOf, true) : nodes
    const client = subject.client(vendors)
    if (isMetered) subject.meter?.(client, dependenciesOf)
    try {
      return await work(client)
    } finally {
      subject.close?.(client)
    }
  }

  async function run(
    way: Way<Client>,
    plan: Partial<Plan>,
    isMetered: boolean,
    isLeaving: boolean,
    isReadOn: boolean,
  ): Promise<Outcome> {
    vendors.next(plan)
    return withClient(isMetered, async (client) => {
      let got: unknown
      try {
        got = await attempted(() => way.call(client), plan.failures?.length ?? 0)
        if (way.isStreamed === true) got = await read(got, plan, isLeaving, isReadOn)
        return { got: plain(got), error: undefined }
      } catch (error) {
        const partial = error instanceof Broken ? error.items : got
        return { got: plain(partial), error: described(error) }
      } finally {
        // What is left of a stream comes now, if somebody is there to take it.
        if (isReadOn) vendors.goOn()
      }
    })
  }

  async function read(
    stream: unknown,
    plan: Partial<Plan>,
    isLeaving: boolean,
    isReadOn: boolean,
  ): Promise<unknown[]> {
    const items: unknown[] = []
    if (!isAsyncIterable(stream)) throw new TypeError(`${subject.name}: the answer is no stream`)
    try {
      for await (const item of stream) {
        items.push(item)
        if (plan.isPausing !== true || !JSON.stringify(item).includes(MARKER.trim())) continue
        // Some SDKs leave only when the next piece has come.
        if (!isLeaving || isReadOn) vendors.goOn()
        if (isLeaving) break
      }
    } catch (error) {
      throw new Broken(items, error)
    }
    return items
  }

  /** Some SDKs do not try again by themselves; applications do. */
  async function attempted(call: () => Promise<unknown>, failures: number): Promise<unknown> {
    for (let failed = 0; ; failed++) {
      try {
        return await call()
      } catch (error) {
        if (failed >= Math.min(failures, ATTEMPTS_MAX)) throw error
      }
    }
  }

  async function metering(count: number): Promise<readonly UsageEvent[]> {
    const deadline = AbortSignal.timeout(20_000)
    while (events.length < count) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      arrived = resolve
      if (deadline.aborted) throw new Error(`${count} events did not come: ${JSON.stringify(events)}`)
      deadline.addEventListener('abort', () => reject(new Error(`${events.length} of ${count} events came`)))
      await promise
    }
    return events
  }

  function expectedOf(way: Way<Client>): Quantities {
    const { truth } = way
    const quantities: Record<string, number | undefined> = {
      input_tokens: truth.input,
      output_tokens: truth.output,
      cache_read_tokens: truth.cacheRead,
      cache_write_tokens: truth.cacheWrite,
      cache_write_1h_tokens: truth.cacheWrite1h,
      reasoning_tokens: truth.reasoning,
      audio_input_tokens: truth.audioInput,
      image_input_tokens: truth.imageInput,
      audio_output_tokens: truth.audioOutput,
      image_output_tokens: truth.imageOutput,
      web_search_requests: truth.webSearches,
      ...way.quantities,
    }
    const present: Record<string, number> = {}
    for (const [meter, quantity] of Object.entries(quantities)) {
      if (quantity !== undefined) present[meter] = quantity
    }
    return present
  }

  async function check(way: Way<Client>, circumstance: Circumstance): Promise<void> {
    const isLong = circumstance === 'dropped' || circumstance.startsWith('left')
    const isCut = circumstance === 'left early and cut' || circumstance === 'dropped'
    const failures = circumstance === 'retried' ? (subject.failures ?? [429, 500]) : []
    const plan: Partial<Plan> = {
      truth: way.truth,
      say: { reasoning: [], text: pieces(isLong ? LONG : 10), ...way.say },
      failures,
      isGzip: circumstance === 'gzip',
      pieceBytes: circumstance === 'split' ? 7 : undefined,
      isPausing: isLong,
      isDropped: circumstance === 'dropped',
    }
    const isLeaving = circumstance.startsWith('left')
    const { finishLeftStreams } = dependencies
    if (circumstance === 'left early and cut') dependencies = { ...dependencies, finishLeftStreams: false }
    events.length = 0
    const isReadOn = circumstance !== 'left early and cut'
    const bare = await run(way, plan, false, isLeaving, isReadOn)
    expect(events).toEqual([])
    const metered = await run(way, plan, true, isLeaving, isReadOn)
    expect(metered).toStrictEqual(bare)
    if (circumstance !== 'dropped') expect(metered.error).toBeUndefined()
    else expect(metered.error).toBeDefined()

    const found = await metering(failures.length + 1)
    dependencies = { ...dependencies, finishLeftStreams }
    expectedEvents = failures.length + 1
    expect(found).toHaveLength(expectedEvents)
    expect(errors).toEqual([])
    const failed = found.slice(0, -1)
    const event = found.at(-1)
    if (event === undefined) throw new Error('there is no event')
    expect(failed.map(({ status, quantities }) => ({ status, quantities }))).toEqual(
      failures.map(() => ({ status: 'error', quantities: {} })),
    )
    if (subject.numbersAttempts === true) {
      expect(found.map(({ attempt }) => attempt)).toEqual(found.map((_, index) => index))
      expect(new Set(found.map(({ callId }) => callId)).size).toBe(1)
    }
    const common = { provider: subject.provider, operation: 'chat', ...way.event }
    if (isCut && subject.hasRunningTotals !== true) {
      expect(event).toMatchObject({ ...common, status: 'aborted', estimated: true })
      await expectEstimate(way, event)
      return
    }
    const expected = expectedOf(way)
    const { runningOutput } = vendors.sent
    const counted =
      isCut && runningOutput !== undefined ? { ...expected, output_tokens: runningOutput } : expected
    expect(event.quantities).toEqual(counted)
    expect(event).toMatchObject({
      ...common,
      status: isCut ? 'aborted' : 'ok',
      estimated: false,
      streamed: way.isStreamed ?? false,
    })
    accuracy.reported(counted, event.quantities)
  }

  /**
   * Of a cut answer the provider bills what it has sent: within one percent of that, where somebody else can count
   * it. Where nobody can, no error can be named: then the estimate is what the registry's tokenizer makes of exactly
   * the texts that went over the wire, none of them lost and none counted twice.
   */
  async function expectEstimate(way: Way<Client>, { model = '', responseModel, quantities }: UsageEvent) {
    const { reference } = subject
    const { input_tokens: input = 0, output_tokens: output = 0 } = quantities
    if (reference !== undefined) {
      for (const { name, counted, truth } of [
        { name: 'input', counted: input, truth: way.truth.input },
        { name: 'output', counted: output, truth: reference.tokensOf(vendors.sent.text) },
      ]) {
        const error = Math.abs(counted - truth) / truth
        expect(error, `${name}: ${counted} estimated, ${truth} sent`).toBeLessThanOrEqual(0.01)
        accuracy.estimated(error)
      }
      accuracy.cut()
      return
    }
    const count = async (text: string) => (await counter.count(text, responseModel ?? model)).tokens
    const expected =
      subject.namesInputFirst === true
        ? way.truth.input
        : await inputCount(way.say?.tool !== undefined, count)
    expect({ input, output }).toEqual({ input: expected, output: await count(vendors.sent.text) })
    accuracy.cut()
  }

  async function inputCount(hasTool: boolean, count: (text: string) => Promise<number>): Promise<number> {
    const { overhead } = subject
    if (overhead === undefined) throw new Error(`${subject.name} has neither a reference nor an overhead`)
    const prompt = (await count(PROMPT)) + overhead.message
    if (!hasTool) return prompt
    const { tool } = overhead
    return prompt + ('tokens' in tool ? tool.tokens : tool.prompt + (await count(tool.text)))
  }

  describe(subject.name, () => {
    for (const way of subject.ways) {
      it.each(circumstancesOf(subject, way))(`${way.name}: %s`, (circumstance) => check(way, circumstance))
    }
    it('is in the accuracy table as this run has found it', () => expectInTable(accuracy))
  })
}

function circumstancesOf<Client>(subject: Subject<Client>, way: Way<Client>): Circumstance[] {
  const all: Circumstance[] = ['normal', 'retried', 'split']
  if (subject.takesGzip !== false) all.push('gzip')
  if (way.isStreamed === true) {
    all.push('left early')
    if (way.isCountable !== false) all.push('dropped')
    if (way.isCountable !== false && subject.leavesLate !== true) all.push('left early and cut')
  }
  if (way.breaksToo === true) all.push('dropped')
  return all.filter((circumstance) => way.without?.includes(circumstance) !== true)
}

/** A stream that broke, with what had come before. */
class Broken extends Error {
  readonly items: readonly unknown[]

  constructor(items: readonly unknown[], cause: unknown) {
    super('the stream broke', { cause })
    this.items = items
  }
}

function described(error: unknown): string {
  const cause = error instanceof Broken ? error.cause : error
  return cause instanceof Error ? `${cause.constructor.name}: ${cause.message}` : String(cause)
}

/** What the application can see of a value: its members and their types, without what differs by chance. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
  // The AWS SDK waits by chance, and says how long.
  if ('totalRetryDelay' in value) return { ...value, totalRetryDelay: 0 }
  if ('$metadata' in value) return { ...value, $metadata: plain(value.$metadata) }
  return value
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

function versionOf(sdk: string): string {
  const manifest = readFileSync(new URL(`../../../node_modules/${sdk}/package.json`, import.meta.url), 'utf8')
  return /"version":\s*"([^"]+)"/.exec(manifest)?.[1] ?? ''
}
