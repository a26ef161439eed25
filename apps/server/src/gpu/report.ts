import { costPerMillionTokens, type Decimal, decimal, decimalText, ZERO } from '@tokentally/core'
import type { Pool } from 'pg'
import {
  aggregate,
  bucketExpression,
  bucketText,
  DIMENSION_COLUMNS,
  type Granularity,
  SqlParameters,
} from '../reports/index.ts'
import { GPU_IDLE_OPERATION, GPU_OPERATION, GPU_UNATTRIBUTED_OPERATION, seconds } from './interval-events.ts'

export interface GpuReportRequest {
  readonly organizationId: string
  readonly startMs: number
  readonly endMs: number
  readonly timeZone: string
  readonly granularity: Granularity | undefined
}

/** The GPU time of one model, or of all, and what its tokens cost. Money is exact text in US dollars. */
export interface GpuSums {
  readonly gpu_seconds: number
  readonly gpu_unattributed_seconds: number
  readonly gpu_idle_seconds: number
  readonly gpu_unknown_seconds: number
  readonly utilization: number | null
  readonly input_tokens: number
  readonly output_tokens: number
  readonly total_tokens: number
  readonly served_input_tokens: number | null
  readonly served_output_tokens: number | null
  readonly unpriced_events: number
  readonly gpu_cost: string | null
  readonly gpu_unattributed_cost: string | null
  readonly gpu_idle_cost: string | null
  readonly total_cost: string | null
  readonly cost_per_million_tokens: string | null
  readonly total_cost_per_million_tokens: string | null
}

export interface GpuReport {
  readonly models: readonly (GpuSums & {
    readonly provider: string
    readonly model: string
    readonly bucket?: string
  })[]
  readonly totals: GpuSums
}

/**
 * GPU time by model. The seconds are those of the closed intervals, which are the same as the ledger's, digit by
 * digit; tokens and money come from the ledger's own report.
 */
export async function gpuReport(pool: Pool, request: GpuReportRequest): Promise<GpuReport> {
  const lines = new Map<string, ReportLine>()
  const models = new Map<string, { readonly provider: string; readonly model: string }>()
  const lineOf = (provider: string, model: string, bucket: string | undefined) => {
    const key = JSON.stringify([bucket, provider, model])
    const line = lines.get(key) ?? { provider, model, bucket, sums: new Accumulator() }
    lines.set(key, line)
    return line.sums
  }

  for (const row of await intervalSums(pool, request)) {
    models.set(JSON.stringify([row.provider, row.model]), row)
    lineOf(row.provider, row.model, bucketText(row.bucket, request.timeZone)).addTime(row)
  }
  for (const { keys, ...group } of await ledgerSums(pool, request, [...models.values()])) {
    const { provider, model, operation, bucket } = keys
    if (typeof provider !== 'string' || typeof model !== 'string') continue
    // The filters are by provider and by model; what they let through beside the pairs is nobody's GPU.
    if (!models.has(JSON.stringify([provider, model]))) continue
    lineOf(provider, model, bucket ?? undefined).addUsage(operation ?? '', group)
  }

  const totals = new Accumulator()
  const sorted = [...lines.values()].sort(byBucketThenName)
  for (const { sums } of sorted) totals.add(sums)
  return {
    models: sorted.map(({ provider, model, bucket, sums }) => ({
      provider,
      model,
      ...(bucket !== undefined && { bucket }),
      ...sums.result(),
    })),
    totals: totals.result(),
  }
}

interface ReportLine {
  readonly provider: string
  readonly model: string
  readonly bucket: string | undefined
  readonly sums: Accumulator
}

function byBucketThenName(a: ReportLine, b: ReportLine): number {
  // As instants, not as text: the hour that a clock change repeats has two offsets.
  const apart = Date.parse(a.bucket ?? '1970-01-01') - Date.parse(b.bucket ?? '1970-01-01')
  if (apart !== 0) return apart
  return a.provider + a.model < b.provider + b.model ? -1 : 1
}

interface IntervalSumsRow {
  readonly bucket: unknown
  readonly provider: string
  readonly model: string
  readonly attributed_us: string
  readonly unattributed_us: string
  readonly idle_us: string
  readonly unknown_us: string
  readonly served_input_tokens: string | null
  readonly served_output_tokens: string | null
}

async function intervalSums(pool: Pool, request: GpuReportRequest): Promise<readonly IntervalSumsRow[]> {
  const parameters = new SqlParameters()
  const organization = parameters.add(request.organizationId)
  const start = parameters.add(new Date(request.startMs))
  const end = parameters.add(new Date(request.endMs))
  const { rows } = await pool.query<IntervalSumsRow>(
    `select ${bucketExpression(request, 'started_at', parameters)} as bucket, provider, model,
       sum(attributed_us)::text as attributed_us, sum(unattributed_us)::text as unattributed_us,
       sum(idle_us)::text as idle_us, sum(unknown_us)::text as unknown_us,
       sum(served_input_tokens)::text as served_input_tokens,
       sum(served_output_tokens)::text as served_output_tokens
     from gpu_interval
     where organization_id = ${organization} and appended_at is not null
       and started_at >= ${start} and started_at < ${end}
     group by 1, provider, model`,
    parameters.values,
  )
  return rows
}

