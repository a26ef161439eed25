import { ROLLED_UP_COLUMNS } from '../ledger/index.ts'

/** Dimensions of reports by their public names, with the ledger's columns. */
export const DIMENSION_COLUMNS = {
  customer: 'customer_id',
  user: 'user_id',
  team: 'team_id',
  project: 'project_id',
  business_unit: 'business_unit',
  cost_center: 'cost_center',
  feature: 'feature',
  conversation: 'conversation_id',
  agent: 'agent',
  environment: 'environment',
  provider: 'provider',
  model: 'model',
  operation: 'operation',
  status: 'status',
  api_key: 'api_key_id',
} as const

/** A dimension that events can be grouped and filtered by: a column, or one tag. */
export interface Dimension {
  /** As the caller wrote it: `customer`, `tag.plan`. */
  readonly name: string
  readonly column: string | undefined
  readonly tag: string | undefined
}

const TAG_PREFIX = 'tag.'
const rolledUp: ReadonlySet<string> = new Set(ROLLED_UP_COLUMNS)

/**
 * Finds a dimension by its public name, or by its name on the event (`customer_id`).
 *
 * @returns undefined when there is no such dimension
 */
export function dimensionOf(name: string): Dimension | undefined {
  // No event can have a tag with a NUL in its name, and PostgreSQL takes none.
  if (name.startsWith(TAG_PREFIX) && name.length > TAG_PREFIX.length && !name.includes('\0')) {
    return { name, column: undefined, tag: name.slice(TAG_PREFIX.length) }
  }
  for (const [known, column] of Object.entries(DIMENSION_COLUMNS)) {
    if (name === known || name === column) return { name: known, column, tag: undefined }
  }
  return undefined
}

/** Whether the rollups are kept by this dimension; if not, a report by it reads the ledger. */
export function isRolledUp(dimension: Dimension): boolean {
  return dimension.column !== undefined && rolledUp.has(dimension.column)
}

/** Only events of which the dimension has one of these values. */
export interface DimensionFilter {
  readonly dimension: Dimension
  readonly values: readonly string[]
}
