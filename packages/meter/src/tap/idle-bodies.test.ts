import { Readable } from 'node:stream'
import { beforeEach, describe, expect, it } from 'vitest'
import { IdleBodies } from './idle-bodies.ts'

const IDLE_MS = 1_000
let nowMs = 0
let idle: IdleBodies
let told: string[]

beforeEach(() => {
  nowMs = 0
  told = []
  idle = new IdleBodies(() => nowMs, IDLE_MS)
})

/** A body that is full after ten bytes, and what its watcher does with each piece. */
function bodyOf(name: string) {
  const body = new Readable({ highWaterMark: 10, read: () => undefined })
  const add = (bytes: number) => {
    const before = body.readableLength
    const hasRoom = body.push(Buffer.alloc(bytes))
    if (!hasRoom) {
      idle.wait(body, before, {
        leave: () => told.push(`${name} left`),
        abandon: () => told.push(`${name} counted`),
      })
    }
  }
  return { body, add }
}

describe('a body with data that waits', () => {
  it('is left when nobody has read of it for the whole time, and its data stays', () => {
    const { body, add } = bodyOf('a')
    add(20)
    nowMs = IDLE_MS - 1
    idle.check()
    expect(told).toEqual([])
    nowMs = IDLE_MS
    idle.check()
    idle.check()
    expect(told).toEqual(['a left'])
    expect(body.readableLength).toBe(20)
  })

  it('is not left while somebody reads, however slowly', () => {
    const { body, add } = bodyOf('a')
    add(20)
    for (let round = 0; round < 5; round++) {
      nowMs += IDLE_MS - 1
      body.read(1)
      add(1)
      idle.check()
    }
    expect(told).toEqual([])
    nowMs += IDLE_MS
    idle.check()
    expect(told).toEqual(['a left'])
  })

  it('is left also when more arrives meanwhile', () => {
    const { add } = bodyOf('a')
    add(20)
    nowMs = IDLE_MS / 2
    // On its way already when the network was told to stop.
    add(20)
    nowMs = IDLE_MS
    idle.check()
    expect(told).toEqual(['a left'])
  })

  it('is forgotten when it has room again, or has ended', () => {
    const [read, ended] = [bodyOf('read'), bodyOf('ended')]
    read.add(20)
    ended.add(20)
    read.body.read(15)
    idle.forget(ended.body)
    nowMs = IDLE_MS
    idle.check()
    idle.settle()
    expect(told).toEqual([])
  })

  it('is counted with what came when there is no more time', () => {
    const [old, young] = [bodyOf('old'), bodyOf('young')]
    old.add(20)
    nowMs = 600
    young.add(20)
    idle.settle()
    idle.check(0, nowMs + IDLE_MS)
    expect(told).toEqual(['old counted', 'young counted'])
  })

  it('is left, not counted, after a shorter time when asked', () => {
    const [old, young] = [bodyOf('old'), bodyOf('young')]
    old.add(20)
    nowMs = 600
    young.add(20)
    idle.check(500)
    expect(told).toEqual(['old left'])
  })
})
