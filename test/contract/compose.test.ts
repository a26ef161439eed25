import { type ChildProcess, spawn } from 'node:child_process'
import { access, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeAll, describe, expect, inject, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { ROLES, readConfig, VARIABLES } from '../../apps/server/src/config.ts'
import { createEmptyDatabase, waitFor } from '../harness/index.ts'

/** What docker-compose.yml, the Dockerfile and .env.example promise, held against the program that they run. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const OWNER_KEY = 'k'.repeat(48)
/** What someone fills in after `cp .env.example .env`. */
const FILLED_IN = {
  TOKENTALLY_BOOTSTRAP_KEY: OWNER_KEY,
  TOKENTALLY_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
  POSTGRES_PASSWORD: 'secret',
}

// The part of the Compose specification that the file uses; anything else is a spelling mistake.
const duration = z.string().regex(/^\d+(ms|s|m)$/)
const environmentSchema = z.record(z.string(), z.string())
const serviceSchema = z.strictObject({
  image: z.string(),
  build: z.string().optional(),
  restart: z.enum(['no', 'always', 'on-failure', 'unless-stopped']),
  init: z.boolean().optional(),
  shm_size: z.string().optional(),
  stop_grace_period: duration.optional(),
  environment: environmentSchema.optional(),
  depends_on: z
    .record(
      z.string(),
      z.strictObject({
        condition: z.enum(['service_started', 'service_healthy', 'service_completed_successfully']),
      }),
    )
    .default({}),
  ports: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  volumes: z.array(z.string()).default([]),
  healthcheck: z
    .strictObject({
      test: z.array(z.string()).min(2),
      interval: duration,
      timeout: duration,
      retries: z.number().int(),
      start_period: duration.optional(),
    })
    .optional(),
})
const composeSchema = z.strictObject({
  'x-service': z.unknown(),
  'x-environment': z.unknown(),
  services: z.record(z.string(), serviceSchema),
  volumes: z.record(z.string(), z.null()),
})

interface Dockerfile {
  readonly copied: readonly string[]
  readonly command: readonly string[]
  readonly healthcheck: readonly string[]
  readonly exposed: string | undefined
  readonly environment: Readonly<Record<string, string>>
  readonly run: string
}

let composeText: string
let compose: z.infer<typeof composeSchema>
let dockerfile: Dockerfile
let envExample: string

beforeAll(async () => {
  composeText = await readFile(join(ROOT, 'docker-compose.yml'), 'utf8')
  compose = composeSchema.parse(parse(composeText, { merge: true }))
  dockerfile = readDockerfile(await readFile(join(ROOT, 'Dockerfile'), 'utf8'))
  envExample = await readFile(join(ROOT, '.env.example'), 'utf8')
})

function readDockerfile(text: string): Dockerfile {
  const lines = text.replaceAll(/\\\n\s*/g, '').split('\n')
  const after = (instruction: string) =>
    lines.flatMap((line) => (line.startsWith(`${instruction} `) ? [line.slice(instruction.length + 1)] : []))
  const words = z.array(z.string()).min(1)
  return {
    copied: after('COPY').flatMap((line) => line.split(' ').slice(0, -1)),
    command: words.parse(JSON.parse(after('CMD')[0] ?? '')),
    healthcheck: words.parse(JSON.parse(/ CMD (\[.*\])$/.exec(after('HEALTHCHECK')[0] ?? '')?.[1] ?? '')),
    exposed: after('EXPOSE')[0],
    environment: Object.fromEntries(
      after('ENV').flatMap((line) => line.split(' ').map((pair): [string, string] => pairOf(pair))),
    ),
    run: after('RUN').join('\n'),
  }
}

function pairOf(text: string): [string, string] {
  const split = text.indexOf('=')
  return [text.slice(0, split), text.slice(split + 1)]
}

/** `${NAME:?…}` and `${NAME:-default}`, as Compose fills them in. */
function interpolate(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replace(/\$\{(\w+):([?-])([^}]*)\}/g, (_, name: string, kind: string, rest: string) => {
    const value = variables[name] ?? ''
    if (value === '' && kind === '?') throw new Error(`${name}: ${rest}`)
    return value === '' ? rest : value
  })
}

