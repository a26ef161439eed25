import { type ChildProcess, fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { type BenchOptions, type Comparison, compare, compareAdded } from '../figures.ts'
import { load, requestBytes } from '../load.ts'
import { type AppCommand, doneSchema, readySchema, type Variant, variantSchema } from './protocol.ts'

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
export async function perCallBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
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
  } finally {
    for (const app of apps.values()) app.process.kill()
    peers.kill()
    await rm(directory, { recursive: true, force: true })
  }
}

type Round = Readonly<Record<Variant, number>>

/** Microseconds of CPU for each piece of work, round by round. */
async function measure(
  apps: ReadonlyMap<Variant, App>,
  rounds: number,
  pieces: number,
  progress: (text: string) => void,
  what: string,
  work: (app: App) => Promise<unknown>,
): Promise<readonly Round[]> {
  const measured: Round[] = []
  // The first rounds warm up and are not counted.
  for (let round = -10; round < rounds; round++) {
    const result: Record<Variant, number> = { bare: 0, tokentally: 0, opentelemetry: 0 }
    const inTurn = [...apps.entries(), ...apps.entries()].slice((round + 12) % 3).slice(0, apps.size)
    const order = round % 2 === 0 ? inTurn : inTurn.toReversed()
    for (const [variant, app] of order) {
      await tell(app, { do: 'start' })
      await work(app)
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
