import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/**
 * Writes operations.json: the parameters of the operations that the fake knows, from the type declarations of the
 * installed `stripe` package, which Stripe generates from its published OpenAPI description.
 *
 *     node test/fake-stripe/extract-operations.ts
 */

/** A parameter: text, number or boolean; one of these words; a list; an object; a map of text. */
export type ParameterType =
  | 'string'
  | 'integer'
  | 'boolean'
  | 'decimal'
  | 'map'
  | { readonly oneOf: readonly string[] }
  | { readonly list: ParameterType }
  | { readonly object: Parameters }
  | { readonly anyOf: readonly ParameterType[] }
export type Parameters = Readonly<
  Record<
    string,
    {
      readonly type: ParameterType
      readonly required?: true | undefined
      readonly emptyable?: true | undefined
    }
  >
>

const PACKAGE = fileURLToPath(new URL('../../node_modules/stripe/', import.meta.url))

/** Operation, file of declarations, interface of the parameters. */
const OPERATIONS: readonly (readonly [operation: string, file: string, parameters: string])[] = [
  ['POST /v1/invoices', 'Invoices', 'InvoiceCreateParams'],
  ['GET /v1/invoices', 'Invoices', 'InvoiceListParams'],
  ['GET /v1/invoices/:id', 'Invoices', 'InvoiceRetrieveParams'],
  ['POST /v1/invoices/:id', 'Invoices', 'InvoiceUpdateParams'],
  ['DELETE /v1/invoices/:id', 'Invoices', 'InvoiceDeleteParams'],
  ['GET /v1/invoices/:id/lines', 'Invoices', 'InvoiceListLineItemsParams'],
  ['POST /v1/invoices/:id/finalize', 'Invoices', 'InvoiceFinalizeInvoiceParams'],
  ['POST /v1/invoices/:id/send', 'Invoices', 'InvoiceSendInvoiceParams'],
  ['POST /v1/invoices/:id/pay', 'Invoices', 'InvoicePayParams'],
  ['POST /v1/invoices/:id/void', 'Invoices', 'InvoiceVoidInvoiceParams'],
  ['POST /v1/invoiceitems', 'InvoiceItems', 'InvoiceItemCreateParams'],
  ['GET /v1/invoiceitems', 'InvoiceItems', 'InvoiceItemListParams'],
  ['POST /v1/credit_notes', 'CreditNotes', 'CreditNoteCreateParams'],
  ['GET /v1/credit_notes', 'CreditNotes', 'CreditNoteListParams'],
  ['GET /v1/credit_notes/:id', 'CreditNotes', 'CreditNoteRetrieveParams'],
  ['POST /v1/credit_notes/:id/void', 'CreditNotes', 'CreditNoteVoidCreditNoteParams'],
  ['POST /v1/customers', 'Customers', 'CustomerCreateParams'],
  ['GET /v1/customers/:id', 'Customers', 'CustomerRetrieveParams'],
  ['DELETE /v1/customers/:id', 'Customers', 'CustomerDeleteParams'],
  ['POST /v1/billing/meters', 'Billing/Meters', 'MeterCreateParams'],
  ['GET /v1/billing/meters', 'Billing/Meters', 'MeterListParams'],
  ['GET /v1/billing/meters/:id/event_summaries', 'Billing/Meters', 'MeterListEventSummariesParams'],
  ['POST /v1/billing/meter_events', 'Billing/MeterEvents', 'MeterEventCreateParams'],
  [
    'POST /v1/billing/meter_event_adjustments',
    'Billing/MeterEventAdjustments',
    'MeterEventAdjustmentCreateParams',
  ],
  ['GET /v1/events', 'Events', 'EventListParams'],
  ['GET /v1/payouts/:id', 'Payouts', 'PayoutRetrieveParams'],
  ['GET /v1/payouts', 'Payouts', 'PayoutListParams'],
  ['POST /v1/payouts', 'Payouts', 'PayoutCreateParams'],
  ['GET /v1/transfers/:id', 'Transfers', 'TransferRetrieveParams'],
  ['POST /v1/transfers', 'Transfers', 'TransferCreateParams'],
]

const PAGINATION: Parameters = {
  ending_before: { type: 'string' },
  limit: { type: 'integer' },
  starting_after: { type: 'string' },
}
const RANGE: ParameterType = {
  object: Object.fromEntries(['gt', 'gte', 'lt', 'lte'].map((name) => [name, { type: 'integer' as const }])),
}

