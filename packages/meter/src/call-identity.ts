import type { RecognizedCall, WireFormat } from '@tokentally/providers'

/** What is metered: a recognized request, or a call as an adapter names it. */
export type CallIdentity = Pick<RecognizedCall, 'provider' | 'operation' | 'region' | 'resultsId'> & {
  /** Absent where an adapter has seen no bytes. */
  readonly format?: WireFormat
}
