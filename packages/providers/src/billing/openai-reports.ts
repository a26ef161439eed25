import { canonicalTier, type Decimal, type VendorRow, ZERO } from '@tokentally/core'
import { z } from 'zod'
import { amountOf, countOf, dayOfSeconds, textOf } from './amounts.ts'
import { refuse } from './billing-error.ts'
import { type BillingReport, parsed } from './report.ts'

/**
 * OpenAI's usage and costs of an organization, `GET /v1/organization/usage/…` and `GET /v1/organization/costs`, as
 * its API reference and the types of openai-node 7.57 describe them (read 2026-11). `input_tokens` has all input:
 * what was cached, written to a cache, or is audio or images is taken out of it. Numbers are text here
 * (`numbersAsText`).
 */

const numeric = z.string().nullish()
const name = z.string().nullish()
const page = <Result extends z.ZodType>(result: Result) =>
  z.object({
    data: z.array(z.object({ start_time: z.string(), results: z.array(result) })),
  })

const usageResult = z.looseObject({
  object: z.string().startsWith('organization.usage.', 'must be a result of the usage API'),
  input_tokens: numeric,
  input_cached_tokens: numeric,
  input_cache_write_tokens: numeric,
  input_audio_tokens: numeric,
  input_cached_audio_tokens: numeric,
  input_image_tokens: numeric,
  input_cached_image_tokens: numeric,
  output_tokens: numeric,
  output_audio_tokens: numeric,
  output_image_tokens: numeric,
  images: numeric,
  characters: numeric,
  seconds: numeric,
  num_requests: numeric,
  model: name,
  project_id: name,
  api_key_id: name,
  service_tier: name,
  batch: z.boolean().nullish(),
})

/** What each endpoint counts, by the last part of its results' `object`. */
const METERS_BY_PART: Readonly<Record<string, string>> = {
  images: 'images',
  audio_speeches: 'characters',
  audio_transcriptions: 'audio_seconds',
  web_searches: 'web_search_requests',
}

/** The endpoints of the usage API whose counts have a meter here. */
export const OPENAI_USAGE_PARTS = [
  'completions',
  'embeddings',
  'moderations',
  'images',
  'audio_speeches',
  'audio_transcriptions',
] as const

/** @throws BillingError that names the bucket and the field */
export function readOpenaiUsage(value: unknown): BillingReport {
  const { data } = parsed(page(usageResult), value)
  const rows: VendorRow[] = []
  const days: string[] = []
  let ignored = 0
  let part = ''
  data.forEach((bucket, index) => {
    const day = dayOfSeconds(`data.${index}.start_time`, bucket.start_time)
    days.push(day)
    bucket.results.forEach((result, at) => {
      const path = `data.${index}.results.${at}`
      const kind = result.object.split('.')[2] ?? ''
      if (part !== '' && part !== kind)
        refuse(`${path}.object`, `a file has results of one kind, ${part}, not ${kind}`)
      part = kind
      const quantities = openaiQuantities(path, kind, result)
      if (quantities === undefined) {
        ignored += 1
        return
      }
      if (result.model === null || result.model === undefined) {
        refuse(`${path}.model`, 'is missing: ask with group_by=model')
      }
      const tier = result.batch === true ? 'batch' : result.service_tier
      for (const [meter, quantity] of Object.entries(quantities)) {
        if (quantity.lt(ZERO)) refuse(path, `the parts of ${wholeOf(meter)} are more than it is`)
        if (quantity.eq(ZERO)) continue
        rows.push({
          day,
          kind: 'usage',
          model: result.model,
          meter,
          serviceTier: tier === null || tier === undefined ? null : canonicalTier(tier),
          keyId: result.api_key_id ?? null,
          projectId: result.project_id ?? null,
          quantity: textOf(quantity),
          costUsd: null,
          lines: 1,
        })
      }
    })
  })
  return { days, rows, ignored, part }
}

function wholeOf(meter: string): string {
  return meter.startsWith('output') ? 'output_tokens' : 'input_tokens'
}

