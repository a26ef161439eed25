import { createHash, randomBytes } from 'node:crypto'

/** Begins every generated key, so that scanners for leaked secrets recognize it. */
export const KEY_PREFIX = 'tt_'
const KEY_BYTES = 32

/** Makes a new key: 256 random bits. */
export function generateApiKey(): string {
  return KEY_PREFIX + randomBytes(KEY_BYTES).toString('base64url')
}

/**
 * What is stored of a key, and what a lookup compares: SHA-256. A slow hash would add nothing, as keys are not
 * guessable; and comparing hashes of secrets tells a stopwatch nothing about the secret.
 */
export function hashApiKey(key: string): Buffer {
  return createHash('sha256').update(key, 'utf8').digest()
}
