import { isVendorUsage, type VendorUsage, vendorUsageOf } from '@tokentally/core'
import type { BodyProblem } from './plain-body.ts'
import { isJsonObject, type Writable } from './reader.ts'

/** What is to be said of a usage, beside the counts that were read from it. */
export interface UsageFindings {
  readonly vendorUsage?: VendorUsage
  readonly reason?: string
}

/**
 * The provider's usage object as it is kept, and why its counts are not all there. Asked for once an exchange is
 * over: nothing of this is done while an answer passes.
 *
 * @param usage the usage object as it came, several merged where several counted
 * @param problem why the body could not be read at all
 */
export function findingsOf(usage: unknown, problem?: BodyProblem): UsageFindings {
  // Most are numbers alone, and nobody else has them: nothing is taken out, and nothing copied.
  const vendorUsage = isVendorUsage(usage) && isNotEmpty(usage) ? usage : vendorUsageOf(usage)
  const reason = problem ?? (hasInvalidCounts(usage, LEVELS_MAX) ? 'invalid_usage' : undefined)
  const findings: Writable<UsageFindings> = {}
  if (vendorUsage !== undefined) findings.vendorUsage = vendorUsage
  if (reason !== undefined) findings.reason = reason
  return findings
}

function isNotEmpty(object: object): boolean {
  for (const _ in object) return true
  return false
}

/** Usage objects of all vendors are flatter than this. */
const LEVELS_MAX = 6

/** Members that hold a count, in the words of the vendors: `prompt_tokens`, `promptTokenCount`, `search_units` … */
const COUNT = /(?:tokens?|count|units|requests)$/i

/**
 * Whether a member that holds a count holds something else: text, a negative number, a part of one. Such a count
 * is taken as not reported. Null is the vendors' own way to say that.
 */
function hasInvalidCounts(usage: unknown, levels: number): boolean {
  if (levels === 0) return false
  if (Array.isArray(usage)) return usage.some((entry) => hasInvalidCounts(entry, levels - 1))
  if (!isJsonObject(usage)) return false
  for (const name in usage) {
    const value = usage[name]
    if (typeof value === 'object') {
      if (value !== null && hasInvalidCounts(value, levels - 1)) return true
      // Nearly all are counts: only of the others the name matters.
    } else if (!isCount(value) && value !== undefined && COUNT.test(name)) return true
  }
  return false
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
