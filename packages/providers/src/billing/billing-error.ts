import type { FieldIssue } from '@tokentally/core'

/** A file or an answer that is not what it should be, or a line of it that cannot be counted. */
export class BillingError extends Error {
  override readonly name = 'BillingError'
  /** `path` is the field or column, with the line or bucket that it stands in as far as it is known. */
  readonly issues: readonly FieldIssue[]

  constructor(issues: readonly FieldIssue[]) {
    super(issues.map(({ path, message }) => `${path}: ${message}`).join('; '))
    this.issues = issues
  }
}

/** @throws BillingError always */
export function refuse(path: string, message: string): never {
  throw new BillingError([{ path, message }])
}
