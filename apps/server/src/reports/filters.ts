import type { FieldIssue } from '@tokentally/core'
import { Problem } from '../http/problem.ts'
import { type DimensionFilter, dimensionOf } from './dimensions.ts'

/** The rest of a query string after a route's own parameters: filters by dimension, possibly repeated. */
export type FilterQuery = Readonly<Record<string, unknown>>

/**
 * Reads filters such as `customer_id=acme` or `tag.plan=pro`; a repeated one matches any of its values.
 *
 * @param own names that are the route's and no filters
 * @throws Problem naming every parameter that is unknown
 */
export function readFilters(query: FilterQuery, own: readonly string[]): readonly DimensionFilter[] {
  const filters: DimensionFilter[] = []
  const issues: FieldIssue[] = []
  for (const [name, value] of Object.entries(query)) {
    if (own.includes(name) || value === undefined) continue
    const dimension = dimensionOf(name)
    const values = (Array.isArray(value) ? value : [value]).filter(
      (one): one is string => typeof one === 'string',
    )
    if (dimension === undefined) issues.push({ path: name, message: 'is not a known parameter' })
    else if (values.some((one) => one.includes('\0')))
      issues.push({ path: name, message: 'must not contain NUL' })
    else filters.push({ dimension, values })
  }
  if (issues.length > 0) {
    throw new Problem({
      code: 'invalid-request',
      detail: 'The query has unknown parameters.',
      errors: issues,
    })
  }
  return filters
}
