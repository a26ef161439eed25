import { z } from 'zod'

/** What serves on a GPU, as usage events name it. */
export interface ServedModel {
  readonly provider: string
  readonly model: string
}

/** A host of GPUs whose metrics are read. */
export interface GpuTarget {
  /** Unique among the targets; stands in the ids of its usage events, so it is for good. */
  readonly name: string
  /** Where its DCGM exporter answers. */
  readonly dcgmUrl: string
  /** Where its vLLM servers answer with their metrics; none: no tokens to compare with. */
  readonly vllmUrls: readonly string[]
  /** What GPUs serve that are not named in `gpus`; undefined: those are left out. */
  readonly served: ServedModel | undefined
  /** What single GPUs serve, by UUID, or by UUID and MIG instance: `GPU-…` or `GPU-…/7`. */
  readonly gpus: ReadonlyMap<string, ServedModel>
}

const TARGETS_MAX = 100
const VLLM_URLS_MAX = 64

const metricsUrl = z
  .string()
  .refine((value) => ['http:', 'https:'].includes(URL.parse(value)?.protocol ?? ''), 'must be an http(s) URL')
  .refine((value) => {
    const url = URL.parse(value)
    return url === null || (url.username === '' && url.password === '')
  }, 'must not carry a user or password')
const provider = z.string().min(1).max(128)
const model = z.string().min(1).max(512)
const servedSchema = z.strictObject({ provider: provider.optional(), model })

const targetSchema = z
  .strictObject({
    name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'must be 1 to 40 of a-z, 0-9 and dashes'),
    dcgm: metricsUrl,
    vllm: z.union([metricsUrl.transform((url) => [url]), z.array(metricsUrl).max(VLLM_URLS_MAX)]).default([]),
    provider: provider.default('vllm'),
    model: model.optional(),
    gpus: z
      .record(
        z.string().regex(/^[A-Za-z0-9-]+(\/\d+)?$/, 'must be the UUID of a GPU, or UUID/MIG instance'),
        servedSchema,
      )
      .default({}),
  })
  .refine(
    (target) => target.model !== undefined || Object.keys(target.gpus).length > 0,
    'needs a model, or gpus with their models',
  )

/** Reads `TOKENTALLY_GPU_TARGETS`: a JSON array of targets. An issue says which part is wrong. */
export const gpuTargetsSchema = z.string().transform((text, context): readonly GpuTarget[] => {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'must be a JSON array of targets' })
    return z.NEVER
  }
  const parsed = z
    .array(targetSchema)
    .max(TARGETS_MAX, `has more than ${TARGETS_MAX} targets`)
    .safeParse(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const path = issue?.path.join('.') ?? ''
    context.addIssue({
      code: 'custom',
      message: path === '' ? `must be a JSON array of targets` : `${path}: ${issue?.message}`,
    })
    return z.NEVER
  }
  const names = parsed.data.map((target) => target.name)
  const repeated = names.find((name, index) => names.indexOf(name) !== index)
  if (repeated !== undefined) {
    context.addIssue({ code: 'custom', message: `has two targets of the name "${repeated}"` })
  }
  return parsed.data.map((target) => ({
    name: target.name,
    dcgmUrl: target.dcgm,
    vllmUrls: target.vllm,
    served: target.model === undefined ? undefined : { provider: target.provider, model: target.model },
    gpus: new Map(
      Object.entries(target.gpus).map(([gpu, served]) => [
        gpu,
        { provider: served.provider ?? target.provider, model: served.model },
      ]),
    ),
  }))
})
