/**
 * A quick look at the JSON of a usage event, for the many that are as they should be. It knows every rule of
 * `usageEventSchema` but not how to name what is broken: what it does not take is checked by the schema. A test
 * holds the two together.
 */

import { isVendorUsage } from './vendor-usage.ts'

type Check = (value: unknown) => boolean

const NAME = /^[a-z][a-z0-9_]{0,62}$/
const TRACE_ID = /^[0-9a-f]{32}$/
const SPAN_ID = /^[0-9a-f]{16}$/
const PROMPT_HASH = /^hmac-sha256:[0-9a-f]{64}$/
const REASON = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/
const COST = /^\d{1,12}(\.\d{1,18})?$/
const ENTRIES_MAX = 50

/** @param quantityMax largest quantity of a meter */
export function usualEventCheck(quantityMax: number): Check {
  const count: Check = (value) => Number.isInteger(value) && isBetween(value, 0, quantityMax)
  const quantity: Check = (value) => isBetween(value, 0, quantityMax)
  const fields = new Map<string, Check>([
    ['event_id', id(256)],
    ['ts', isInstant],
    ['customer_id', id(512)],
    ['user_id', id(512)],
    ['team_id', id(512)],
    ['project_id', id(512)],
    ['business_unit', id(512)],
    ['cost_center', id(512)],
    ['feature', id(512)],
    ['conversation_id', id(512)],
    ['agent', id(512)],
    ['environment', id(512)],
    ['provider', id(128)],
    ['model', id(512)],
    ['response_model', id(512)],
    ['operation', id(64)],
    ['service_tier', id(64)],
    ['region', id(64)],
    ['input_tokens', count],
    ['cache_read_tokens', count],
    ['cache_write_tokens', count],
    ['output_tokens', count],
    ['reasoning_tokens', count],
    ['meters', (value) => isRecord(value, matches(NAME), quantity, Number.POSITIVE_INFINITY)],
    ['latency_ms', quantity],
    ['time_to_first_token_ms', quantity],
    ['status', (value) => value === 'ok' || value === 'error' || value === 'aborted'],
    ['streamed', isBoolean],
    ['estimated', isBoolean],
    ['reason', matches(REASON)],
    ['mismatch', id(512)],
    ['vendor_usage', isVendorUsage],
    ['reported_cost_usd', matches(COST)],
    ['tokenizer', id(128)],
    ['counted_input_tokens', count],
    ['counted_output_tokens', count],
    ['provider_request_id', id(512)],
    ['trace_id', matches(TRACE_ID)],
    ['span_id', matches(SPAN_ID)],
    ['prompt_hash', matches(PROMPT_HASH)],
    ['attempt', (value) => Number.isInteger(value) && isBetween(value, 0, 1000)],
    ['call_id', id(256)],
    ['tags', (value) => isRecord(value, id(64), isText, ENTRIES_MAX)],
    ['host', (value) => isRecord(value, id(64), isHostEntry, ENTRIES_MAX)],
  ])
  return (value) => {
    if (!isObject(value)) return false
    for (const field in value) {
      const check = fields.get(field)
      if (check === undefined || !check(value[field])) return false
    }
    return 'provider' in value
  }
}

/** A string of this length at most, and not an empty one. */
function id(max: number): Check {
  return (value) => typeof value === 'string' && value.length > 0 && value.length <= max && isStorable(value)
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value.length <= 512 && isStorable(value)
}

function isHostEntry(value: unknown): boolean {
  return isText(value) || isRecord(value, id(64), isText, Number.POSITIVE_INFINITY)
}

/** Well-formed Unicode without NUL: PostgreSQL takes nothing else. */
function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

/** The usual spelling alone, `2026-11-03T10:15:00.123Z`; it is right when it reads back the same. */
function isInstant(value: unknown): boolean {
  if (typeof value !== 'string' || value.length !== 24) return false
  const ms = Date.parse(value)
  return !Number.isNaN(ms) && new Date(ms).toISOString() === value
}

function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean'
}

function isBetween(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && value >= min && value <= max
}

function matches(pattern: RegExp): Check {
  return (value) => typeof value === 'string' && pattern.test(value)
}

function isRecord(value: unknown, isKey: Check, isEntry: Check, max: number): boolean {
  if (!isObject(value)) return false
  let entries = 0
  for (const key in value) {
    if (key === '__proto__' || !isKey(key) || !isEntry(value[key])) return false
    if (++entries > max) return false
  }
  return true
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
