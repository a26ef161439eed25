import { z } from 'zod'

/**
 * Which model names a price is for. The same language as the `match` of `@pydantic/genai-prices`, so that its
 * data can be taken over unchanged (type `MatchLogic` of version 0.1.8).
 */
export type ModelMatch =
  | { readonly equals: string }
  | { readonly starts_with: string }
  | { readonly ends_with: string }
  | { readonly contains: string }
  | { readonly regex: string }
  | { readonly or: readonly ModelMatch[] }
  | { readonly and: readonly ModelMatch[] }

/** Reads a match that comes from outside: a catalogue file, a JSON column. */
export const modelMatchSchema: z.ZodType<ModelMatch> = z.lazy(() =>
  z.union([
    z.strictObject({ equals: z.string() }),
    z.strictObject({ starts_with: z.string() }),
    z.strictObject({ ends_with: z.string() }),
    z.strictObject({ contains: z.string() }),
    z.strictObject({ regex: z.string() }),
    z.strictObject({ or: z.array(modelMatchSchema) }),
    z.strictObject({ and: z.array(modelMatchSchema) }),
  ]),
)

/** Answers for a model name that is already trimmed and in lower case. */
export type ModelMatcher = (lowerCaseModel: string) => boolean

/**
 * Prepares a match for many names. Letters count alike in both cases; a regular expression sees the name in
 * lower case, as in genai-prices, which lowers the name before it matches.
 *
 * @throws SyntaxError when a regular expression is not valid
 */
export function modelMatcher(match: ModelMatch): ModelMatcher {
  if ('equals' in match) {
    const text = match.equals.toLowerCase()
    return (model) => model === text
  }
  if ('starts_with' in match) {
    const text = match.starts_with.toLowerCase()
    return (model) => model.startsWith(text)
  }
  if ('ends_with' in match) {
    const text = match.ends_with.toLowerCase()
    return (model) => model.endsWith(text)
  }
  if ('contains' in match) {
    const text = match.contains.toLowerCase()
    return (model) => model.includes(text)
  }
  if ('regex' in match) {
    const pattern = new RegExp(match.regex)
    return (model) => pattern.test(model)
  }
  if ('or' in match) {
    const parts = match.or.map(modelMatcher)
    return (model) => parts.some((part) => part(model))
  }
  const parts = match.and.map(modelMatcher)
  return (model) => parts.every((part) => part(model))
}

/** The form in which model names are compared: trimmed and in lower case. */
export function comparableModel(model: string): string {
  return model.trim().toLowerCase()
}

/**
 * `gpt-4o-20240806` as `gpt-4o-2024-08-06`: some clients write the date of a snapshot without dashes.
 * Tried when the name as given is unknown, as genai-prices does. What is no calendar date stays.
 */
export function withDashedDate(model: string): string {
  return model.replace(COMPACT_DATE, (found, dash: string, year: string, month: string, day: string) => {
    const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)))
    const isDate = date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day)
    return isDate ? `${dash}${year}-${month}-${day}` : found
  })
}

const COMPACT_DATE = /(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)/g
