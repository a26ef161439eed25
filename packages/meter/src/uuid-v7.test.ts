import { expect, it } from 'vitest'
import { uuidV7 } from './uuid-v7.ts'

it('makes version 7 UUIDs that begin with their time and never repeat', () => {
  const ids = Array.from({ length: 10_000 }, () => uuidV7(0x0123_4567_89ab))
  for (const id of ids) {
    expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  }
  expect(new Set(ids).size).toBe(ids.length)
})

it('sorts by time', () => {
  const times = [0, 1, 1_795_000_000_000, 1_795_000_000_001, 2 ** 48 - 1]
  const ids = times.map(uuidV7)
  expect(ids.toSorted()).toEqual(ids)
})
