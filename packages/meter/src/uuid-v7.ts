import { randomFillSync } from 'node:crypto'

/** Random bytes are drawn for so many UUIDs at once. */
const DRAWN = 256
/** Of each: twelve bits beside the version, then the variant and 62 bits, and half a byte that is left over. */
const BYTES = 10
const random = Buffer.alloc(DRAWN * BYTES)
/** The random bytes in hex, with the variant in its place. */
let digits = ''
let used = 0

let lastMs = Number.NaN
let beginning = ''

/**
 * A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.
 *
 * @param nowMs UTC milliseconds since 1970
 */
export function uuidV7(nowMs: number): string {
  if (nowMs !== lastMs) {
    const time = Math.floor(nowMs).toString(16).padStart(12, '0')
    beginning = `${time.slice(0, 8)}-${time.slice(8)}-7`
    lastMs = nowMs
  }
  if (used >= digits.length) draw()
  const at = used
  used += 2 * BYTES
  return `${beginning}${digits.slice(at, at + 3)}-${digits.slice(at + 3, at + 7)}-${digits.slice(at + 7, at + 19)}`
}

function draw(): void {
  randomFillSync(random)
  // The fourth digit: variant 10xx.
  for (let at = 1; at < random.length; at += BYTES) random[at] = ((random[at] ?? 0) & 0xf3) | 0x08
  digits = random.toString('hex')
  used = 0
}
