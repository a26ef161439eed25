import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import Stripe from 'stripe'
import { missing, StripeFailure } from './failure.ts'
import { type FormObject, parseForm } from './form.ts'
import { type StripeEvent, type StripeObject, StripeObjects } from './objects.ts'
import { checkParameters, OPERATIONS, type Values } from './validate.ts'

/**
 * Stripe, as far as it is called here: a real HTTP server that checks every request against Stripe's own description of
 * the pinned version, keeps idempotency keys as documented (docs.stripe.com/api/idempotent_requests), and fails as it is told.
 */

/** What happens to a request instead of, or after, what it asks for. */
export type Fault =
  /** Done, but the answer never comes. */
  | 'timeout_after_commit'
  /** Nothing is done, and no answer comes. */
  | 'timeout_before'
  /** Answered 500, after it was done; its key keeps the 500. */
  | 'error_after_commit'
  /** Answered 500, with nothing done; its key keeps the 500. */
  | 'error'
  | 'rate_limit'
  /** Another request with this key is still being worked on. */
  | 'conflict'
  | 'unauthorized'
  /** The connection is cut, and nothing is done. */
  | 'outage'

export interface FakeRequest {
  readonly operation: string
  readonly id: string
  readonly form: FormObject
  readonly idempotencyKey: string | undefined
  readonly version: string | undefined
  readonly status: number
}

export interface FakeStripe {
  readonly url: string
  readonly objects: StripeObjects
  /** Every request that was answered or cut, in order. */
  readonly requests: readonly FakeRequest[]
  /** Decides what goes wrong from now on; undefined: nothing. Told the operation, such as `POST /v1/invoices`. */
  fail(decide: ((operation: string) => Fault | undefined) | undefined): void
  /** What happens when 24 hours have passed. */
  /** Keys of requests, and identifiers of meter events. */
  forgetKeys(): void
  /** A webhook delivery of an event, signed by Stripe's own library. */
  delivery(
    event: StripeEvent,
    secret: string,
    timestampMs?: number,
  ): { readonly body: string; readonly headers: Readonly<Record<string, string>> }
  stop(): Promise<void>
}

