import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  type SpawnedService,
  spawnService,
  type TestDatabase,
  waitFor,
} from '../harness/index.ts'

/**
 * A hard limit under 1,000 concurrent calls, with two replicas that are killed at random (SIGKILL) between hold
 * and settle, and with clients that die. Each client makes calls one after the other until it is refused or dies.
 */

const CLIENTS = 1_000
const KILLS = 3
const LIMIT_MILLIS = 500_000
const BOUND_MILLIS = 1_000
const TTL_S = 8
/** Requests that one client machine keeps open at once: more would measure the operating system. */
const SOCKETS = 48
const SEED = 20261124

let database: TestDatabase
const replicas: SpawnedService[] = []
/** Take over from those that are killed: a start under full load would measure the start. */
const standbys: SpawnedService[] = []
beforeAll(async () => {
  database = await createTestDatabase()
  const spawned: SpawnedService[] = []
  while (spawned.length < 2 + KILLS) {
    spawned.push(
      await spawnService({ databaseUrl: database.url, roles: 'api', environment: { LOG_LEVEL: 'fatal' } }),
    )
  }
  replicas.push(...spawned.slice(0, 2))
  standbys.push(...spawned.slice(2))
}, 300_000)
afterAll(async () => {
  await Promise.all([...replicas, ...standbys].map((replica) => replica.stop()))
  await database.drop()
})

/** Numbers from 0 to 1 that are the same in every run. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
const random = randomNumbers(SEED)

let openSockets = 0
const waitingForSockets: (() => void)[] = []
async function withSocket<T>(work: () => Promise<T>): Promise<T> {
  if (openSockets >= SOCKETS) await new Promise<void>((resolve) => waitingForSockets.push(resolve))
  else openSockets++
  try {
    return await work()
  } finally {
    const next = waitingForSockets.shift()
    if (next === undefined) openSockets--
    else next()
  }
}

/** Sends until some replica answers; what was sent before a kill may or may not have been done. */
async function send(path: string, body: object): Promise<{ status: number; json: unknown }> {
  for (;;) {
    const answer = await withSocket(async () => {
      const replica = replicas[random() < 0.5 ? 0 : 1]
      try {
        const response = await fetch(`${replica?.url}${path}`, {
          method: 'POST',
          headers: { authorization: `Bearer ${replica?.ownerKey}`, 'content-type': 'application/json' },
          body: JSON.stringify(body),
        })
        return { status: response.status, json: await response.json() }
      } catch {
        return undefined
      }
    })
    if (answer !== undefined && answer.status < 500) return answer
    await delay(20)
  }
}

async function get(path: string): Promise<unknown> {
  const [replica] = replicas
  const response = await fetch(`${replica?.url}${path}`, {
    headers: { authorization: `Bearer ${replica?.ownerKey}` },
  })
  return response.json()
}

