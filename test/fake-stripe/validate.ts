import { readFileSync } from 'node:fs'
import { z } from 'zod'
import type { Parameters, ParameterType } from './extract-operations.ts'
import { invalid, StripeFailure } from './failure.ts'
import type { FormObject, FormValue } from './form.ts'

/** A parameter's value after its type was checked. */
export type Value = string | number | boolean | readonly Value[] | { readonly [key: string]: Value }
export type Values = Readonly<Record<string, Value>>

const typeSchema: z.ZodType<ParameterType> = z.lazy(() =>
  z.union([
    z.enum(['string', 'integer', 'boolean', 'decimal', 'map']),
    z.strictObject({ oneOf: z.array(z.string()) }),
    z.strictObject({ list: typeSchema }),
    z.strictObject({ object: parametersSchema }),
    z.strictObject({ anyOf: z.array(typeSchema) }),
  ]),
)
const parametersSchema: z.ZodType<Parameters> = z.lazy(() =>
  z.record(
    z.string(),
    z.strictObject({
      type: typeSchema,
      required: z.literal(true).optional(),
      emptyable: z.literal(true).optional(),
    }),
  ),
)
const described = z
  .object({
    api_version: z.string(),
    openapi: z.string(),
    operations: z.record(z.string(), parametersSchema),
  })
  .parse(JSON.parse(readFileSync(new URL('operations.json', import.meta.url), 'utf8')))

/** The version of Stripe's API that is described. */
export const API_VERSION = described.api_version
/** Operations such as `POST /v1/invoices/:id/void`. */
export const OPERATIONS: readonly string[] = Object.keys(described.operations)

/**
 * Longest texts, which the type declarations leave out: `maxLength` of Stripe's OpenAPI description. Metadata: 50
 * keys of 40 characters, values of 500 (docs.stripe.com/metadata).
 */
const MAX_LENGTHS: Readonly<Record<string, number>> = {
  'POST /v1/invoices description': 1500,
  'POST /v1/invoices footer': 5000,
  'POST /v1/invoices custom_fields[name]': 40,
  'POST /v1/invoices custom_fields[value]': 140,
  'POST /v1/invoices number': 26,
  'POST /v1/invoiceitems description': 5000,
  'POST /v1/credit_notes memo': 5000,
  'POST /v1/billing/meter_events identifier': 100,
  'POST /v1/billing/meter_events event_name': 100,
  'POST /v1/billing/meters display_name': 250,
  'POST /v1/billing/meters event_name': 100,
}

/**
 * Checks a request as Stripe does: unknown parameters, missing ones, types and lengths.
 * @throws StripeFailure in Stripe's shape
 */
export function checkParameters(operation: string, form: FormObject): Values {
  return objectOf(operation, described.operations[operation] ?? {}, form, '')
}

function objectOf(operation: string, parameters: Parameters, form: FormObject, path: string): Values {
  const values: Record<string, Value> = {}
  for (const [name, value] of Object.entries(form)) {
    const parameter = parameters[name]
    const at = path === '' ? name : `${path}[${name}]`
    if (parameter === undefined) {
      throw invalid(at, `Received unknown parameter: ${at}`, 'parameter_unknown')
    }
    if (value === '' && parameter.emptyable === true) continue
    values[name] = checkedValue(operation, parameter.type, value, at)
  }
  for (const [name, { required }] of Object.entries(parameters)) {
    const at = path === '' ? name : `${path}[${name}]`
    if (required === true && values[name] === undefined) {
      throw invalid(at, `Missing required param: ${at}.`, 'parameter_missing')
    }
  }
  return values
}

function checkedValue(operation: string, type: ParameterType, value: FormValue, path: string): Value {
  if (typeof type === 'object') {
    if ('oneOf' in type) {
      if (typeof value === 'string' && type.oneOf.includes(value)) return value
      throw invalid(path, `Invalid ${path}: must be one of ${type.oneOf.join(', ')}`)
    }
    if ('anyOf' in type) return anyOf(operation, type.anyOf, value, path)
    if (typeof value === 'string') throw invalid(path, `Invalid ${'list' in type ? 'array' : 'object'}`)
    if ('object' in type) return objectOf(operation, type.object, value, path)
    return Object.entries(value).map(([index, item]) =>
      checkedValue(operation, type.list, item, /^\d+$/.test(index) ? path : `${path}[${index}]`),
    )
  }
  if (type === 'map') return mapOf(value, path)
  if (typeof value !== 'string') throw invalid(path, `Invalid ${type}: {…}`)
  const max = MAX_LENGTHS[`${operation} ${path}`]
  if (max !== undefined && value.length > max) {
    throw invalid(path, `Invalid string: ${value.slice(0, 10)}...; must be at most ${max} characters`)
  }
  if (type === 'integer') {
    if (!/^-?\d{1,15}$/.test(value))
      throw invalid(path, `Invalid integer: ${value}`, 'parameter_invalid_integer')
    return Number(value)
  }
  if (type === 'boolean') {
    if (value !== 'true' && value !== 'false') throw invalid(path, `Invalid boolean: ${value}`)
    return value === 'true'
  }
  if (value === '') {
    throw invalid(path, `You passed an empty string for '${path}'.`, 'parameter_invalid_empty')
  }
  return value
}

function anyOf(operation: string, types: readonly ParameterType[], value: FormValue, path: string): Value {
  let failure: unknown
  for (const type of types) {
    try {
      return checkedValue(operation, type, value, path)
    } catch (error) {
      failure = error
    }
  }
  throw failure instanceof StripeFailure ? failure : invalid(path, 'Invalid value')
}

function mapOf(value: FormValue, path: string): Record<string, string> {
  if (typeof value === 'string') throw invalid(path, 'Invalid object')
  const entries = Object.entries(value)
  if (entries.length > 50) throw invalid(path, 'Metadata can have at most 50 keys')
  return Object.fromEntries(
    entries.map(([key, text]) => {
      if (typeof text !== 'string') throw invalid(`${path}[${key}]`, 'Metadata values must be text')
      if (key.length > 40) throw invalid(path, `Metadata keys can be up to 40 characters long: ${key}`)
      if (text.length > 500) throw invalid(path, `Metadata values can have up to 500 characters: ${key}`)
      return [key, text]
    }),
  )
}