/** The services that run our image, with their environment filled in. */
function ourServices(variables: Readonly<Record<string, string>> = FILLED_IN) {
  return Object.entries(compose.services)
    .filter(([, service]) => service.build !== undefined)
    .map(([name, service]) => ({
      name,
      service,
      environment: Object.fromEntries(
        Object.entries(service.environment ?? {}).map(([key, value]) => [key, interpolate(value, variables)]),
      ),
    }))
}

describe('docker-compose.yml', () => {
  test('sets only variables that the service reads, to values that it takes', () => {
    const services = ourServices()
    expect(services.map(({ name }) => name)).toEqual(['api', 'worker'])
    for (const { environment } of services) {
      for (const name of Object.keys(environment)) expect(VARIABLES).toContain(name)
      const config = readConfig(environment, false)
      expect(config).toMatchObject({ host: '0.0.0.0', port: 4000, logLevel: 'info' })
      // What is not said in .env is what it would be without Compose.
      const own = readConfig({}, false)
      expect(config.databasePoolMax).toBe(own.databasePoolMax)
      expect(config.bodyMaxBytes).toBe(own.bodyMaxBytes)
    }
  })

  test('runs every role, each in a service of its own', () => {
    const roles = ourServices().flatMap(({ environment }) => readConfig(environment, false).roles)
    expect(roles.toSorted()).toEqual([...ROLES].sort())
  })

  test('passes on what is set in .env', () => {
    const set = { TOKENTALLY_DATABASE_POOL: '40', TOKENTALLY_BODY_MAX_MIB: '8', LOG_LEVEL: 'warn' }
    for (const { environment } of ourServices({ ...FILLED_IN, ...set })) {
      expect(readConfig(environment, false)).toMatchObject({
        databasePoolMax: 40,
        bodyMaxBytes: 8 * 1024 * 1024,
        logLevel: 'warn',
      })
    }
  })

  test.each(Object.keys(FILLED_IN))('does not start without %s', (name) => {
    expect(() => ourServices({ ...FILLED_IN, [name]: '' })).toThrow(`${name}: set it in .env`)
  })

  test('names hosts and accounts that exist in it', () => {
    const database = compose.services['database']
    for (const { environment, service } of ourServices()) {
      const databaseUrl = new URL(environment['DATABASE_URL'] ?? '')
      const redisUrl = new URL(environment['REDIS_URL'] ?? '')
      expect(Object.keys(compose.services)).toEqual(
        expect.arrayContaining([databaseUrl.hostname, redisUrl.hostname]),
      )
      expect(databaseUrl.username).toBe(database?.environment?.['POSTGRES_USER'])
      expect(databaseUrl.pathname).toBe(`/${database?.environment?.['POSTGRES_DB']}`)
      // And waits for them, until they say that they are well.
      for (const host of [databaseUrl.hostname, redisUrl.hostname]) {
        expect(service.depends_on[host]?.condition).toBe('service_healthy')
        expect(compose.services[host]?.healthcheck).toBeDefined()
      }
    }
  })

  test('publishes the port that the service listens on, on this machine alone', () => {
    const [{ service, environment } = { service: undefined, environment: undefined }] = ourServices()
    const port = environment?.['TOKENTALLY_PORT']
    expect(service?.ports?.map((one) => interpolate(one, {}))).toEqual([`127.0.0.1:${port}:${port}`])
    const others = Object.entries(compose.services).filter(([name]) => name !== 'api')
    expect(others.map(([, other]) => other.ports)).toEqual(others.map(() => undefined))
  })

  test('gives the service longer to stop than it takes', () => {
    for (const { service } of ourServices()) {
      expect(Number.parseInt(service.stop_grace_period ?? '0', 10)).toBeGreaterThan(10)
    }
  })

  test('keeps data in volumes that it declares', () => {
    const used = Object.values(compose.services).flatMap((service) =>
      service.volumes.map((volume) => volume.split(':')[0]),
    )
    expect(used.toSorted()).toEqual(Object.keys(compose.volumes).sort())
  })

  test('lets Redis evict nothing and keep its data, and takes a TimescaleDB that runs its jobs', () => {
    expect(compose.services['redis']?.command?.join(' ')).toContain('--maxmemory-policy noeviction')
    expect(compose.services['redis']?.command?.join(' ')).toContain('--appendonly yes')
    const [, major, minor, patch] =
      /^timescale\/timescaledb:(\d+)\.(\d+)\.(\d+)-pg1[678]$/.exec(
        compose.services['database']?.image ?? '',
      ) ?? []
    expect(Number(major) * 1e6 + Number(minor) * 1e3 + Number(patch)).toBeGreaterThanOrEqual(2_031_002)
  })
})

