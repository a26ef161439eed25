import { parseUsageEvent, type UsageEvent, usageEventToJson } from '@tokentally/core'

/**
 * The form in which events wait: the meter's own object as it is, because it is written while the application
 * waits for its answer. Everything else is left to the delivery.
 */
export function spooledJson(event: UsageEvent): string {
  return JSON.stringify(event)
}

/** @returns the event, or why it cannot be read: another version's, or a damaged file's */
export function readSpooled(json: string): UsageEvent | { readonly reason: string } {
  try {
    const value: unknown = JSON.parse(json)
    if (!isLikeEvent(value)) return { reason: 'it is no usage event' }
    const parsed = parseUsageEvent(usageEventToJson(value), RECEIPT)
    if (parsed.ok) return parsed.event
    return { reason: parsed.issues.map(({ path, message }) => `${path} ${message}`).join('; ') }
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) }
  }
}

/** Times are the service's to judge. */
const RECEIPT = { nowMs: Number.MAX_SAFE_INTEGER, newEventId: () => '' }

/** Enough to be written as JSON of a usage event, which is then checked in full. */
function isLikeEvent(value: unknown): value is UsageEvent {
  return typeof value === 'object' && value !== null && 'eventId' in value && 'quantities' in value
}
