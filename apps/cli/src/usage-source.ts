import type { CostDimension, CostGroup, CostSums } from '@tokentally/meter/local'

/** Where usage is read from: the file of local mode, or a service. */
export interface UsageSource {
  /** For people: a path or a URL. */
  readonly name: string
  costs(query: CostQuery): Promise<CostReport>
  events(query: EventQuery): AsyncIterable<ExportedEvent>
  close(): void
}

export interface EventQuery {
  /** Included, UTC milliseconds. */
  readonly startMs: number
  /** Excluded, UTC milliseconds. */
  readonly endMs: number
  readonly provider?: string | undefined
  readonly customer?: string | undefined
}

export interface CostQuery extends EventQuery {
  readonly by: CostDimension
  readonly timeZone: string
}

export interface CostReport {
  /** The dearest first; days in their order. */
  readonly groups: readonly CostGroup[]
  readonly totals: CostSums
}

/** The wire form of a usage event with its rating. */
export interface ExportedEvent {
  readonly [field: string]: unknown
  /** Exact decimal, US dollars; null when nothing of the event has a price. */
  readonly list_cost_usd: string | null
  readonly rating_status: string
}
