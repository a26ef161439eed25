import type { MetricSample } from './prometheus-text.ts'

/**
 * What NVIDIA's DCGM exporter says of its GPUs.
 *
 * Source: "DCGM Exporter Metrics" and "Field Identifiers", docs.nvidia.com/datacenter/dcgm, read 2026-11-24.
 * A row has the labels `gpu` (index), `UUID`, and for a MIG instance `GPU_I_ID` and `GPU_I_PROFILE`; on Kubernetes
 * also the pod, and a shared GPU then has one row with the same value for each pod.
 */

const ENGINE_ACTIVE = 'DCGM_FI_PROF_GR_ENGINE_ACTIVE'
const GPU_UTIL = 'DCGM_FI_DEV_GPU_UTIL'
const POWER = 'DCGM_FI_DEV_POWER_USAGE'

export const DCGM_METRICS: ReadonlySet<string> = new Set([ENGINE_ACTIVE, GPU_UTIL, POWER])

/** How busy one GPU, or one MIG instance, was until now. */
export interface GpuReading {
  /** `GPU-…`, and `GPU-…/7` for the MIG instance 7 of it. */
  readonly gpu: string
  /** Parts per million, 0 to 1,000,000. */
  readonly busyPpm: number
  readonly source: 'gr_engine_active' | 'gpu_util'
  readonly powerWatts: number | undefined
}

/**
 * Reads the utilisation of every GPU that has one.
 *
 * The ratio of time that the graphics engine was active comes first: it is an average and finer than a per cent.
 * Where it is missing (GPUs before Volta, profiling switched off) the utilisation in per cent is taken. Where it is
 * exactly 0 while the utilisation is not, too: the exporter is known to get stuck at 0 (NVIDIA/dcgm-exporter#662).
 * A MIG instance is a GPU of its own; the row of the whole GPU is then left out, which would count it twice.
 * A value out of its range is no value.
 */
export function readGpus(samples: readonly MetricSample[]): readonly GpuReading[] {
  const rows = new Map<string, { active?: number; util?: number; power?: number }>()
  const divided = new Set<string>()
  for (const { name, labels, value } of samples) {
    const uuid = labels.get('UUID') ?? labels.get('uuid') ?? ''
    if (uuid === '') continue
    const instance = labels.get('GPU_I_ID') ?? ''
    if (instance !== '') divided.add(uuid)
    const gpu = instance === '' ? uuid : `${uuid}/${instance}`
    const row = rows.get(gpu) ?? {}
    rows.set(gpu, row)
    if (name === ENGINE_ACTIVE && value >= 0 && value <= 1) row.active ??= Math.round(value * 1_000_000)
    if (name === GPU_UTIL && value >= 0 && value <= 100) row.util ??= Math.round(value * 10_000)
    if (name === POWER && value >= 0 && Number.isFinite(value)) row.power ??= value
  }
  return [...rows].flatMap(([gpu, { active, util, power }]): GpuReading[] => {
    if (divided.has(gpu)) return []
    const isStuck = active === 0 && util !== undefined && util > 0
    if (active !== undefined && !isStuck) {
      return [{ gpu, busyPpm: active, source: 'gr_engine_active', powerWatts: power }]
    }
    return util === undefined ? [] : [{ gpu, busyPpm: util, source: 'gpu_util', powerWatts: power }]
  })
}
