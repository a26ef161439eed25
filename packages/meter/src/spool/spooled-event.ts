import type { UsageEvent } from '@tokentally/core'
import { isSpanJson, spanJson } from './span-json.ts'

/**
 * An event at rest. It waits as the JSON text of the span that it is sent as (`spanJson`): made once, when the event
 * is recorded, and from then on only copied.
 */
export class SpooledEvent {
  readonly #line: Uint8Array
  /** Where it ends in its log. */
  readonly end: number

  /** @param line UTF-8 */
  constructor(line: Uint8Array, end: number) {
    this.#line = line
    this.end = end
  }

  get json(): string {
    return Buffer.from(this.#line.buffer, this.#line.byteOffset, this.#line.length).toString('utf8')
  }

  /** The JSON text of its span in UTF-8; or why there is none: another version's event, or a damaged file's. */
  get span(): Uint8Array | { readonly unreadable: string } {
    if (isSpanJson(this.#line)) return this.#line
    const event = readEvent(this.json)
    return 'unreadable' in event ? event : Buffer.from(spanJson(event))
  }
}

/** Files written before the spool kept spans hold the meter's own object as it was. */
function readEvent(json: string): UsageEvent | { readonly unreadable: string } {
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
