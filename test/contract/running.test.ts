import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import {
  createEmptyDatabase,
  createTestDatabase,
  type ServiceOptions,
  type SpawnedService,
  spawnService,
  waitFor,
} from '../harness/index.ts'
import { call, countEvents, sendUsage, submissionOf } from './api-client.ts'

/** Running it, as CONTRACT.md describes it: starts, stops, settings and logs. */

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function testDatabase() {
  const database = await createTestDatabase()
  closers.push(() => database.drop())
  return database
}
async function spawned(options: ServiceOptions): Promise<SpawnedService> {
  const service = await spawnService(options)
  closers.push(() => service.kill())
  return service
}
async function openSocket(service: SpawnedService): Promise<Socket> {
  const { hostname, port } = new URL(service.url)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  socket.on('error', () => undefined)
  return socket
}
async function isOpen(service: SpawnedService): Promise<boolean> {
  return openSocket(service).then(
    (socket) => {
      socket.destroy()
      return true
    },
    () => false,
  )
}

const event = { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1 }

describe('SIGTERM', () => {
  it('lets what is in flight finish, takes nothing more, and ends with 0', async () => {
    const database = await testDatabase()
    const service = await spawned({ databaseUrl: database.url })
    // Connections that ask for nothing hold up no one.
    const idle = await openSocket(service)
    const half = await openSocket(service)
    half.write('POST /api/v1/usage HTTP/1.1\r\nHost: x\r\nContent-')
    expect((await call(service, '/healthz')).status).toBe(200)

    const lock = await database.pool.connect()
    await lock.query('begin; lock table event_key in access exclusive mode')
    const inFlight = Array.from({ length: 8 }, () => sendUsage(service, event))
    await waitFor(async () => {
      const { rows } = await database.pool.query(
        `select from pg_locks
         where not granted and relation = 'event_key'::regclass
           and database = (select oid from pg_database where datname = current_database())`,
      )
      return rows.length > 0
    }, 'events to wait for the ledger')
    const ended = service.terminate()
    await waitFor(async () => !(await isOpen(service)), 'the port is closed')
    await lock.query('commit')
    lock.release()
    const answers = await Promise.all(inFlight)
    for (const answer of answers) expect(submissionOf(answer).accepted).toBe(1)
    expect(await ended).toBe(0)
    expect(service.output()).not.toContain('stopping took too long')
    expect(await countEvents(database.pool)).toBe(8)
    idle.destroy()
    half.destroy()
  })
})

describe('a start', () => {
  it('of several replicas at once on an empty database makes one organization with one key, shown once', async () => {
    const database = await createEmptyDatabase()
    closers.push(() => database.drop())
    // The server's connections are shared with whatever is tested beside this.
    const environment = { TOKENTALLY_BOOTSTRAP_KEY: '', TOKENTALLY_DATABASE_POOL: '4' }
    const options = { databaseUrl: database.url, environment }
    const replicas = await Promise.all([spawned(options), spawned(options), spawned(options)])
    const keys = replicas.flatMap(
      (replica) => /shown only now: (tt_\S+)/.exec(replica.output())?.slice(1) ?? [],
    )
    expect(keys).toHaveLength(1)
    for (const replica of replicas) {
      expect((await call(replica, '/readyz')).status).toBe(200)
      const answer = await call(replica, '/api/v1/usage', { key: keys[0] ?? '', body: event })
      expect(submissionOf(answer).accepted).toBe(1)
    }
    expect(await countEvents(database.pool)).toBe(3)
    const later = await spawned(options)
    expect(later.output()).not.toContain('tt_')
    expect(later.output()).toContain(later.url)
  })

  const wrong: readonly [name: string, environment: Readonly<Record<string, string>>][] = [
    ['TOKENTALLY_PORT', { TOKENTALLY_PORT: 'http' }],
    ['TOKENTALLY_PORT', { TOKENTALLY_PORT: '65536' }],
    ['TOKENTALLY_HOST', { TOKENTALLY_HOST: '203.0.113.1' }],
    ['DATABASE_URL', { DATABASE_URL: 'mysql://127.0.0.1/x' }],
    ['REDIS_URL', { REDIS_URL: 'localhost' }],
    ['TOKENTALLY_SECRET_KEY', { TOKENTALLY_SECRET_KEY: '' }],
    ['TOKENTALLY_SECRET_KEY', { TOKENTALLY_SECRET_KEY: 'c2hvcnQ=' }],
    ['TOKENTALLY_BOOTSTRAP_KEY', { TOKENTALLY_BOOTSTRAP_KEY: 'short' }],
    ['TOKENTALLY_WEBHOOK_ALLOW', { TOKENTALLY_WEBHOOK_ALLOW: '10.0.0.0/8,http://hooks' }],
    ['TOKENTALLY_SMTP_FROM', { TOKENTALLY_SMTP_URL: 'smtp://mail.example' }],
    ['LOG_LEVEL', { LOG_LEVEL: 'loud' }],
  ]
  it.each(wrong)(
    'with a wrong setting ends with one line that names it: %s %j',
    async (name, environment) => {
      const database = await testDatabase()
      const refusal = spawnService({ databaseUrl: database.url, environment }).then(
        (service) => {
          closers.push(() => service.kill())
          return 'it started'
        },
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      )
      expect(await refusal).toMatch(new RegExp(`ended with [1-9]\\d*:\\n${name}: [^\\n]+\\n$`))
    },
  )

  it('on a port that is taken, or in a directory that cannot be made, says so', async () => {
    const database = await testDatabase()
    const service = await spawned({ databaseUrl: database.url })
    const port = Number(new URL(service.url).port)
    await expect(spawnService({ databaseUrl: database.url, port })).rejects.toThrow(
      new RegExp(`ended with 1:\\nTOKENTALLY_PORT: [^\\n]*${port}[^\\n]*\\n$`),
    )
    const directory = await mkdtemp(join(tmpdir(), 'tokentally-running-'))
    closers.push(() => rm(directory, { recursive: true }))
    await expect(spawnService({ dataDir: '/dev/null/data' })).rejects.toThrow(/ended with 1:\n[^\n]+\n$/)
  })
})

describe('logs', () => {
  it('are lines of JSON without keys, ids or texts', async () => {
    const database = await testDatabase()
    const service = await spawned({ databaseUrl: database.url, environment: { LOG_LEVEL: 'debug' } })
    await sendUsage(service, { ...event, customer_id: 'acme-secret', event_id: 'event-secret' })
    await sendUsage(service, { ...event, prompt: 'the capital of France?' })
    await call(service, '/api/v1/usage?customer=acme-secret&start=never')
    await call(service, '/api/v1/usage', { key: 'tt_wrong_secret' })
    await call(service, '/api/v1/usage', { key: null, headers: { 'x-tokentally-key': 'tt_wrong_secret' } })
    expect(await service.terminate()).toBe(0)
    const lines = service.output().trimEnd().split('\n')
    const logged = lines.filter((line) => !/^TokenTally is ready|^Data: /.test(line))
    expect(logged.length).toBeGreaterThan(4)
    for (const line of logged) {
      expect(JSON.parse(line)).toMatchObject({ level: expect.anything(), time: expect.anything() })
    }
    for (const secret of [service.ownerKey, 'tt_wrong_secret', 'acme-secret', 'event-secret', 'France']) {
      expect(service.output()).not.toContain(secret)
    }
  })
})
