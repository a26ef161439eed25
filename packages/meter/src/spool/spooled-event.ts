import type { UsageEvent } from '@tokentally/core'

/**
 * The form in which events wait: the meter's own object as it is, because it is written while the application
 * waits for its answer. Everything else is left to the delivery.
 */
export function spooledJson(event: UsageEvent): string {
  return JSON.stringify(event)
}

/** @returns the event, or why it cannot be read: another version's, or a damaged file's */
export function readSpooled(json: string): UsageEvent | { readonly unreadable: string } {
  try {
    const value: unknown = JSON.parse(json)
    return isEvent(value) ? value : { unreadable: 'it is no usage event' }
  } catch (error) {
    return { unreadable: error instanceof Error ? error.message : String(error) }
  }
}

/** As much as making a span needs; the service checks every field, and says which is wrong. */
function isEvent(value: unknown): value is UsageEvent {
  return (
    typeof value === 'object' &&
    value !== null &&
    'eventId' in value &&
    typeof value.eventId === 'string' &&
    'tsMs' in value &&
    Number.isSafeInteger(value.tsMs) &&
    'provider' in value &&
    typeof value.provider === 'string' &&
    'operation' in value &&
    typeof value.operation === 'string' &&
    'quantities' in value &&
    typeof value.quantities === 'object'
  )
}
