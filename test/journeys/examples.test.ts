import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'

/** Every example is run by the commands of its README, and the report shows what it used. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DEMO = join(ROOT, 'examples/demo/demo.ts')

interface Running {
  readonly process: ChildProcess
  output(): string
  /** Resolves when everything it started has ended. */
  readonly closed: Promise<number | null>
}

function launch(command: string, args: readonly string[], environment: NodeJS.ProcessEnv): Running {
  const child = spawn(command, args, {
    cwd: ROOT,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    // npm runs the script in a shell: all of them are ended together, as Ctrl-C in a terminal does.
    detached: true,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
  }
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { process: child, output: () => output, closed }
}

async function urlIn(running: Running, pattern: RegExp): Promise<string> {
  const find = () => pattern.exec(running.output())?.[1]
  const ended = running.closed.then((code) => {
    throw new Error(`it ended with ${code}:\n${running.output()}`)
  })
  await Promise.race([waitFor(() => find() !== undefined, `${pattern} is printed`), ended])
  return find() ?? ''
}

describe('the demo', () => {
  const run = async (args: readonly string[]) => {
    const running = launch(process.execPath, ['--conditions=source', DEMO, ...args], process.env)
    const code = await running.closed
    return { code, output: running.output() }
  }

  test('shows usage and cost by customer, feature and model, an alert and a URL, and ends', async () => {
    const { code, output } = await run(['--once', '--requests', '60'])
    expect(output).toMatch(/acme +chat +gpt-4o-mini +12 +\d+ +\d+ +0\.\d+/)
    expect(output).toMatch(/Total +60 /)
    expect(output).toContain('Budget alert')
    expect(output).toMatch(/http:\/\/127\.0\.0\.1:\d+\/docs/)
    expect(code, output).toBe(0)
  })

  test('ends with a line that names the option when the number of requests is wrong', async () => {
    const { code, output } = await run(['--requests', 'many'])
    expect(output).toContain('--requests must be a whole number')
    expect(code).toBe(1)
  })
})

describe('an example, by its README', () => {
  let database: TestDatabase
  let service: TestService
  let spool: string
  const started: Running[] = []

  // A service of its own for each, so that a report shows one example alone.
  beforeEach(async () => {
    database = await createTestDatabase()
    service = await startService({ databaseUrl: database.url })
  })

  beforeAll(async () => {
    spool = await mkdtemp(join(tmpdir(), 'tokentally-examples-'))
  })

  afterEach(async () => {
    for (const running of started.splice(0)) await stop(running)
    await service.stop()
    await database.drop()
  })

  afterAll(() => rm(spool, { recursive: true, force: true }))

  async function stop({ process: child, closed }: Running): Promise<number | null> {
    const hasEnded = child.exitCode !== null || child.signalCode !== null
    if (!hasEnded && child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
    return closed
  }

  /** Runs the README's `npm …` line, with the README's variables. */
  function npm(line: string, variables: Readonly<Record<string, string>>): Running {
    const running = launch('npm', line.split(' ').slice(1), {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      TOKENTALLY_SPOOL: join(spool, String(started.length)),
      PORT: '0',
      FAKE_PROVIDER_PORT: '0',
      ...variables,
    })
    started.push(running)
    return running
  }

  const known = () => ({ 'http://127.0.0.1:4000': service.url, '…': service.ownerKey })

  test('express-openai', async () => {
    const readme = await readReadme('express-openai')
    const provider = npm(readme.line('npm run fake-provider'), {})
    const providerUrl = await urlIn(provider, /Fake provider at (http\S+)/)
    const variables = readme.variables({ ...known(), 'http://127.0.0.1:8000': providerUrl })
    const app = npm(readme.line('npm start'), variables)
    const url = await urlIn(app, /Listening on (http\S+)/)

    const [summarize, stream, report] = readme.curls({ 'http://127.0.0.1:3000': url }, variables)
    expect(JSON.parse(await request(summarize))).toEqual({
      summary: 'All that is counted is naïve but 数えた and paid 🙂.',
      usage: { calls: 1, inputTokens: 18, outputTokens: 12 },
    })
    expect(await request(stream)).toBe('All that is counted is naïve but 数えた and paid 🙂.')

    // gpt-4o-mini: 0.15 and 0.60 dollars for a million tokens.
    expect(await reportOf(report, 2)).toEqual([
      {
        customer: 'acme',
        feature: '/summarize',
        model: 'gpt-4o-mini',
        requests: 1,
        input_tokens: 18,
        output_tokens: 12,
        total_cost: '0.0000099',
      },
      {
        customer: 'globex',
        feature: '/stream',
        model: 'gpt-4o-mini',
        requests: 1,
        input_tokens: 11,
        output_tokens: 12,
        total_cost: '0.00000885',
      },
    ])
    await stop(app)
    // What goes wrong in the meter is said on standard error, under its name.
    expect(app.output()).not.toContain('tokentally: ')
  })

  test('koa-anthropic', async () => {
    const readme = await readReadme('koa-anthropic')
    const provider = npm(readme.line('npm run fake-provider'), {})
    const providerUrl = await urlIn(provider, /Fake provider at (http\S+)/)
    const variables = readme.variables({ ...known(), 'http://127.0.0.1:8000': providerUrl })
    const app = npm(readme.line('npm start'), variables)
    const url = await urlIn(app, /Listening on (http\S+)/)

    const [ask, report] = readme.curls({ 'http://127.0.0.1:3001': url }, variables)
    expect(JSON.parse(await request(ask))).toMatchObject({
      usage: { calls: 1, inputTokens: 9, outputTokens: 512 },
    })
    // claude-sonnet-4-6: 3 and 15 dollars for a million tokens.
    expect(await reportOf(report, 1)).toEqual([
      {
        customer: 'acme',
        feature: '/ask',
        model: 'claude-sonnet-4-6',
        requests: 1,
        input_tokens: 9,
        output_tokens: 512,
        total_cost: '0.007707',
      },
    ])
    await stop(app)
    // What goes wrong in the meter is said on standard error, under its name.
    expect(app.output()).not.toContain('tokentally: ')
  })

  test('otel-collector, straight to the service', async () => {
    const readme = await readReadme('otel-collector')
    const variables = readme.variables(known())
    const app = npm(readme.line('npm start'), variables)
    expect(await app.closed, app.output()).toBe(0)

    const [report] = readme.curls({}, variables)
    expect(await reportOf(report, 1)).toEqual([
      {
        customer: 'acme',
        feature: 'summarize',
        model: 'gpt-4o-mini',
        requests: 1,
        input_tokens: 1200,
        output_tokens: 300,
        total_cost: '0.00036',
      },
    ])
  })
})

interface Curl {
  readonly url: string
  readonly init: RequestInit
}

/** The commands of a README's shell blocks. */
async function readReadme(example: string) {
  const text = await readFile(join(ROOT, 'examples', example, 'README.md'), 'utf8')
  const lines = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block
      .split('\n')
      .map((line) => line.replace(/ +# .*$/, ''))
      .filter((line) => line !== ''),
  )
  return {
    line(start: string): string {
      const found = lines.find((line) => line.startsWith(start))
      if (found === undefined) throw new Error(`the README of ${example} has no command "${start}"`)
      return found
    },
    /** What the `export` lines set, with places of this test's own. */
    variables(replacements: Readonly<Record<string, string>>): Record<string, string> {
      const variables: Record<string, string> = {}
      const open = new Set<string>()
      for (const line of lines) {
        const [, name, value] = /^export (\w+)=(.*)$/.exec(line) ?? []
        if (name === undefined || value === undefined) continue
        // The first value stands, unless it was left open: for those who have a vendor's key.
        if (name in variables && !open.delete(name)) continue
        if (value === '…') open.add(name)
        variables[name] = replaced(expanded(value.replaceAll('"', ''), variables), replacements)
      }
      return variables
    },
    curls(
      replacements: Readonly<Record<string, string>>,
      variables: Readonly<Record<string, string>>,
    ): Curl[] {
      return lines
        .filter((line) => line.startsWith('curl '))
        .map((line) => readCurl(replaced(expanded(line, variables), replacements)))
    },
  }
}

function expanded(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replace(/\$(\w+)/g, (_, name: string) => variables[name] ?? '')
}

function replaced(text: string, replacements: Readonly<Record<string, string>>): string {
  return Object.entries(replacements).reduce((result, [from, to]) => result.replaceAll(from, to), text)
}

/** The little of curl that the READMEs use: `-H`, `-d` and a URL. */
function readCurl(line: string): Curl {
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)]
    .map(([, single, double, plain]) => single ?? double ?? plain ?? '')
    .slice(1)
  const headers = new Headers()
  let body: string | undefined
  let url = ''
  while (words.length > 0) {
    const word = words.shift()
    if (word === '-H') {
      const [name = '', ...value] = (words.shift() ?? '').split(':')
      headers.set(name, value.join(':').trim())
    } else if (word === '-d') body = words.shift()
    else if (word?.startsWith('http')) url = word
    else throw new Error(`this test does not know what "${word}" means to curl`)
  }
  return { url, init: { headers, ...(body !== undefined && { method: 'POST', body }) } }
}

async function request(curl: Curl | undefined): Promise<string> {
  if (curl === undefined) throw new Error('the README has no such request')
  const response = await fetch(curl.url, curl.init)
  const text = await response.text()
  if (!response.ok) throw new Error(`${curl.url} answered ${response.status}: ${text}`)
  return text
}

const reportSchema = z.object({
  currency: z.literal('USD'),
  groups: z.array(
    z.object({
      customer: z.string(),
      feature: z.string(),
      model: z.string(),
      requests: z.number(),
      input_tokens: z.number(),
      output_tokens: z.number(),
      total_cost: z.string(),
    }),
  ),
})

/** The README's report, once it has so many groups: events arrive when the meter has sent them. */
async function reportOf(curl: Curl | undefined, groups: number) {
  const read = async () => reportSchema.parse(JSON.parse(await request(curl))).groups
  await waitFor(async () => (await read()).length === groups, `the report has ${groups} groups`)
  return read()
}

describe("the Collector's configuration", () => {
  // As the Collector documents its components: exporter/exporterhelper, exporter/otlphttpexporter and
  // receiver/otlpreceiver of v0.144 and newer, and extension/storage/filestorage of contrib.
  const duration = z.string().regex(/^\d+(ms|s|m|h)$/)
  const collectorSchema = z.strictObject({
    extensions: z.strictObject({
      file_storage: z.strictObject({
        directory: z.string(),
        create_directory: z.boolean(),
        fsync: z.boolean(),
      }),
    }),
    receivers: z.strictObject({
      otlp: z.strictObject({
        protocols: z.strictObject({
          grpc: z.strictObject({ endpoint: z.string() }),
          http: z.strictObject({ endpoint: z.string() }),
        }),
      }),
    }),
    processors: z.strictObject({}).optional(),
    exporters: z.strictObject({
      otlp_http: z.strictObject({
        endpoint: z.string(),
        headers: z.record(z.string(), z.string()),
        sending_queue: z.strictObject({
          storage: z.string(),
          queue_size: z.number().int().positive(),
          batch: z.strictObject({
            sizer: z.enum(['items', 'bytes']),
            flush_timeout: duration,
            min_size: z.number().int(),
            max_size: z.number().int(),
          }),
        }),
        retry_on_failure: z.strictObject({ enabled: z.literal(true), max_elapsed_time: z.literal('0s') }),
      }),
    }),
    service: z.strictObject({
      extensions: z.array(z.string()),
      pipelines: z.record(
        z.string(),
        z.strictObject({
          receivers: z.array(z.string()).min(1),
          processors: z.array(z.string()).default([]),
          exporters: z.array(z.string()).min(1),
        }),
      ),
    }),
  })

  test('is whole: all that is named is defined, and all that is defined is used', async () => {
    const text = await readFile(join(ROOT, 'examples/otel-collector/collector.yaml'), 'utf8')
    const config = collectorSchema.parse(parse(text))
    const { service } = config
    expect(Object.keys(service.pipelines)).toEqual(['traces'])
    const used = { receivers: new Set<string>(), processors: new Set<string>(), exporters: new Set<string>() }
    for (const pipeline of Object.values(service.pipelines)) {
      for (const name of pipeline.receivers) used.receivers.add(name)
      for (const name of pipeline.processors) used.processors.add(name)
      for (const name of pipeline.exporters) used.exporters.add(name)
    }
    expect([...used.receivers]).toEqual(Object.keys(config.receivers))
    expect([...used.processors]).toEqual(Object.keys(config.processors ?? {}))
    expect([...used.exporters]).toEqual(Object.keys(config.exporters))
    expect(service.extensions).toEqual(Object.keys(config.extensions))

    const { otlp_http: exporter } = config.exporters
    expect(service.extensions).toContain(exporter.sending_queue.storage)
    expect(exporter.sending_queue.batch.min_size).toBeLessThanOrEqual(exporter.sending_queue.batch.max_size)
    // The exporter adds /v1/traces, and the variables are those of the README.
    expect(exporter.endpoint).toBe(`\${env:TOKENTALLY_URL:-http://127.0.0.1:4000}`)
    expect(exporter.headers).toEqual({ Authorization: `Bearer \${env:TOKENTALLY_API_KEY}` })
  })

  test('listens where the README sends spans', async () => {
    const text = await readFile(join(ROOT, 'examples/otel-collector/collector.yaml'), 'utf8')
    const { receivers } = collectorSchema.parse(parse(text))
    const readme = await readFile(join(ROOT, 'examples/otel-collector/README.md'), 'utf8')
    expect(readme).toContain(`OTEL_EXPORTER_OTLP_ENDPOINT=http://${receivers.otlp.protocols.http.endpoint}\n`)
  })
})
