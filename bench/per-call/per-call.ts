import { type ChildProcess, fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { type BenchOptions, type Comparison, compare, compareAdded } from '../figures.ts'
import { load, requestBytes } from '../load.ts'
import {
  type AppCommand,
  doneSchema,
  readySchema,
  type Variant,
  variantSchema,
  waySchema,
} from './protocol.ts'

const TOKENS = 100

interface App {
  readonly port: number
  readonly process: ChildProcess
}

/**
 * CPU time that metering adds to an LLM call and to a request without one. Each variant lives in a process of
 * its own; in each round every variant does the same work, in turns, so that what else the machine does hits
 * all of them. Delivery of what was recorded is part of the work.
 */
export function perCallBench(options: BenchOptions): Promise<readonly Comparison[]> {
  return withApps((apps) => measureCalls(apps, options))
}

/**
 * CPU time that metering adds to a plain LLM call by each further way in, beside what OpenTelemetry's
 * instrumentation adds to a call by the official OpenAI client in the same rounds.
 */
export function waysBench(options: BenchOptions): Promise<readonly Comparison[]> {
  return withApps((apps) => measureWays(apps, options))
}

async function withApps(
  work: (apps: ReadonlyMap<Variant, App>) => Promise<readonly Comparison[]>,
): Promise<readonly Comparison[]> {
  const directory = await mkdtemp(join(tmpdir(), 'tokentally-bench-'))
  const peers = start('./peers.ts', [])
  const { providerUrl, sinkUrl } = z
    .object({ providerUrl: z.string(), sinkUrl: z.string() })
    .parse(await messageOf(peers))
  const apps = new Map<Variant, App>()
  try {
    for (const variant of variantSchema.options) {
      const child = start('./app.ts', [variant, providerUrl, sinkUrl, join(directory, variant)])
      apps.set(variant, { process: child, ...readySchema.parse(await messageOf(child)) })
    }
    return await work(apps)
  } finally {
    for (const app of apps.values()) app.process.kill()
    peers.kill()
    await rm(directory, { recursive: true, force: true })
  }
}

async function measureCalls(
  apps: ReadonlyMap<Variant, App>,
  { isQuick, progress }: BenchOptions,
): Promise<readonly Comparison[]> {
  // Many short rounds: what else the machine does then hits neighbours alike, and the median forgets the rest.
  const rounds = isQuick ? 3 : 60
  const calls = isQuick ? 100 : 300
  const plain = await measure(apps, rounds, calls, progress, 'plain calls', (app) =>
    tell(app, { do: 'calls', count: calls, concurrency: 8, isStreamed: false, tokens: TOKENS }),
  )
  const streams = calls / 3
  const streamed = await measure(apps, rounds, streams, progress, 'streamed calls', (app) =>
    tell(app, { do: 'calls', count: streams, concurrency: 20, isStreamed: true, tokens: TOKENS }),
  )
  const requests = Array.from({ length: isQuick ? 1_000 : 3_000 }, () =>
    requestBytes('GET', '/hello', { 'x-customer-id': 'acme' }),
  )
  const without = await measure(apps, rounds, requests.length, progress, 'requests without a call', (app) =>
    load(`http://127.0.0.1:${app.port}`, requests, 16),
  )
  return [
    ...comparisons(plain, 'a plain LLM call'),
    ...comparisons(streamed, `a streamed LLM call of ${TOKENS} chunks`),
    compare(
      {
        name: 'CPU of a request without an LLM call',
        unit: 'µs',
        rivalName: 'the same app, bare',
      },
      without.map((round) => ({ ours: round.tokentally, rival: round.bare })),
    ),
    compareAdded(
      {
        name: 'Added to a request without an LLM call',
        unit: 'µs',
        rivalName: 'the whole bare request',
        bar: '10 µs',
        aim: '3 µs',
      },
      without.map((round) => ({ ours: round.tokentally - round.bare, rival: round.bare })),
    ),
  ]
}

async function measureWays(
  apps: ReadonlyMap<Variant, App>,
  { isQuick, progress }: BenchOptions,
): Promise<readonly Comparison[]> {
  const rounds = isQuick ? 3 : 30
  const count = isQuick ? 50 : 100
  const work = { do: 'calls' as const, count, concurrency: 8, isStreamed: false, tokens: TOKENS }
  const comparisons: Comparison[] = []
  for (const way of waySchema.options) {
    const measured = await measure(apps, rounds, count, progress, `calls by ${way}`, (app, variant) =>
      tell(app, variant === 'opentelemetry' ? work : { ...work, way }),
    )
    const reference = await measure(apps, rounds, count, progress, 'calls by the OpenAI client', (app) =>
      tell(app, work),
    )
    comparisons.push(
      compareAdded(
        {
          name: `Added to a plain LLM call by ${way}`,
          unit: 'µs',
          rivalName: 'OpenTelemetry, by the OpenAI client',
          bar: 'less than it',
          aim: '50 µs',
        },
        measured.map((round, index) => ({
          ours: round.tokentally - round.bare,
          rival: (reference[index]?.opentelemetry ?? 0) - (reference[index]?.bare ?? 0),
        })),
      ),
    )
  }
  return comparisons
}

type Round = Readonly<Record<Variant, number>>

/** Microseconds of CPU for each piece of work, round by round. */
async function measure(
  apps: ReadonlyMap<Variant, App>,
  rounds: number,
  pieces: number,
  progress: (text: string) => void,
  what: string,
  work: (app: App, variant: Variant) => Promise<unknown>,
): Promise<readonly Round[]> {
  const measured: Round[] = []
  // The first rounds warm up and are not counted.
  for (let round = -10; round < rounds; round++) {
    const result: Record<Variant, number> = { bare: 0, tokentally: 0, opentelemetry: 0 }
    const inTurn = [...apps.entries(), ...apps.entries()].slice((round + 12) % 3).slice(0, apps.size)
    const order = round % 2 === 0 ? inTurn : inTurn.toReversed()
    for (const [variant, app] of order) {
      await tell(app, { do: 'start' })
      await work(app, variant)
      const { cpuMicroseconds } = doneSchema.parse(await tell(app, { do: 'stop' }))
      result[variant] = cpuMicroseconds / pieces
    }
    if (round >= 0) measured.push(result)
    progress(
      `${what}, round ${round + 1} of ${rounds}: bare ${result.bare.toFixed(1)}, tokentally ${result.tokentally.toFixed(1)}, opentelemetry ${result.opentelemetry.toFixed(1)} µs`,
    )
  }
  return measured
}

function comparisons(rounds: readonly Round[], what: string): Comparison[] {
  return [
    compareAdded(
      {
        name: `Added to ${what}`,
        unit: 'µs',
        rivalName: 'OpenTelemetry OpenAI instrumentation',
        bar: 'less than it',
        aim: '50 µs',
      },
      rounds.map((round) => ({
        ours: round.tokentally - round.bare,
        rival: round.opentelemetry - round.bare,
      })),
    ),
    compare(
      { name: `CPU of ${what}`, unit: 'µs', rivalName: 'with OpenTelemetry OpenAI instrumentation' },
      rounds.map((round) => ({ ours: round.tokentally, rival: round.opentelemetry })),
    ),
    compare(
      { name: `CPU of ${what}`, unit: 'µs', rivalName: 'the same app, bare' },
      rounds.map((round) => ({ ours: round.tokentally, rival: round.bare })),
    ),
  ]
}

function start(file: string, args: readonly string[]): ChildProcess {
  return fork(fileURLToPath(new URL(file, import.meta.url)), args, {
    execArgv: ['--conditions=source', '--expose-gc'],
  })
}

function messageOf(child: ChildProcess): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  const onExit = () => reject(new Error('a measured process ended'))
  child.once('exit', onExit)
  child.once('message', (message) => {
    child.off('exit', onExit)
    resolve(message)
  })
  return promise
}

function tell(app: App, command: AppCommand): Promise<unknown> {
  const answered = messageOf(app.process)
  app.process.send(command)
  return answered
}
