import type { VendorRow } from '@tokentally/core'
import type { z } from 'zod'
import { BillingError } from './billing-error.ts'

/** A page of a vendor's report: buckets of time with what was used in them. */
export interface BillingReport {
  /** The days that it tells of, also those without usage. */
  readonly days: readonly string[]
  readonly rows: readonly VendorRow[]
  /** Results that are of no model or meter of ours. */
  readonly ignored: number
  /** What tells its kind apart from others of the same source: the endpoint that it came from. */
  readonly part: string
}

/** Reads what should be of a schema. @throws BillingError naming every field that is wrong, 20 at most */
export function parsed<Output>(schema: z.ZodType<Output>, value: unknown): Output {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new BillingError(
    result.error.issues
      .slice(0, 20)
      .map(({ path, message }) => ({ path: path.map(String).join('.') || 'file', message })),
  )
}