it(`a hard limit holds under ${CLIENTS} concurrent calls with ${KILLS} kills, and no hold is left`, async () => {
  await send('/api/v1/prices', {
    provider: 'acme-llm',
    model: 'unit',
    rates: { output_tokens: { price: '1', per: 1000 } },
  })
  const { json } = await send('/api/v1/budgets', {
    name: 'hard',
    amount: String(LIMIT_MILLIS / 1_000),
    period: 'month',
    scope: { dimension: 'team', value: 'hard' },
    enforcement: 'block',
  })
  const { id } = z.object({ id: z.string() }).parse(json)

  const figures = { granted: 0, refused: 0, settled: 0, sent: 0, released: 0, diedBefore: 0, diedAfter: 0 }
  /** Answered calls whose clients died: their events come late, or never. */
  const late: object[] = []
  let lateMillis = 0
  let isDone = false
  const holdSchema = z.object({ id: z.string() })

  const client = async (name: number) => {
    for (let call = 0; ; call++) {
      const event = {
        event_id: `client-${name}-${call}`,
        team_id: 'hard',
        provider: 'acme-llm',
        model: 'unit',
        output_tokens: 1 + Math.floor(random() * BOUND_MILLIS),
        ts: new Date().toISOString(),
      }
      const { output_tokens: _, ts: __, ...planned } = event
      const hold = await send('/api/v1/holds', {
        ...planned,
        input_tokens: 0,
        max_output_tokens: BOUND_MILLIS,
        ttl_s: TTL_S,
      })
      if (hold.status === 429) {
        figures.refused++
        return
      }
      expect([hold.status, hold.json]).toEqual([
        expect.toSatisfy((status) => status === 200 || status === 201),
        expect.anything(),
      ])
      figures.granted++
      const settle = `/api/v1/holds/${holdSchema.parse(hold.json).id}/settle`
      const fate = random()
      if (fate < 0.1) {
        // The client dies before it calls.
        figures.diedBefore++
        return
      }
      if (fate < 0.2) {
        // The call is answered and the client dies: its event lies in its spool.
        figures.diedAfter++
        lateMillis += event.output_tokens
        late.push(event)
        return
      }
      if (fate < 0.25) {
        figures.released++
        expect((await send(settle, { released: true })).status).toBe(200)
      } else if (fate < 0.6) {
        figures.settled++
        expect((await send(settle, { event })).status).toBe(200)
      } else {
        // Metered and sent like any other event, as the meter does.
        figures.sent++
        const cost = String(event.output_tokens / 1_000)
        expect((await send(settle, { cost })).status).toBe(200)
        expect((await send('/api/v1/usage', event)).status).toBe(200)
      }
    }
  }

  const killer = async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      const target = figures.granted + 80 + Math.floor(random() * 120)
      await waitFor(() => isDone || figures.granted >= target, 'further holds are granted', 60_000)
      if (isDone) return kill
      const victim = random() < 0.5 ? 0 : 1
      const standby = standbys.pop()
      if (standby === undefined) throw new Error('there is no replica left')
      const killed = replicas[victim]?.kill()
      replicas[victim] = standby
      await killed
    }
    return KILLS
  }

  const started = performance.now()
  const killing = killer()
  await Promise.all(Array.from({ length: CLIENTS }, (_, name) => client(name)))
  const seconds = (performance.now() - started) / 1_000
  isDone = true
  const kills = await killing

  const spentMillis = async () => {
    const { rows } = await database.pool.query<{ spent: string }>(
      'select coalesce(sum(sell_cost_usd) * 1000, 0)::text as spent from usage_event',
    )
    return Number(rows[0]?.spent)
  }
  const before = await spentMillis()
  expect(before).toBeLessThanOrEqual(LIMIT_MILLIS)

  // Every hold of a client that died is over by itself.
  const statusSchema = z.object({ statuses: z.array(z.object({ held: z.string(), spent: z.string() })) })
  await waitFor(
    async () => statusSchema.parse(await get(`/api/v1/budgets/${id}/status`)).statuses[0]?.held === '0',
    'no hold is left after its expiry',
    TTL_S * 1_000 + 10_000,
  )
  const leftMillis = LIMIT_MILLIS - before
  if (leftMillis > 0) {
    const whole = { event_id: 'all that is left', team_id: 'hard', provider: 'acme-llm', ttl_s: 1 }
    const hold = await send('/api/v1/holds', { ...whole, estimate_usd: String(leftMillis / 1_000) })
    expect([hold.status, hold.json]).toEqual([201, expect.anything()])
  }

  for (const event of late) expect((await send('/api/v1/usage', event)).status).toBe(200)
  const after = await spentMillis()
  expect(after).toBe(before + lateMillis)
  // Only calls that had been answered when their holds expired can lie above the limit.
  expect(after).toBeLessThanOrEqual(LIMIT_MILLIS + lateMillis)
  console.info(
    `holds: ${JSON.stringify({ ...figures, kills, seconds: Number(seconds.toFixed(1)), limitUsd: LIMIT_MILLIS / 1_000, spentUsd: before / 1_000, afterLateEventsUsd: after / 1_000, overspentUsd: Math.max(0, after - LIMIT_MILLIS) / 1_000 })}`,
  )
}, 240_000)