async function ledgerSums(
  pool: Pool,
  request: GpuReportRequest,
  models: readonly { readonly provider: string; readonly model: string }[],
) {
  if (models.length === 0) return []
  const dimension = (name: keyof typeof DIMENSION_COLUMNS) => ({
    name,
    column: DIMENSION_COLUMNS[name],
    tag: undefined,
  })
  const { groups } = await aggregate(pool, {
    ...request,
    groupBy: [dimension('provider'), dimension('model'), dimension('operation')],
    filters: [
      { dimension: dimension('provider'), values: [...new Set(models.map(({ provider }) => provider))] },
      { dimension: dimension('model'), values: [...new Set(models.map(({ model }) => model))] },
    ],
    withTotals: false,
  })
  return groups
}

/** Adds up one line of the report. */
class Accumulator {
  #attributedUs = 0n
  #unattributedUs = 0n
  #idleUs = 0n
  #unknownUs = 0n
  #inputTokens = 0
  #outputTokens = 0
  #servedInput: bigint | undefined
  #servedOutput: bigint | undefined
  readonly #gpu = new Cost()
  readonly #unattributed = new Cost()
  readonly #idle = new Cost()

  addTime(row: IntervalSumsRow): void {
    this.#attributedUs += BigInt(row.attributed_us)
    this.#unattributedUs += BigInt(row.unattributed_us)
    this.#idleUs += BigInt(row.idle_us)
    this.#unknownUs += BigInt(row.unknown_us)
    if (row.served_input_tokens !== null)
      this.#servedInput = plus(this.#servedInput, BigInt(row.served_input_tokens))
    if (row.served_output_tokens !== null)
      this.#servedOutput = plus(this.#servedOutput, BigInt(row.served_output_tokens))
  }

  addUsage(
    operation: string,
    group: {
      readonly input_tokens: number
      readonly output_tokens: number
      readonly unpriced_requests: number
      readonly list_cost: string
    },
  ): void {
    const cost =
      operation === GPU_OPERATION
        ? this.#gpu
        : operation === GPU_UNATTRIBUTED_OPERATION
          ? this.#unattributed
          : operation === GPU_IDLE_OPERATION
            ? this.#idle
            : undefined
    if (cost === undefined) {
      this.#inputTokens += group.input_tokens
      this.#outputTokens += group.output_tokens
    } else cost.add(decimal(group.list_cost), group.unpriced_requests)
  }

  add(other: Accumulator): void {
    this.#attributedUs += other.#attributedUs
    this.#unattributedUs += other.#unattributedUs
    this.#idleUs += other.#idleUs
    this.#unknownUs += other.#unknownUs
    this.#inputTokens += other.#inputTokens
    this.#outputTokens += other.#outputTokens
    if (other.#servedInput !== undefined) this.#servedInput = plus(this.#servedInput, other.#servedInput)
    if (other.#servedOutput !== undefined) this.#servedOutput = plus(this.#servedOutput, other.#servedOutput)
    for (const [own, others] of [
      [this.#gpu, other.#gpu],
      [this.#unattributed, other.#unattributed],
      [this.#idle, other.#idle],
    ] as const) {
      own.add(others.usd, others.unpricedEvents)
    }
  }

  result(): GpuSums {
    const busyUs = this.#attributedUs + this.#unattributedUs
    const measuredUs = busyUs + this.#idleUs
    const tokens = this.#inputTokens + this.#outputTokens
    const total = new Cost()
    for (const part of [this.#gpu, this.#unattributed, this.#idle]) {
      total.add(part.usd, part.unpricedEvents)
    }
    return {
      gpu_seconds: seconds(this.#attributedUs),
      gpu_unattributed_seconds: seconds(this.#unattributedUs),
      gpu_idle_seconds: seconds(this.#idleUs),
      gpu_unknown_seconds: seconds(this.#unknownUs),
      utilization: measuredUs === 0n ? null : Number((busyUs * 1_000_000n) / measuredUs) / 1_000_000,
      input_tokens: this.#inputTokens,
      output_tokens: this.#outputTokens,
      total_tokens: tokens,
      served_input_tokens: this.#servedInput === undefined ? null : Number(this.#servedInput),
      served_output_tokens: this.#servedOutput === undefined ? null : Number(this.#servedOutput),
      unpriced_events: total.unpricedEvents,
      gpu_cost: this.#gpu.text(),
      gpu_unattributed_cost: this.#unattributed.text(),
      gpu_idle_cost: this.#idle.text(),
      total_cost: total.text(),
      cost_per_million_tokens: this.#gpu.perMillion(tokens),
      total_cost_per_million_tokens: total.perMillion(tokens),
    }
  }
}

/** An amount that is unknown as long as one of its events has no price. */
class Cost {
  usd: Decimal = ZERO
  unpricedEvents = 0

  add(usd: Decimal, unpricedEvents: number): void {
    this.usd = this.usd.plus(usd)
    this.unpricedEvents += unpricedEvents
  }

  text(): string | null {
    return this.unpricedEvents === 0 ? decimalText(this.usd) : null
  }

  perMillion(tokens: number): string | null {
    if (this.unpricedEvents > 0) return null
    return costPerMillionTokens(this.usd, BigInt(tokens)) ?? null
  }
}

function plus(sum: bigint | undefined, value: bigint): bigint {
  return (sum ?? 0n) + value
}
