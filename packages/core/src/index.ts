export { type Decimal, decimal, decimalFromLiteral, decimalText, perMillion, ZERO } from './money/decimal.ts'
export {
  disjointQuantities,
  findContradictions,
  METERS,
  type MeterDefinition,
  type Quantities,
} from './usage/meters.ts'
export {
  type Dimensions,
  type FieldIssue,
  type HostMetadata,
  type ParsedUsageEvent,
  parseUsageEvent,
  QUANTITY_MAX,
  type Receipt,
  TS_AHEAD_MAX_MS,
  TS_MIN_MS,
  type UsageEvent,
  type UsageEventJson,
  type UsageStatus,
  usageEventSchema,
  usageEventToJson,
} from './usage/usage-event.ts'
