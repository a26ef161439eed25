import { randomBytes } from 'node:crypto'

// Random digits are drawn for many ids at once: a draw costs more than an id.
const DIGITS_PER_ID = 19
const IDS_PER_DRAW = 256
let digits = ''
let used = 0

/**
 * A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.
 *
 * @param nowMs UTC milliseconds since 1970
 */
export function uuidV7(nowMs: number): string {
  if (used + DIGITS_PER_ID > digits.length) {
    digits = randomBytes((DIGITS_PER_ID * IDS_PER_DRAW) / 2).toString('hex')
    used = 0
  }
  const start = used
  used += DIGITS_PER_ID
  const time = Math.floor(nowMs).toString(16).padStart(12, '0')
  // The variant is 10 in binary, then two random bits.
  const variant = '89ab'[Number.parseInt(digits.charAt(start + 3), 16) & 3]
  return `${time.slice(0, 8)}-${time.slice(8)}-7${digits.slice(start, start + 3)}-${variant}${digits.slice(start + 4, start + 7)}-${digits.slice(start + 7, start + DIGITS_PER_ID)}`
}
