import { describe, expect, it } from 'vitest'
import { PendingEvents } from './pending-events.ts'

const never = new Promise<string>(() => undefined)

describe('an event that waits for its count', () => {
  it('is finished with it, once', async () => {
    const counts = new PendingEvents()
    const finished: string[] = []
    counts.add(
      Promise.resolve('counted'),
      () => 'fallback',
      (count) => finished.push(count),
    )
    await counts.settle(60_000)
    counts.settleNow()
    expect(finished).toEqual(['counted'])
  })

  it('is finished without it when it fails', async () => {
    const counts = new PendingEvents()
    const finished: string[] = []
    counts.add(
      Promise.reject(new Error('no')),
      () => 'fallback',
      (count) => finished.push(count),
    )
    await counts.settle(60_000)
    expect(finished).toEqual(['fallback'])
  })

  it('is finished without it when nobody waits any longer, and not again', async () => {
    const counts = new PendingEvents()
    const finished: string[] = []
    const { promise, resolve } = Promise.withResolvers<string>()
    counts.add(
      promise,
      () => 'fallback',
      (count) => finished.push(count),
    )
    counts.add(
      never,
      () => 'another',
      (count) => finished.push(count),
    )
    await counts.settle(1)
    expect(finished).toEqual(['fallback', 'another'])
    resolve('late')
    await promise
    expect(finished).toEqual(['fallback', 'another'])
  })

  it('keeps nobody waiting when there is none', async () => {
    await new PendingEvents().settle(Number.POSITIVE_INFINITY)
  })
})
