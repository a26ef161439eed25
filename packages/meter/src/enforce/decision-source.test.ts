import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { type FakeDecisions, startFakeDecisions } from '../../../../test/fake-provider/decisions.ts'
import { waitFor } from '../../../../test/harness/wait-for.ts'
import type { Snapshot } from './decision.ts'
import { DecisionSource } from './decision-source.ts'

let service: FakeDecisions
let source: DecisionSource | undefined
const snapshots: Snapshot[] = []
const errors: string[] = []

beforeEach(async () => {
  service = await startFakeDecisions()
  snapshots.length = 0
  errors.length = 0
})
afterEach(async () => {
  source?.close()
  vi.useRealTimers()
  await service.close()
})

function connect(url = service.url): DecisionSource {
  source = new DecisionSource({
    url,
    apiKey: 'key',
    // Waits are as short as they may be.
    random: () => 0,
    version: '0',
    onSnapshot: (snapshot) => snapshots.push(snapshot),
    onError: (error) => errors.push(String(error)),
  })
  return source
}

const BLOCK = { action: 'block', scope: { team: 'a' }, reason: 'budget_exceeded', budget: null, until: null }

it('is fresh with the first snapshot, and told of each change', async () => {
  const decisions = connect()
  expect(decisions.isFresh).toBe(false)
  expect(await decisions.ready(5_000)).toBe(true)
  expect(service.authorization()).toBe('Bearer key')
  service.decide(BLOCK)
  await waitFor(() => snapshots.length === 2, 'the change arrived')
  expect(snapshots.at(-1)).toMatchObject({
    decisions: [{ action: 'block', scope: { team: 'a' } }],
    unknown: 0,
  })
})

it('takes what it understands of a snapshot, and keeps the last one for one that is none', async () => {
  const decisions = connect()
  await decisions.ready(5_000)
  service.decide(
    { ...BLOCK, until: '2026-12-01T00:00:00.000Z' },
    { ...BLOCK, action: 'applaud' },
    { ...BLOCK, action: 'rate_limit' },
  )
  await waitFor(() => snapshots.length === 2, 'the change arrived')
  expect(snapshots.at(-1)?.decisions).toMatchObject([{ untilMs: Date.UTC(2026, 11, 1) }])
  expect(snapshots.at(-1)?.unknown).toBe(2)
  service.write('event: decisions\ndata: {"decisions":"none"}\n\n')
  await waitFor(() => service.asked() === 2 && service.open() === 1, 'it asks anew')
  await waitFor(() => snapshots.length === 3, 'and hears')
})

it('goes stale by silence for two seconds, and asks anew', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const decisions = connect()
  await decisions.ready(5_000)
  service.isSilent = true
  vi.advanceTimersByTime(2_000)
  expect(decisions.isFresh).toBe(true)
  vi.advanceTimersByTime(500)
  expect(decisions.isFresh).toBe(false)
  vi.advanceTimersByTime(5_000)
  service.isSilent = false
  await waitFor(() => service.asked() === 2, 'a new stream')
  await waitFor(() => decisions.isFresh, 'fresh again')
})

it('stays fresh through a connection that breaks and comes back at once', async () => {
  const decisions = connect()
  await decisions.ready(5_000)
  service.cut()
  await waitFor(() => snapshots.length === 2, 'the next snapshot')
  expect(decisions.isFresh).toBe(true)
  expect(errors).toEqual([])
})

it.each([
  [0, /socket hang up/],
  [500, /answered 500/],
  [401, /answered 401/],
])('says once why it cannot ask: %i', async (status, reason) => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'], shouldAdvanceTime: false })
  service.failWith = status
  const decisions = connect()
  for (let attempt = 1; attempt <= 3; attempt++) {
    await vi.waitUntil(() => service.asked() === attempt && vi.getTimerCount() === 1, {
      timeout: 5_000,
      interval: 1,
    })
    vi.advanceTimersByTime(30_000)
  }
  expect(errors).toHaveLength(1)
  expect(errors[0]).toMatch(reason)
  expect(decisions.isFresh).toBe(false)
})

it('asks no more once it is closed, and whoever waits is told', async () => {
  service.failWith = 500
  const decisions = connect()
  await waitFor(() => service.asked() > 0, 'it asks')
  const waiting = decisions.ready(60_000)
  decisions.close()
  expect(await waiting).toBe(false)
  const before = service.asked()
  vi.useFakeTimers()
  vi.advanceTimersByTime(60_000)
  expect(service.asked()).toBe(before)
})
