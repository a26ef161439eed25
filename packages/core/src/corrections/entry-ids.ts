import { hash } from 'node:crypto'

/**
 * The id of an entry that a correction makes, always the same for the same correction and event: the id is born
 * with the intent, so the once-rule of the ledger holds for corrections, too.
 *
 * @returns a UUID of version 8 (RFC 9562, section 5.8)
 */
export function correctionEntryId(
  correctionId: string,
  kind: 'reversal' | 'replacement',
  eventId: string,
): string {
  const bytes = hash('sha256', `${correctionId}\n${kind}\n${eventId}`, 'buffer')
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = bytes.toString('hex', 0, 16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
