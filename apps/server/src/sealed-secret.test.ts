import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { openSecret, SealBroken, sealSecret } from './sealed-secret.ts'

const key = randomBytes(32)
const owner = ['organization-1', 'channel-1']

test('a secret opens for its owner alone', () => {
  const sealed = sealSecret(key, owner, 'https://hooks.example/ä')
  expect(openSecret(key, owner, sealed)).toBe('https://hooks.example/ä')
  for (const stranger of [
    ['organization-2', 'channel-1'],
    ['organization-1', 'channel-2'],
    ['organization-1channel-1'],
  ]) {
    expect(() => openSecret(key, stranger, sealed)).toThrow(SealBroken)
  }
  expect(() => openSecret(randomBytes(32), owner, sealed)).toThrow(SealBroken)
})

test('no changed byte goes unnoticed, and no two seals are alike', () => {
  const sealed = sealSecret(key, owner, 'secret')
  expect(sealed.includes('secret')).toBe(false)
  expect(sealSecret(key, owner, 'secret').equals(sealed)).toBe(false)
  for (let index = 0; index < sealed.length; index++) {
    const changed = Buffer.from(sealed)
    changed[index] = (changed[index] ?? 0) ^ 1
    expect(() => openSecret(key, owner, changed)).toThrow(SealBroken)
  }
  expect(() => openSecret(key, owner, sealed.subarray(0, 20))).toThrow(SealBroken)
})
