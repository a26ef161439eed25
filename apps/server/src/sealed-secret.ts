import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

/**
 * Secrets at rest: AES-256-GCM under the service's secret key. Layout: version (1 byte), nonce (12), tag (16),
 * ciphertext. What the secret belongs to is authenticated with it (`owner`), so that a row copied to another
 * organization, or to another thing of the same one, does not open there.
 */

const ALGORITHM = 'aes-256-gcm'
const VERSION = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** The secret cannot be read: another key, another owner, or changed bytes. */
export class SealBroken extends Error {
  override readonly name = 'SealBroken'
}

/**
 * @param key 32 bytes
 * @param owner ids, from the organization on
 */
export function sealSecret(key: Buffer, owner: readonly string[], secret: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(ownerBytes(owner))
  const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()])
  return Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), sealed])
}

/** @throws SealBroken */
export function openSecret(key: Buffer, owner: readonly string[], sealed: Buffer): string {
  try {
    if (sealed[0] !== VERSION) throw new Error(`version ${sealed[0]}`)
    const nonce = sealed.subarray(1, 1 + NONCE_BYTES)
    const tag = sealed.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES)
    const decipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(ownerBytes(owner))
    decipher.setAuthTag(tag)
    const text = sealed.subarray(1 + NONCE_BYTES + TAG_BYTES)
    return Buffer.concat([decipher.update(text), decipher.final()]).toString('utf8')
  } catch (cause) {
    throw new SealBroken('A stored secret does not open with TOKENTALLY_SECRET_KEY.', { cause })
  }
}

function ownerBytes(owner: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify([VERSION, ...owner]))
}
