import { randomFillSync } from 'node:crypto'

// Random bytes are drawn for many ids at once: a draw costs more than an id.
const pool = Buffer.allocUnsafe(10 * 256)
let used = pool.length

/**
 * A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.
 *
 * @param nowMs UTC milliseconds since 1970
 */
export function uuidV7(nowMs: number): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const random = pool.subarray(used, used + 10)
  used += 10
  const time = Math.floor(nowMs).toString(16).padStart(12, '0')
  const a = (((random[0] ?? 0) & 0x0f) | 0x70).toString(16).padStart(2, '0')
  const variant = (((random[2] ?? 0) & 0x3f) | 0x80).toString(16).padStart(2, '0')
  const tail = random.toString('hex', 3, 10)
  return `${time.slice(0, 8)}-${time.slice(8)}-${a}${hex(random[1])}-${variant}${tail.slice(0, 2)}-${tail.slice(2)}`
}

function hex(byte: number | undefined): string {
  return (byte ?? 0).toString(16).padStart(2, '0')
}