interface Reply {
  readonly status: number
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

interface Kept {
  readonly request: string
  readonly reply: Reply
}

export async function startFakeStripe({
  now = () => new Date(),
  apiKey = 'sk_test_fake',
  onEvent = () => undefined,
}: {
  readonly now?: () => Date
  /** The key that requests must carry. */
  readonly apiKey?: string
  readonly onEvent?: (event: StripeEvent) => void
} = {}): Promise<FakeStripe> {
  const objects = new StripeObjects(now, onEvent)
  const keys = new Map<string, Kept>()
  const requests: FakeRequest[] = []
  let decide: ((operation: string) => Fault | undefined) | undefined

  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => handle(request, Buffer.concat(chunks).toString('utf8'), response))
  })

  const handle = (request: IncomingMessage, text: string, response: ServerResponse): void => {
    const { pathname, search } = new URL(request.url ?? '/', 'http://fake')
    const method = request.method ?? 'GET'
    const { operation, id } = operationOf(method, pathname)
    const form = parseForm(method === 'POST' ? text : search.slice(1))
    const header = request.headers['idempotency-key']
    const key = typeof header === 'string' && method === 'POST' ? header : undefined
    const version = request.headers['stripe-version']
    const isKnown = request.headers.authorization === `Bearer ${apiKey}`
    const reply = replyTo({ operation, id, form, text, key, fault: decide?.(operation), isKnown })
    requests.push({
      operation,
      id,
      form,
      idempotencyKey: key,
      version: typeof version === 'string' ? version : undefined,
      status: typeof reply === 'string' ? 0 : reply.status,
    })
    if (reply === 'cut') request.socket.destroy()
    if (typeof reply === 'string') return
    response.writeHead(reply.status, {
      'content-type': 'application/json',
      'request-id': 'req_fake',
      ...reply.headers,
    })
    response.end(reply.body)
  }

  /** @returns `silence`: no answer; `cut`: the connection is closed */
  const replyTo = ({
    operation,
    id,
    form,
    text,
    key,
    fault,
    isKnown,
  }: {
    readonly operation: string
    readonly id: string
    readonly form: FormObject
    readonly text: string
    readonly key: string | undefined
    readonly fault: Fault | undefined
    readonly isKnown: boolean
  }): Reply | 'silence' | 'cut' => {
    if (fault === 'outage') return 'cut'
    if (fault === 'timeout_before') return 'silence'
    if (fault === 'rate_limit') return RATE_LIMITED
    if (fault === 'conflict') {
      return errorReply(409, IDEMPOTENCY, 'There is another in-progress request with this key.')
    }
    if (fault === 'unauthorized' || !isKnown) {
      return errorReply(401, 'invalid_request_error', 'Invalid API Key provided')
    }
    const content = `${operation} ${id} ${text}`
    const kept = key === undefined ? undefined : keys.get(key)
    if (kept !== undefined && kept.request !== content) {
      return errorReply(
        400,
        IDEMPOTENCY,
        'Keys can only be used with the same parameters they were first used with.',
      )
    }
    if (kept !== undefined) return { ...kept.reply, headers: { 'idempotent-replayed': 'true' } }

    const { isKept, ...done } = perform(objects, operation, id, form, fault === 'error')
    const reply = fault === 'error' || fault === 'error_after_commit' ? SERVER_ERROR : done
    // Requests that fail validation keep no result; all that were begun do, failures too.
    if (key !== undefined && isKept) keys.set(key, { request: content, reply })
    return fault === 'timeout_after_commit' ? 'silence' : reply
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the fake Stripe has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    objects,
    requests,
    fail(next) {
      decide = next
    },
    forgetKeys() {
      keys.clear()
      objects.forgetIdentifiers()
    },
    delivery(event, secret, timestampMs = now().getTime()) {
      const body = JSON.stringify(event)
      const timestamp = Math.floor(timestampMs / 1000)
      const signature = new Stripe('sk_test_unused').webhooks.generateTestHeaderString({
        payload: body,
        secret,
        timestamp,
      })
      return { body, headers: { 'stripe-signature': signature, 'content-type': 'application/json' } }
    },
    async stop() {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

const IDEMPOTENCY = 'idempotency_error'
const SERVER_ERROR = errorReply(500, 'api_error', 'An unknown error occurred')
const RATE_LIMITED = {
  ...errorReply(429, 'invalid_request_error', 'Too many requests'),
  headers: { 'retry-after': '1' },
}

function errorReply(status: number, type: string, message: string): Reply {
  return { status, body: JSON.stringify({ error: { type, message } }) }
}

function operationOf(method: string, path: string): { readonly operation: string; readonly id: string } {
  for (const operation of OPERATIONS) {
    const [verb, pattern = ''] = operation.split(' ')
    const id = verb === method ? new RegExp(`^${pattern.replace(':id', '([^/]+)')}$`).exec(path) : null
    if (id !== null) return { operation, id: id[1] ?? '' }
  }
  return { operation: `${method} ${path}`, id: '' }
}

interface Performed {
  readonly status: number
  readonly body: string
  readonly isKept: boolean
}

function perform(
  objects: StripeObjects,
  operation: string,
  id: string,
  form: FormObject,
  isDry: boolean,
): Performed {
  try {
    if (!OPERATIONS.includes(operation)) {
      throw new StripeFailure(404, { message: `Unrecognized request URL (${operation}).` })
    }
    const values = checkParameters(operation, form)
    try {
      const result = isDry ? {} : resultOf(objects, operation, id, values)
      return { status: 200, body: JSON.stringify(result), isKept: true }
    } catch (error) {
      return failed(error, true)
    }
  } catch (error) {
    return failed(error, false)
  }
}

function failed(error: unknown, isKept: boolean): Performed {
  if (!(error instanceof StripeFailure)) throw error
  return { status: error.status, body: JSON.stringify(error.body), isKept }
}

function resultOf(objects: StripeObjects, operation: string, id: string, values: Values): unknown {
  switch (operation) {
    case 'POST /v1/invoices':
      return objects.createInvoice(values)
    case 'GET /v1/invoices':
      return listOf(objects.invoices, values, ['customer', 'status', 'collection_method'])
    case 'GET /v1/invoices/:id':
      return objects.invoice(id)
    case 'POST /v1/invoices/:id':
      return objects.updateInvoice(id, values)
    case 'DELETE /v1/invoices/:id':
      return objects.deleteInvoice(id)
    case 'GET /v1/invoices/:id/lines':
      return pageOf(objects.linesOf(id), values)
    case 'POST /v1/invoices/:id/finalize':
      return objects.finalize(id)
    case 'POST /v1/invoices/:id/send':
      return objects.send(id)
    case 'POST /v1/invoices/:id/pay':
      return objects.pay(id)
    case 'POST /v1/invoices/:id/void':
      return objects.voidInvoice(id)
    case 'POST /v1/invoiceitems':
      return objects.createInvoiceItem(values)
    case 'GET /v1/invoiceitems':
      return listOf(objects.invoiceItems, values, ['customer', 'invoice'])
    case 'POST /v1/credit_notes':
      return objects.createCreditNote(values)
    case 'GET /v1/credit_notes':
      return listOf(objects.creditNotes, values, ['customer', 'invoice'])
    case 'GET /v1/credit_notes/:id':
      return found(objects.creditNotes, 'credit note', id)
    case 'POST /v1/credit_notes/:id/void':
      return objects.voidCreditNote(id)
    case 'POST /v1/customers':
      return objects.createCustomer(values)
    case 'GET /v1/customers/:id':
      return found(objects.customers, 'customer', id)
    case 'DELETE /v1/customers/:id':
      return objects.deleteCustomer(id)
    case 'POST /v1/billing/meters':
      return objects.createMeter(values)
    case 'GET /v1/billing/meters':
      return listOf(objects.meters, values, ['status'])
    case 'GET /v1/billing/meters/:id/event_summaries':
      return objects.meterEventSummaries(id, values)
    case 'POST /v1/billing/meter_events':
      return objects.createMeterEvent(values)
    case 'POST /v1/billing/meter_event_adjustments':
      return objects.cancelMeterEvent(values)
    case 'GET /v1/events':
      return pageOf(objects.events.toReversed(), values)
    case 'POST /v1/payouts':
      return objects.createMovement('payout', values)
    case 'GET /v1/payouts':
      return listOf(objects.payouts, values, ['status'])
    case 'GET /v1/payouts/:id':
      return found(objects.payouts, 'payout', id)
    case 'POST /v1/transfers':
      return objects.createMovement('transfer', values)
    default:
      return found(objects.transfers, 'transfer', id)
  }
}

function found(map: ReadonlyMap<string, StripeObject>, what: string, id: string): StripeObject {
  const object = map.get(id)
  if (object === undefined) throw missing(what, id)
  return object
}

/** Newest first, as Stripe lists. */
function listOf(map: ReadonlyMap<string, StripeObject>, values: Values, filters: readonly string[]): unknown {
  const { created } = values
  const range = typeof created === 'object' && !Array.isArray(created) ? Object.entries(created) : []
  const isIn = (object: StripeObject): boolean =>
    range.every(([bound, value]) => {
      const at = Number(object['created'])
      const limit = Number(value)
      if (bound === 'gt') return at > limit
      if (bound === 'gte') return at >= limit
      return bound === 'lt' ? at < limit : at <= limit
    })
  const all = [...map.values()].filter(
    (object) =>
      isIn(object) && filters.every((name) => values[name] === undefined || object[name] === values[name]),
  )
  return pageOf(all.toReversed(), values)
}

function pageOf(all: readonly StripeObject[], values: Values): unknown {
  const limit = typeof values['limit'] === 'number' ? values['limit'] : 10
  if (limit < 1 || limit > 100) throw new StripeFailure(400, { message: 'Invalid limit', param: 'limit' })
  const after = values['starting_after']
  const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1
  const data = all.slice(from, from + limit)
  return { object: 'list', url: '/v1/list', has_more: from + limit < all.length, data }
}
