import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../apps/server/src/config.ts'
import { type SpawnedService, spawnService } from '../harness/service.ts'
import { waitFor } from '../harness/wait-for.ts'

let dataDir = ''
let service: SpawnedService | undefined

beforeAll(async () => {
  dataDir = join(await mkdtemp(join(tmpdir(), 'tokentally-start-')), 'data')
})

afterAll(async () => {
  await service?.stop()
  await rm(join(dataDir, '..'), { recursive: true, force: true })
})

async function isReady(url: string): Promise<boolean> {
  return (await fetch(`${url}/readyz`)).ok
}

test('the service on its own database starts, survives kill -9, and ends with 0 on SIGTERM', async () => {
  service = await spawnService({ dataDir })
  expect(await isReady(service.url)).toBe(true)
  const created = await fetch(`${service.url}/api/v1/keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'reader', scopes: ['read'] }),
  })
  expect(created.status).toBe(201)
  await service.kill()

  service = await spawnService({ dataDir })
  const headers = { 'x-tokentally-key': service.ownerKey }
  const listed = await (await fetch(`${service.url}/api/v1/keys`, { headers })).text()
  expect(listed).toContain('reader')
  expect(await service.terminate()).toBe(0)
  service = undefined
})

test('secrets in the data directory are readable by their owner only', async () => {
  for (const name of await readdir(dataDir)) {
    const { mode } = await stat(join(dataDir, name))
    expect([name, mode & 0o077]).toEqual([name, 0])
  }
})

test('a database server that is killed is started again, and the service heals', async () => {
  service = await spawnService({ dataDir })
  const { url } = service
  const pid = Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10)
  process.kill(pid, 'SIGKILL')
  await waitFor(async () => {
    const now = Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'), 10)
    return now !== pid && (await isReady(url))
  }, 'the service is ready again')
})

test('a wrong setting is refused in one line that names the variable', () => {
  const wrong: readonly Record<string, string>[] = [
    { TOKENTALLY_PORT: 'http' },
    { TOKENTALLY_ROLES: 'api,gateway' },
    { DATABASE_URL: 'mysql://here' },
    { REDIS_URL: 'localhost' },
    { TOKENTALLY_SECRET_KEY: 'short' },
    { TOKENTALLY_BOOTSTRAP_KEY: 'short' },
    { LOG_LEVEL: 'loud' },
  ]
  for (const environment of wrong) {
    const [name] = Object.keys(environment)
    expect(() => readConfig(environment, false)).toThrow(new RegExp(`^${name}: .+$`))
  }
})
