import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { localFilePath } from '../../packages/meter/src/local/local-file.ts'
import { openLocalReader } from '../../packages/meter/src/local/local-report.ts'
import { Spool } from '../../packages/meter/src/spool/spool.ts'
import { startFakeProvider } from '../fake-provider/index.ts'
import {
  createTestDatabase,
  type SpawnedService,
  spawnService,
  type TestDatabase,
  waitFor,
} from '../harness/index.ts'

/** Promise 3 under kill -9: nothing acknowledged or spooled is lost, nothing counts twice. */

const SERVICE_KILLS = 5
const DATABASE_KILLS = 4
const APP_KILLS = 4
const APP = fileURLToPath(new URL('./killed-app.ts', import.meta.url))
const ESTIMATING_APP = fileURLToPath(new URL('./killed-estimate.ts', import.meta.url))

let database: TestDatabase
let directory: string
beforeAll(async () => {
  database = await createTestDatabase()
  directory = await mkdtemp(join(tmpdir(), 'tokentally-kill-'))
})
afterAll(async () => {
  await database.drop()
  await rm(directory, { recursive: true, force: true })
})

const countSchema = z.object({ totals: z.object({ requests: z.number(), input_tokens: z.number() }) })
async function totalsOf(service: SpawnedService, customer: string) {
  const response = await fetch(`${service.url}/api/v1/costs/aggregate?customer=${customer}`, {
    headers: { authorization: `Bearer ${service.ownerKey}` },
  })
  return countSchema.parse(await response.json()).totals
}

/** Clients that send batches of new events, each again and again with the same ids until it is acknowledged. */
function sendUntilStopped(customer: string, service: () => SpawnedService) {
  const acknowledged = new Set<string>()
  let isRunning = true
  let next = 0
  const client = async () => {
    while (isRunning) {
      const events = Array.from({ length: 20 }, () => ({
        event_id: `${customer}-${next++}`,
        customer_id: customer,
        provider: 'openai',
        model: 'gpt-4o-mini',
        ts: new Date().toISOString(),
        input_tokens: 1,
      }))
      for (let isAcknowledged = false; !isAcknowledged; ) {
        try {
          const { url, ownerKey } = service()
          const response = await fetch(`${url}/api/v1/usage`, {
            method: 'POST',
            headers: { authorization: `Bearer ${ownerKey}`, 'content-type': 'application/json' },
            body: JSON.stringify(events),
          })
          await response.text()
          isAcknowledged = response.status === 200
        } catch {
          await new Promise((resolve) => setImmediate(resolve))
        }
      }
      for (const event of events) acknowledged.add(event.event_id)
    }
  }
  const clients = [client(), client(), client(), client()]
  return {
    acknowledged,
    async stop() {
      isRunning = false
      await Promise.all(clients)
    },
  }
}

it(`a service that is killed ${SERVICE_KILLS} times under load loses no acknowledged event and counts none twice`, async () => {
  let service = await spawnService({ databaseUrl: database.url })
  const load = sendUntilStopped('killed-service', () => service)
  for (let kill = 0; kill < SERVICE_KILLS; kill++) {
    const target = load.acknowledged.size + 300 + kill * 137
    await waitFor(() => load.acknowledged.size >= target, 'events to be acknowledged')
    await service.kill()
    service = await spawnService({ databaseUrl: database.url })
  }
  await load.stop()
  const { size } = load.acknowledged
  expect(await totalsOf(service, 'killed-service')).toEqual({ requests: size, input_tokens: size })
  await service.stop()
})

