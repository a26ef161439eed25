import { z } from 'zod'
import {
  type FieldIssue,
  parseUsageEvent,
  type UsageEvent,
  usageEventSchema,
  usageEventToJson,
} from '../usage/usage-event.ts'

const fields = usageEventSchema.shape
const { keyType: meterName, valueType: quantity } = fields.meters.unwrap()
const { keyType: tagName, valueType: tagText } = fields.tags.unwrap()

/**
 * What a correction may set, in the words of a usage event. Null takes the field away. `meters` and `tags` are
 * merged name by name (RFC 7396): what is not named stays, null takes the name away.
 *
 * The time and the id of an event are not among them: what happened at another time is another event.
 */
export const eventChangesSchema = z
  .strictObject({
    customer_id: fields.customer_id.nullable(),
    user_id: fields.user_id.nullable(),
    team_id: fields.team_id.nullable(),
    project_id: fields.project_id.nullable(),
    business_unit: fields.business_unit.nullable(),
    cost_center: fields.cost_center.nullable(),
    feature: fields.feature.nullable(),
    conversation_id: fields.conversation_id.nullable(),
    agent: fields.agent.nullable(),
    environment: fields.environment.nullable(),
    provider: fields.provider.optional(),
    model: fields.model.nullable(),
    response_model: fields.response_model.nullable(),
    operation: fields.operation,
    service_tier: fields.service_tier.nullable(),
    region: fields.region.nullable(),
    status: fields.status,
    input_tokens: fields.input_tokens.nullable(),
    cache_read_tokens: fields.cache_read_tokens.nullable(),
    cache_write_tokens: fields.cache_write_tokens.nullable(),
    output_tokens: fields.output_tokens.nullable(),
    reasoning_tokens: fields.reasoning_tokens.nullable(),
    meters: z.record(meterName, quantity.nullable()).optional(),
    tags: z.record(tagName, tagText.nullable()).optional(),
  })
  .refine((changes) => Object.keys(changes).length > 0, 'must set at least one field')
  .describe('Fields to set; null takes one away. `meters` and `tags` are merged name by name.')

/** Fields of an event to set. */
export type EventChanges = z.infer<typeof eventChangesSchema>

/** The fields that decide what an event costs; whoever changes one asks for a new rating. */
const PRICED_FIELDS = [
  'provider',
  'model',
  'response_model',
  'operation',
  'service_tier',
  'region',
  'status',
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
  'meters',
] as const satisfies readonly (keyof EventChanges)[]

/** An event as it should have been. */
export type CorrectedEvent =
  | {
      readonly ok: true
      readonly event: UsageEvent
      /** Whether anything is other than before. */
      readonly isChanged: boolean
      /** Whether something is other that the price depends on. */
      readonly isPricedAnew: boolean
    }
  | { readonly ok: false; readonly issues: readonly FieldIssue[] }

/**
 * Sets fields of an event and checks the result as if it had arrived like this.
 *
 * @param changes as `eventChangesSchema` read them; none leaves the event as it is
 * @param eventId the id of the new event
 * @param nowMs the present, for the check of the event's time
 */
export function correctedEvent(
  event: UsageEvent,
  changes: EventChanges,
  { eventId, nowMs }: { readonly eventId: string; readonly nowMs: number },
): CorrectedEvent {
  const before = usageEventToJson(event)
  const { meters, tags, ...plain } = changes
  const after: Record<string, unknown> = { ...before, event_id: eventId }
  for (const [field, value] of Object.entries(plain)) {
    if (value === null) delete after[field]
    else if (value !== undefined) after[field] = value
  }
  if (meters !== undefined) after['meters'] = merged(before.meters, meters)
  if (tags !== undefined) after['tags'] = merged(before.tags, tags)
  const parsed = parseUsageEvent(after, { nowMs, newEventId: () => eventId })
  if (!parsed.ok) return { ok: false, issues: parsed.issues }
  const now = usageEventToJson(parsed.event)
  return {
    ok: true,
    event: parsed.event,
    isChanged: !isSame(before, { ...now, event_id: before.event_id }),
    isPricedAnew: PRICED_FIELDS.some((field) => !isSame(before[field], now[field])),
  }
}

function merged<Value>(
  before: Readonly<Record<string, Value>> | undefined,
  changes: Readonly<Record<string, Value | null>>,
): Record<string, Value> {
  const entries = new Map(Object.entries(before ?? {}))
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) entries.delete(name)
    else entries.set(name, value)
  }
  return Object.fromEntries(entries)
}

/** Whether two JSON values are the same, whatever the order of their fields. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object') return false
  return JSON.stringify(a) === JSON.stringify(b) || JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b))
}

function inOrder(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.entries(value)
    .filter(([, entry]) => entry !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, entry]) => [name, inOrder(entry)])
}
