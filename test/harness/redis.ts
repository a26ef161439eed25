import { execFile, spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { waitFor } from './wait-for.ts'

const run = promisify(execFile)

/** A Redis for the tests of one run. */
export interface TestRedis {
  readonly url: string
  stop(): Promise<void>
}

/**
 * Finds a Redis: `TEST_REDIS_URL` or `REDIS_URL`, else `redis-server` on the PATH, else Debian's package when
 * root. Elsewhere the tests that need it are skipped, visibly.
 * @throws with CI=true when there is none
 */
export async function startRedis(directory: string): Promise<TestRedis | undefined> {
  const given = process.env['TEST_REDIS_URL'] || process.env['REDIS_URL']
  if (given !== undefined && given !== '') return { url: given, stop: async () => undefined }
  if (!(await hasRedisServer())) {
    await installRedis()
    if (!(await hasRedisServer())) {
      const notice = 'No Redis: set TEST_REDIS_URL or install redis-server.'
      if (process.env['CI'] === 'true') throw new Error(notice)
      process.stderr.write(`\n${notice} The tests of BullMQ on Redis are SKIPPED.\n\n`)
      return undefined
    }
  }
  await mkdir(directory, { recursive: true })
  const port = await freePort()
  const child = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', '--appendonly', 'no'],
    { stdio: 'ignore' },
  )
  const ended = new Promise((resolve) => child.once('exit', resolve))
  const client = new Redis({ port, host: '127.0.0.1', lazyConnect: true, retryStrategy: () => 50 })
  client.on('error', () => undefined)
  await waitFor(async () => (await client.ping()) === 'PONG', 'redis-server answers')
  client.disconnect()
  return {
    url: `redis://127.0.0.1:${port}`,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

async function hasRedisServer(): Promise<boolean> {
  return run('redis-server', ['--version']).then(
    () => true,
    () => false,
  )
}

async function installRedis(): Promise<void> {
  if (process.getuid?.() !== 0) return
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  try {
    await run('apt-get', ['update'], { env })
    await run('apt-get', ['install', '-y', '--no-install-recommends', 'redis-server'], { env })
  } catch {
    // Not a Debian, or no network: the caller looks again and says so.
  }
}

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
