import type { FieldIssue } from '@tokentally/core'

/** Stands in a request's list where no event could be read; its neighbours are not affected. */
export class Unreadable {
  readonly issues: readonly FieldIssue[]

  constructor(path: string, message: string) {
    this.issues = [{ path, message }]
  }
}