describe('.env.example', () => {
  const entries = () =>
    envExample.split('\n').flatMap((line) => {
      const [, comment, name, value] = /^(# )?([A-Z_]+)=(.*)$/.exec(line) ?? []
      return name === undefined || value === undefined ? [] : [{ isSet: comment === undefined, name, value }]
    })

  test('names every variable of the service and of Compose, and no other', () => {
    const inCompose = [...composeText.matchAll(/\$\{(\w+):/g)].map(([, name]) => name)
    expect(
      entries()
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...new Set([...VARIABLES, ...inCompose])].sort())
  })

  test('leaves open exactly what Compose requires', () => {
    const required = new Set([...composeText.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name))
    expect(entries().filter(({ isSet, value }) => isSet && value !== '')).toEqual([])
    expect(
      new Set(
        entries()
          .filter(({ isSet }) => isSet)
          .map(({ name }) => name),
      ),
    ).toEqual(required)
  })

  test('shows true defaults', () => {
    const shown = entries().filter(({ name }) => name !== 'DATABASE_URL' && name !== 'REDIS_URL')
    const environment = Object.fromEntries(shown.map(({ name, value }) => [name, value]))
    expect(readConfig(environment, false)).toEqual(readConfig({}, false))
    const publish = shown.find(({ name }) => name === 'TOKENTALLY_PUBLISH')
    expect(composeText).toContain(`\${TOKENTALLY_PUBLISH:-${publish?.value}}`)
  })
})

test('docs/reference/environment.md has a row for every variable', async () => {
  const text = await readFile(join(ROOT, 'docs/reference/environment.md'), 'utf8')
  const rows = [...text.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name)
  expect(rows).toEqual(expect.arrayContaining([...VARIABLES]))
})

describe('the Dockerfile', () => {
  test('copies what exists, and what .dockerignore lets through', async () => {
    const ignore = (await readFile(join(ROOT, '.dockerignore'), 'utf8')).split('\n')
    expect(ignore[0]).toBe('*')
    const sources = dockerfile.copied
    expect(sources).not.toEqual([])
    for (const source of sources) {
      await expect(access(join(ROOT, source))).resolves.toBeUndefined()
      expect(ignore).toContain(`!${source}`)
    }
    expect(ignore).toContain('**/node_modules')
  })

  test('copies every workspace of the lock file, and the migrations', async () => {
    const manifest = z
      .object({ workspaces: z.array(z.string()) })
      .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')))
    const needed = manifest.workspaces.map((workspace) => workspace.replace('/*', ''))
    expect(dockerfile.copied).toEqual(expect.arrayContaining([...needed, 'migrations']))
    const workspace = /npm ci .*--workspace (\S+)/.exec(dockerfile.run)?.[1] ?? ''
    await expect(access(join(ROOT, workspace, 'package.json'))).resolves.toBeUndefined()
  })

  test('sets only variables that are read', () => {
    const { NODE_ENV, ...own } = dockerfile.environment
    expect(NODE_ENV).toBe('production')
    for (const name of Object.keys(own)) expect(VARIABLES).toContain(name)
    expect(dockerfile.exposed).toBe(String(readConfig(own, false).port))
  })

  test('starts the service as npm start does', async () => {
    const manifest = z
      .object({ scripts: z.object({ start: z.string() }) })
      .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')))
    expect(dockerfile.command.join(' ')).toBe(manifest.scripts.start)
  })
})

describe('the containers', () => {
  const running: { child: ChildProcess; ended: Promise<number | null> }[] = []
  const closers: (() => Promise<void>)[] = []

  afterEach(async () => {
    for (const { child, ended } of running.splice(0)) {
      child.kill('SIGTERM')
      await ended
    }
    for (const close of closers.splice(0)) await close()
  })

  /** Runs a command of the Dockerfile with this Node, from the root of the repository, which is the image's. */
  function container(command: readonly string[], environment: Readonly<Record<string, string>>) {
    expect(command[0]).toBe('node')
    const child = spawn(process.execPath, command.slice(1), {
      cwd: ROOT,
      env: { PATH: process.env['PATH'], ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString()
      })
    }
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    return { child, ended, output: () => output }
  }

  const isHealthy = async (environment: Readonly<Record<string, string>>) =>
    (await container(dockerfile.healthcheck, environment).ended) === 0

  test('start on an empty database at once, are healthy, share the work, and stop with 0', async () => {
    const database = await createEmptyDatabase()
    closers.push(() => database.drop())
    const redisUrl = inject('redisUrl')
    if (redisUrl === undefined)
      process.stderr.write('\nNo Redis: the containers run with jobs on the database.\n')
    const started = await Promise.all(
      ourServices().map(async ({ name, environment }) => {
        const { REDIS_URL: _, ...rest } = environment
        const own = {
          ...rest,
          ...dockerfileEnvironment(),
          DATABASE_URL: database.url,
          ...(redisUrl !== undefined && { REDIS_URL: redisUrl }),
          TOKENTALLY_HOST: '127.0.0.1',
          TOKENTALLY_PORT: String(await freePort()),
        }
        const process = container(dockerfile.command, own)
        running.push(process)
        return { name, own, process }
      }),
    )
    for (const { own, process } of started) {
      await waitFor(() => isHealthy(own), `a container is healthy:\n${process.output()}`)
    }
    const urlOf = (name: string) =>
      `http://127.0.0.1:${started.find((one) => one.name === name)?.own.TOKENTALLY_PORT}`
    const authorization = `Bearer ${OWNER_KEY}`

    const event = { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1200, output_tokens: 300 }
    const post = (url: string) =>
      fetch(`${url}/api/v1/usage`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify(event),
      })
    expect((await post(urlOf('api'))).status).toBe(200)
    expect((await post(urlOf('worker'))).status).toBe(404)

    // The api process runs no jobs: what is rolled up, the worker did.
    await waitFor(async () => {
      const { rows } = await database.pool.query(
        'select count(*)::int as open from ledger_batch where rolled_up_at is null',
      )
      return rows[0]?.open === 0
    }, 'the worker has rolled everything up')
    const report = await fetch(`${urlOf('api')}/api/v1/costs/aggregate`, { headers: { authorization } })
    expect(await report.json()).toMatchObject({ totals: { requests: 1, total_cost: '0.00036' } })

    for (const { process } of started) {
      process.child.kill('SIGTERM')
      expect(await process.ended, process.output()).toBe(0)
    }
  })

  test('are not healthy when nothing answers', async () => {
    expect(await isHealthy({ TOKENTALLY_PORT: String(await freePort()) })).toBe(false)
  })

  function dockerfileEnvironment(): Record<string, string> {
    return Object.fromEntries(Object.entries(dockerfile.environment).filter(([name]) => name === 'NODE_ENV'))
  }
})

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