/** Disjoint quantities; undefined for what has no meter here. */
function openaiQuantities(
  path: string,
  kind: string,
  result: z.infer<typeof usageResult>,
): Readonly<Record<string, Decimal>> | undefined {
  const count = (field: keyof z.infer<typeof usageResult>) => {
    const value = result[field]
    return countOf(`${path}.${String(field)}`, typeof value === 'string' ? value : undefined)
  }
  const meter = METERS_BY_PART[kind]
  if (meter !== undefined) {
    return {
      [meter]: count(
        kind === 'web_searches'
          ? 'num_requests'
          : kind === 'images'
            ? 'images'
            : kind === 'audio_speeches'
              ? 'characters'
              : 'seconds',
      ),
    }
  }
  if (kind === 'embeddings' || kind === 'moderations') return { input_tokens: count('input_tokens') }
  if (kind !== 'completions') return undefined
  const cached = count('input_cached_tokens')
  const cachedAudio = count('input_cached_audio_tokens')
  const cachedImages = count('input_cached_image_tokens')
  const written = count('input_cache_write_tokens')
  const audio = count('input_audio_tokens')
  const images = count('input_image_tokens')
  const audioOut = count('output_audio_tokens')
  const imagesOut = count('output_image_tokens')
  return {
    input_tokens: count('input_tokens').minus(cached).minus(written).minus(audio).minus(images),
    cache_read_tokens: cached.minus(cachedAudio).minus(cachedImages),
    cache_write_tokens: written,
    audio_input_tokens: audio,
    image_input_tokens: images,
    audio_cache_read_tokens: cachedAudio,
    image_cache_read_tokens: cachedImages,
    output_tokens: count('output_tokens').minus(audioOut).minus(imagesOut),
    audio_output_tokens: audioOut,
    image_output_tokens: imagesOut,
  }
}

const costResult = z.looseObject({
  object: z.literal('organization.costs.result', 'must be a result of the costs API'),
  amount: z.object({ value: z.string(), currency: z.string() }),
  line_item: name,
  project_id: name,
  api_key_id: name,
  quantity: numeric,
  quantity_unit: name,
})

/** Line items name a model and a meter: `gpt-4o-mini-2024-07-18, cached input`. */
const LINE_ITEM = /^(.+?)(?:,\s*|\s+\|\s+)(.+)$/
const UNITS: Readonly<Record<string, Decimal | undefined>> = {
  tokens: amountOf('', '1'),
  '1000_tokens': amountOf('', '1000'),
  images: amountOf('', '1'),
  characters: amountOf('', '1'),
  duration_seconds: amountOf('', '1'),
  duration_minutes: amountOf('', '60'),
  duration_hours: amountOf('', '3600'),
}

/** @throws BillingError that names the bucket and the field */
export function readOpenaiCosts(value: unknown): BillingReport {
  const { data } = parsed(page(costResult), value)
  const rows: VendorRow[] = []
  const days: string[] = []
  data.forEach((bucket, index) => {
    const day = dayOfSeconds(`data.${index}.start_time`, bucket.start_time)
    days.push(day)
    bucket.results.forEach((result, at) => {
      const path = `data.${index}.results.${at}`
      const { amount, line_item: item } = result
      if (amount.currency.toLowerCase() !== 'usd')
        refuse(`${path}.amount.currency`, `must be usd, not ${amount.currency}`)
      if (item === null || item === undefined) {
        refuse(`${path}.line_item`, 'is missing: ask with group_by=line_item')
      }
      const cost = amountOf(`${path}.amount.value`, amount.value)
      const [, model, words = ''] = LINE_ITEM.exec(item) ?? []
      const meter = model === undefined ? undefined : costMeter(words)
      const unit = result.quantity_unit == null ? UNITS['tokens'] : UNITS[result.quantity_unit]
      const isUsage = model !== undefined && meter !== undefined
      rows.push({
        day,
        kind: isUsage ? 'usage' : /credit|grant/i.test(item) ? 'credit' : 'other',
        model: model ?? item,
        meter: meter ?? null,
        serviceTier: costTier(item),
        keyId: result.api_key_id ?? null,
        projectId: result.project_id ?? null,
        quantity:
          isUsage && result.quantity != null && unit !== undefined
            ? textOf(amountOf(`${path}.quantity`, result.quantity).times(unit))
            : null,
        costUsd: textOf(cost),
        lines: 1,
      })
    })
  })
  return { days, rows, ignored: 0, part: 'costs' }
}

function costMeter(words: string): string | undefined {
  const has = (word: RegExp) => word.test(words)
  const kind = has(/audio/i) ? 'audio_' : has(/image/i) ? 'image_' : ''
  if (has(/cache\w* write|cache creation/i)) return 'cache_write_tokens'
  if (has(/cache/i)) return `${kind}cache_read_tokens`
  if (has(/input|prompt/i)) return `${kind}input_tokens`
  if (has(/output|completion|generated/i)) return `${kind}output_tokens`
  return undefined
}

function costTier(words: string): string | null {
  return /\b(batch|flex|priority|scale)\b/i.exec(words)?.[1]?.toLowerCase() ?? null
}
