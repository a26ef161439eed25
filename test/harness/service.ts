import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { startService as startComposed } from '../../apps/server/src/compose.ts'
import { readConfig } from '../../apps/server/src/config.ts'
import { waitFor } from './wait-for.ts'

const MAIN = fileURLToPath(new URL('../../apps/server/src/main.ts', import.meta.url))
const OWNER_KEY = `tt_test_${'k'.repeat(32)}`
const SECRET_KEY = Buffer.alloc(32, 7).toString('base64')

/** Starts take seconds; on a machine that is busy with other tests, many. */
const READY_TIMEOUT_MS = 90_000

export interface ServiceOptions {
  /** A test database's URL; absent: an embedded database in `dataDir`. */
  readonly databaseUrl?: string
  readonly redisUrl?: string
  readonly dataDir?: string
  /** 0, the default: any free port. */
  readonly port?: number
  readonly roles?: string
  /** The service's clock; for `startService`, which shares the test's process. */
  readonly now?: () => Date
  /** Further variables. */
  readonly environment?: Readonly<Record<string, string>>
}

/** A running service. */
export interface TestService {
  readonly url: string
  /** A key with the scope `admin`. */
  readonly ownerKey: string
  stop(): Promise<void>
}

/** A service in a process of its own. */
export interface SpawnedService extends TestService {
  readonly pid: number
  /** What it wrote to standard output and standard error so far. */
  output(): string
  /** Ends it without a chance to finish anything (SIGKILL). */
  kill(): Promise<void>
  /** Asks it to stop (SIGTERM). @returns the exit code */
  terminate(): Promise<number | null>
}

/** Starts the service inside the test's own process. */
export async function startService(options: ServiceOptions): Promise<TestService> {
  const service = await startComposed(
    readConfig(environmentOf(options), false),
    pino({ level: 'silent' }),
    options.now,
  )
  return { url: service.url, ownerKey: OWNER_KEY, stop: () => service.stop() }
}

/** Starts the service as `npm start` does, and waits until it is ready. */
export async function spawnService(options: ServiceOptions): Promise<SpawnedService> {
  const child = spawn(process.execPath, ['--conditions=source', MAIN], {
    env: { PATH: process.env['PATH'], ...environmentOf(options) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const exited = exitOf(child)
  const urlIn = () => /is ready at (http\S+)/.exec(output)?.[1]
  try {
    await Promise.race([
      waitFor(() => urlIn() !== undefined, 'the service is ready', READY_TIMEOUT_MS),
      exited.then((code) => Promise.reject(new Error(`The service ended with ${code}:\n${output}`))),
    ])
  } catch (error) {
    child.kill('SIGKILL')
    if (child.exitCode !== null) throw error
    throw new Error(`The service did not start:\n${output}`, { cause: error })
  }
  const url = urlIn()
  if (url === undefined || child.pid === undefined) throw new Error(`The service did not start:\n${output}`)
  const terminate = async () => {
    child.kill('SIGTERM')
    return exited
  }
  return {
    url,
    ownerKey: OWNER_KEY,
    pid: child.pid,
    output: () => output,
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
    terminate,
    async stop() {
      await terminate()
    },
  }
}

function environmentOf(options: ServiceOptions): Record<string, string> {
  return {
    TOKENTALLY_PORT: String(options.port ?? 0),
    TOKENTALLY_BOOTSTRAP_KEY: OWNER_KEY,
    LOG_LEVEL: 'warn',
    // Tests reach for nothing outside.
    TOKENTALLY_FX_URL: 'off',
    ...(options.databaseUrl === undefined
      ? {}
      : { DATABASE_URL: options.databaseUrl, TOKENTALLY_SECRET_KEY: SECRET_KEY }),
    ...(options.redisUrl === undefined ? {} : { REDIS_URL: options.redisUrl }),
    ...(options.dataDir === undefined ? {} : { TOKENTALLY_DATA_DIR: options.dataDir }),
    ...(options.roles === undefined ? {} : { TOKENTALLY_ROLES: options.roles }),
    ...options.environment,
  }
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)))
}
