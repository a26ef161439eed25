import {
  decimal,
  decimalText,
  type FieldIssue,
  modelMatcher,
  modelMatchSchema,
  priceText,
} from '@tokentally/core'
import { z } from 'zod'
import { catalogueModels } from './catalogue.ts'
import type { CatalogueModel } from './catalogue-model.ts'

/**
 * A price file of genai-prices (`prices/new_data/v2/data.json`), read without floats: a price is the text of
 * the number in the file. Keys that do not matter for prices are passed over, as newer files may have more.
 */

/** A price file that cannot be used. Nothing of it may be taken over. */
export class CatalogueFileError extends Error {
  override readonly name = 'CatalogueFileError'
  /** What is wrong where, e.g. `[3].models[0].prices.input_mtok`; at most 20. */
  readonly issues: readonly FieldIssue[]

  constructor(issues: readonly FieldIssue[]) {
    const [first] = issues
    super(`the price file is not valid: ${first?.path ?? ''} ${first?.message ?? ''}`)
    this.issues = issues
  }
}

const ISSUES_MAX = 20

/** A number of the file by its text, so that no digit is lost. */
class NumberText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

const number = z.instanceof(NumberText, { error: 'must be a number' })
/** Before it is computed with: an exponent of many digits would fill the memory. */
const MODEST = /^-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?$/
const amount = number.transform(({ text }, context) => {
  const plain = MODEST.test(text) ? decimalText(decimal(text)) : text
  if (priceText.safeParse(plain).success) return plain
  context.addIssue({
    code: 'custom',
    message: `${text} is no price: it must not be negative, nor have more than 18 digits on a side of the point`,
  })
  return z.NEVER
})
const threshold = number.transform(({ text }, context) => {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  context.addIssue({ code: 'custom', message: `${text} is no count of tokens` })
  return z.NEVER
})
const tiered = z.object(
  { base: amount, tiers: z.array(z.object({ start: threshold, price: amount })) },
  { error: 'must be a number, or {"base", "tiers"}' },
)
const price = z
  .unknown()
  .transform((value, context) =>
    value instanceof NumberText ? checked(amount, value, context) : checked(tiered, value, context),
  )
const modelPrice = z.record(z.string(), price)

/** Chosen by the kind of value and not by a union, which names all that it could be and nothing that is wrong. */
function checked<Output>(schema: z.ZodType<Output>, value: unknown, context: z.RefinementCtx): Output {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  for (const { path, message } of parsed.error.issues) context.addIssue({ code: 'custom', path, message })
  return z.NEVER
}

const time = z
  .string()
  .regex(/^\d{2}:\d{2}:\d{2}(?:\.0+)?(?:Z|[+-]00:00)$/, 'must be a time of whole seconds in UTC')
const constraint = z.union(
  [
    z
      .strictObject({ type: z.literal('start_date').optional(), start_date: z.iso.date() })
      .transform(({ start_date }) => ({ type: 'start_date' as const, start_date })),
    z
      .strictObject({ type: z.literal('time_of_date').optional(), start_time: time, end_time: time })
      .transform(({ start_time, end_time }) => ({ type: 'time_of_date' as const, start_time, end_time })),
  ],
  { error: 'must be a start date or hours of the day' },
)
const match = modelMatchSchema.superRefine((value, context) => {
  try {
    modelMatcher(value)
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'is not valid' })
  }
})
const conditional = z.object({ constraint: constraint.optional(), prices: modelPrice })
const conditionals = z.array(conditional).min(1, 'lists no price')
const model = z.object({
  id: z.string().min(1).max(512),
  match,
  prices: z
    .unknown()
    .transform((value, context) =>
      Array.isArray(value) ? checked(conditionals, value, context) : checked(modelPrice, value, context),
    ),
})
const file = z
  .array(z.object({ id: z.string().min(1).max(128), models: z.array(model) }))
  .min(1, 'lists no provider')

/**
 * Reads a price file as a whole.
 *
 * @throws {CatalogueFileError} naming every part that is wrong; then none of the file is used
 */
export function parseCatalogueFile(text: string): readonly CatalogueModel[] {
  const parsed = file.safeParse(parseJson(text))
  if (!parsed.success) {
    throw new CatalogueFileError(
      parsed.error.issues
        .slice(0, ISSUES_MAX)
        .map((issue) => ({ path: pathText(issue.path), message: issue.message })),
    )
  }
  const models = catalogueModels(parsed.data)
  const seen = new Set<string>()
  for (const { provider, model: id } of models) {
    const key = `${provider}\n${id}`
    if (seen.has(key)) throw new CatalogueFileError([{ path: `${provider}/${id}`, message: 'stands twice' }])
    seen.add(key)
  }
  if (models.length === 0) throw new CatalogueFileError([{ path: '', message: 'has no price' }])
  return models
}

function parseJson(text: string): unknown {
  try {
    // The third argument of a reviver is the source text of the value (V8 since Node 21).
    return JSON.parse(text, (_key, value: unknown, ...[context]: unknown[]) =>
      typeof value === 'number' ? new NumberText(sourceOf(context)) : value,
    )
  } catch (error) {
    throw new CatalogueFileError([
      { path: '', message: `is not JSON: ${error instanceof Error ? error.message : 'unreadable'}` },
    ])
  }
}

const sourceSchema = z.object({ source: z.string() })

function sourceOf(context: unknown): string {
  return sourceSchema.parse(context).source
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('')
}
