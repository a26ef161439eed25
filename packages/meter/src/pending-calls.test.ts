import { expect, it } from 'vitest'
import { type PendingCall, PendingCalls } from './pending-calls.ts'

const call = (forget = () => undefined): PendingCall => ({ settle: () => undefined, forget })

it('a pending call is handed out once', () => {
  const calls = new PendingCalls()
  const pending = call()
  calls.add('resp_1', pending)
  expect(calls.take('resp_2')).toBeUndefined()
  expect(calls.take('resp_1')).toBe(pending)
  expect(calls.take('resp_1')).toBeUndefined()
})

it('beyond a thousand, the oldest is told that nobody waits for it', () => {
  const calls = new PendingCalls()
  const forgotten: number[] = []
  for (let index = 0; index < 1_003; index++) {
    calls.add(
      `resp_${index}`,
      call(() => void forgotten.push(index)),
    )
  }
  expect(forgotten).toEqual([0, 1, 2])
  expect(calls.take('resp_2')).toBeUndefined()
  expect(calls.take('resp_3')).toBeDefined()
})
