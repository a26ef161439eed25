import { handOut } from './hand-out.ts'

/**
 * Whose calls a GPU was busy with.
 *
 * An exporter says how busy a GPU was, not for whom: many calls share one batch. So the busy time of an interval
 * is handed out by weight, and the weight of a call in an interval is its tokens times the part of its time that
 * lies in the interval:
 *
 * - The input is computed before the first token comes, the output from then on. Where the time to the first
 *   token is known, input tokens weigh between the start and the first token, output tokens between the first
 *   token and the end; else both weigh over the whole call. A call without a length weighs where it began.
 * - An output token weighs four times an input token, an input token that was read from the prefix cache a tenth.
 *   Decoding passes over the weights of the model for every token of a sequence, prefill once for many tokens.
 *   It is a convention in the range of what hosts of open models charge, not a measurement: the real ratio
 *   depends on model, batch and GPU.
 */

/** Weight of one token in the hand-out. Only ratios matter. */
export const GPU_TOKEN_WEIGHTS = { input: 10n, cacheRead: 1n, output: 40n } as const

/** A call as far as the attribution of GPU time needs it. Times in UTC milliseconds, fractions allowed. */
export interface GpuCall {
  /** Whom the call was for. Calls of the same key get one share together. */
  readonly key: string
  readonly startMs: number
  readonly durationMs: number
  /** From the start; only where it is shorter than the call is it taken for the end of the prefill. */
  readonly timeToFirstTokenMs?: number | undefined
  /** All input, cached included. */
  readonly inputTokens: number
  /** The part of the input that came from the prefix cache. */
  readonly cacheReadTokens: number
  readonly outputTokens: number
}

/** A range of time, start included, end excluded, in UTC milliseconds. */
export interface GpuInterval {
  readonly startMs: number
  readonly endMs: number
}

/** Who was busy with a GPU, in whole microseconds. The shares and the rest add up to the busy time. */
export interface GpuAttribution {
  /** Above zero, one for each key, ordered by key. */
  readonly shares: readonly { readonly key: string; readonly busyUs: bigint }[]
  /** Busy time with no call to give it to: the GPU worked, for somebody who is not metered. */
  readonly unattributedUs: bigint
}

/**
 * Hands the busy time of an interval out to the calls that overlapped it.
 *
 * @param busyUs microseconds that the GPUs of the model were busy in the interval, over all of them
 */
export function attributeGpuTime(
  interval: GpuInterval,
  busyUs: bigint,
  calls: Iterable<GpuCall>,
): GpuAttribution {
  const weights = new Map<string, bigint>()
  for (const call of calls) {
    const weight = weightIn(interval, call)
    if (weight > 0n) weights.set(call.key, (weights.get(call.key) ?? 0n) + weight)
  }
  if (weights.size === 0) return { shares: [], unattributedUs: busyUs }
  // In an order of their own, so that the same calls in any order give the same shares.
  const keys = [...weights.keys()].sort()
  const parts = handOut(
    busyUs,
    keys.map((key) => weights.get(key) ?? 0n),
  )
  const shares = keys.map((key, index) => ({ key, busyUs: parts[index] ?? 0n }))
  return { shares: shares.filter((share) => share.busyUs > 0n), unattributedUs: 0n }
}

/** Parts of a weight are kept to a millionth of a millionth, so that rounding a part off changes no share. */
const SCALE = 1_000_000_000_000n

function weightIn(interval: GpuInterval, call: GpuCall): bigint {
  const fresh = Math.max(0, call.inputTokens - call.cacheReadTokens)
  const prefill =
    BigInt(fresh) * GPU_TOKEN_WEIGHTS.input + BigInt(call.cacheReadTokens) * GPU_TOKEN_WEIGHTS.cacheRead
  const decode = BigInt(call.outputTokens) * GPU_TOKEN_WEIGHTS.output
  const { startMs, durationMs } = call
  const endMs = startMs + durationMs
  const firstTokenMs = call.timeToFirstTokenMs ?? 0
  if (firstTokenMs > 0 && firstTokenMs < durationMs) {
    return (
      partIn(interval, startMs, startMs + firstTokenMs, prefill) +
      partIn(interval, startMs + firstTokenMs, endMs, decode)
    )
  }
  return partIn(interval, startMs, endMs, prefill + decode)
}

/** The part of a weight, spread evenly over a time, that lies in the interval. */
function partIn(interval: GpuInterval, fromMs: number, toMs: number, weight: bigint): bigint {
  const lengthUs = microseconds(toMs - fromMs)
  if (lengthUs === 0n) {
    return fromMs >= interval.startMs && fromMs < interval.endMs ? weight * SCALE : 0n
  }
  const overlapMs = Math.min(toMs, interval.endMs) - Math.max(fromMs, interval.startMs)
  if (overlapMs <= 0) return 0n
  return (weight * SCALE * microseconds(overlapMs)) / lengthUs
}

function microseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1000))
}