it(`a database that is killed ${DATABASE_KILLS} times under load loses no acknowledged event, and the service heals`, async () => {
  const dataDir = join(directory, 'data')
  const service = await spawnService({ dataDir, environment: { LOG_LEVEL: 'fatal' } })
  const load = sendUntilStopped('killed-database', () => service)
  for (let kill = 0; kill < DATABASE_KILLS; kill++) {
    const target = load.acknowledged.size + 300 + kill * 137
    await waitFor(() => load.acknowledged.size >= target, 'events to be acknowledged')
    const [pidFile] = globSync(join(dataDir, '**', 'postmaster.pid'))
    const pid = Number(readFileSync(pidFile ?? '', 'utf8').split('\n')[0])
    process.kill(pid, 'SIGKILL')
  }
  const target = load.acknowledged.size + 300
  await waitFor(() => load.acknowledged.size >= target, 'events to be acknowledged after the last kill')
  await load.stop()
  const { size } = load.acknowledged
  expect(await totalsOf(service, 'killed-database')).toEqual({ requests: size, input_tokens: size })
  await service.stop()
})

it(`an app that is killed ${APP_KILLS} times loses no event that it had spooled and has none counted twice`, async () => {
  const provider = await startFakeProvider()
  const service = await spawnService({ databaseUrl: database.url })
  const run = (isLast: boolean) =>
    spawn(process.execPath, ['--conditions=source', APP], {
      env: {
        PATH: process.env['PATH'],
        TOKENTALLY_URL: service.url,
        TOKENTALLY_API_KEY: service.ownerKey,
        TOKENTALLY_SPOOL: join(directory, 'spool'),
        TOKENTALLY_ENDPOINTS: `${provider.url}/v1=openai`,
        PROVIDER_URL: provider.url,
        CALLS: isLast ? '10' : '1000000',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  let metered = 0
  for (let kill = 0; kill < APP_KILLS; kill++) {
    const app = run(false)
    let own = 0
    app.stdout.on('data', (chunk: Buffer) => {
      own += chunk.toString().split('\n').length - 1
    })
    await waitFor(() => own >= 40 + kill * 23, 'calls to be metered')
    app.kill('SIGKILL')
    await once(app, 'close')
    metered += own
  }
  const last = run(true)
  last.stdout.on('data', (chunk: Buffer) => {
    metered += chunk.toString().split('\n').length - 1
  })
  expect((await once(last, 'close'))[0]).toBe(0)
  const { requests } = await totalsOf(service, 'killed-app')
  // A call may have been spooled without its line being printed any more; never the other way round.
  expect(requests).toBeGreaterThanOrEqual(metered)
  expect(requests).toBeLessThanOrEqual(provider.billed.length)
  await service.stop()
  await provider.close()
})

it('an app killed while tokens are counted: the call counts by its bytes', async () => {
  const provider = await startFakeProvider()
  const die = async (environment: Record<string, string>) => {
    const app = spawn(process.execPath, ['--conditions=source', ESTIMATING_APP], {
      env: {
        ...process.env,
        PROVIDER_URL: provider.url,
        TOKENTALLY_ENDPOINTS: `${provider.url}/v1=openai`,
        ...environment,
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    expect(await once(app, 'close')).toEqual([null, 'SIGKILL'])
  }

  // Nobody takes events at this address.
  const spoolDirectory = join(directory, 'estimate')
  await die({
    TOKENTALLY_SPOOL: spoolDirectory,
    TOKENTALLY_URL: 'http://127.0.0.1:1',
    TOKENTALLY_API_KEY: 'k',
  })
  const errors: unknown[] = []
  const next = new Spool({
    directory: spoolDirectory,
    bytesMax: 1_000_000,
    name: 'next',
    onError: (error) => errors.push(error),
  })
  const spooled = next.next(10)?.events.map(({ json }) => json) ?? []
  next.close()
  expect(errors).toEqual([])
  expect(spooled).toEqual([expect.stringContaining('"killed-estimate"')])
  expect(spooled[0]).toContain('bytes')

  const localDirectory = join(directory, 'local')
  await die({ TOKENTALLY_SPOOL: localDirectory, TOKENTALLY_URL: '' })
  const reader = openLocalReader(localFilePath(localDirectory))
  const summary = await reader.summary({ startMs: 0, endMs: Date.now() + 60_000, provider: undefined })
  reader.close()
  expect(summary.requests).toBe(1)
  await provider.close()
})