function parametersOf(source: string, path: string): Parameters {
  const body = bodyOf(source, path)
  if (body === undefined) return {}
  const extended = body.heading.includes('extends PaginationParams') ? PAGINATION : {}
  const own = [...body.text.matchAll(/^ {0,12}(\w+)(\??): ((?:[^;{]|\{[^}]*\})+);$/gm)].map(
    ([, name = '', optional, text = '']) => {
      const emptyable = /^Emptyable<(.*)>$/s.exec(text)?.[1] ?? /^(.*) \| ''$/s.exec(text)?.[1]
      return [
        name,
        {
          type: typeOf(source, path, emptyable ?? text),
          ...(optional === '' && { required: true as const }),
          ...(emptyable !== undefined && { emptyable: true as const }),
        },
      ] as const
    },
  )
  return { ...extended, ...Object.fromEntries(own) }
}

function typeOf(source: string, path: string, text: string): ParameterType {
  const list = /^Array<(.*)>$/s.exec(text)?.[1]
  if (list !== undefined) return { list: typeOf(source, path, list) }
  if (text === 'string' || text === 'boolean') return text
  if (text === 'number') return 'integer'
  if (text === 'Decimal') return 'decimal'
  if (text === 'MetadataParam' || text.startsWith('{')) return 'map'
  if (text === 'RangeQueryParam') return RANGE
  if (text.startsWith("'")) return { oneOf: wordsOf(text) }
  if (text.includes(' | ')) return { anyOf: text.split(' | ').map((one) => typeOf(source, path, one)) }
  return namedTypeOf(source, path, text)
}

function namedTypeOf(source: string, path: string, name: string): ParameterType {
  // A nested name begins at the interface's own namespace, or at any around it.
  const parts = path.split('.')
  for (let depth = parts.length; depth >= 0; depth -= 1) {
    const full = [...parts.slice(0, depth), ...name.split('.')].join('.')
    const alias = aliasOf(source, full)
    if (alias !== undefined) return { oneOf: wordsOf(alias) }
    if (bodyOf(source, full) !== undefined) return { object: parametersOf(source, full) }
  }
  return 'string'
}

function wordsOf(text: string): readonly string[] {
  return [...text.matchAll(/'([^']*)'/g)].map(([, word = '']) => word)
}

function aliasOf(source: string, path: string): string | undefined {
  const scope = scopeOf(source, path.split('.').slice(0, -1))
  return scope === undefined
    ? undefined
    : new RegExp(`^ *type ${path.split('.').at(-1)} = ([^;]*);`, 'm').exec(scope)?.[1]
}

function bodyOf(source: string, path: string): { heading: string; text: string } | undefined {
  const scope = scopeOf(source, path.split('.').slice(0, -1))
  const found =
    scope === undefined
      ? null
      : new RegExp(`^ *(?:export )?interface ${path.split('.').at(-1)}( extends \\w+)? \\{`, 'm').exec(scope)
  if (scope === undefined || found === null) return undefined
  return { heading: found[0], text: block(scope, found.index) }
}

/** The text of nested namespaces; of the file when there are none. */
function scopeOf(source: string, names: readonly string[]): string | undefined {
  let scope = source
  for (const name of names) {
    // A file may open the same namespace several times.
    const found = [...scope.matchAll(new RegExp(`^ *(?:export declare )?namespace ${name} \\{`, 'gm'))]
    if (found.length === 0) return undefined
    const around = scope
    scope = found.map(({ index }) => block(around, index)).join('\n')
  }
  return scope
}

function block(text: string, from: number): string {
  const begin = text.indexOf('{', from)
  let depth = 0
  for (let at = begin; at < text.length; at += 1) {
    if (text[at] === '{') depth += 1
    if (text[at] === '}') depth -= 1
    if (depth === 0) return text.slice(begin + 1, at)
  }
  return text.slice(begin + 1)
}

const version = readFileSync(`${PACKAGE}esm/apiVersion.js`, 'utf8').match(/'(\d{4}-\d\d-\d\d\.\w+)'/)?.[1]
const operations = Object.fromEntries(
  OPERATIONS.map(([operation, file, name]) => {
    const source = readFileSync(`${PACKAGE}esm/resources/${file}.d.ts`, 'utf8').replace(
      /\/\*[\s\S]*?\*\//g,
      '',
    )
    const at = source.includes(`export interface ${name} `) ? name : `Billing.${name}`
    return [operation, parametersOf(source, at)]
  }),
)
writeFileSync(
  new URL('operations.json', import.meta.url),
  `${JSON.stringify({ api_version: version, openapi: readFileSync(`${PACKAGE}OPENAPI_VERSION`, 'utf8').trim(), operations })}\n`,
)
