import { type FakeAnswer, type FakeRequest, type FaultyServer, startFaultyServer } from './faulty-server.ts'

/**
 * Chargebee as its API reference tells (apidocs.chargebee.com, API v2): form-encoded parameters, basic authentication, idempotency keys
 * whose answers are replayed, limits of parameters, errors with `api_error_code`.
 */

export interface FakeInvoice {
  readonly id: string
  readonly customer_id: string
  readonly po_number: string
  readonly currency_code: string
  readonly date: number
  readonly total: number
  readonly line_items: readonly { readonly description: string; readonly amount: number }[]
  amount_due: number
  status: 'payment_due' | 'paid' | 'voided'
}

export interface FakeCreditNote {
  readonly id: string
  readonly reference_invoice_id: string
  readonly type: string
  readonly total: number
  readonly customer_notes: string
}

export interface FakeChargebee extends FaultyServer {
  readonly invoices: readonly FakeInvoice[]
  readonly creditNotes: readonly FakeCreditNote[]
  /** Keys are forgotten after a while. */
  forgetKeys(): void
}

export const CHARGEBEE_KEY = 'test_key_of_chargebee'
export const CHARGEBEE_CUSTOMER = 'cb_acme'

export async function startFakeChargebee(now: () => Date): Promise<FakeChargebee> {
  const invoices: FakeInvoice[] = []
  const creditNotes: FakeCreditNote[] = []
  const keys = new Map<string, { readonly params: string; readonly answer: FakeAnswer }>()

  const server = await startFaultyServer((request) => {
    const expected = `Basic ${Buffer.from(`${CHARGEBEE_KEY}:`).toString('base64')}`
    if (request.headers.authorization !== expected) {
      return failure(401, 'api_authentication_failed', 'Sorry, authentication failed. Invalid api key.')
    }
    if (request.method === 'GET') return route(request)
    const key = request.headers['chargebee-idempotency-key']
    if (typeof key !== 'string') return route(request)
    if (key.length > 100) return failure(400, 'invalid_request', 'the idempotency key is too long')
    const known = keys.get(key)
    if (known === undefined) {
      const answer = route(request)
      keys.set(key, { params: request.body, answer })
      return answer
    }
    if (known.params !== request.body) {
      return failure(400, 'invalid_request', 'the idempotency key was used with other parameters')
    }
    return { ...known.answer, headers: { 'chargebee-idempotency-replayed': 'true' } }
  })

  function route({ method, url, body }: FakeRequest): FakeAnswer {
    const params = new URLSearchParams(body)
    const path = url.pathname.replace('/api/v2', '')
    if (method === 'POST' && path === '/invoices/create_for_charge_items_and_charges')
      return createInvoice(params)
    if (method === 'GET' && path === '/invoices') return listInvoices(url.searchParams)
    if (method === 'GET' && path === '/credit_notes') {
      const of = url.searchParams.get('reference_invoice_id[is]')
      const list = creditNotes.filter((note) => note.reference_invoice_id === of)
      return { status: 200, body: { list: list.map((credit_note) => ({ credit_note })) } }
    }
    if (method === 'POST' && path === '/credit_notes') return createCreditNote(params)
    const [, id, action] = /^\/invoices\/([^/]+)(?:\/(\w+))?$/.exec(path) ?? []
    const invoice = invoices.find((one) => one.id === id)
    if (invoice === undefined) return failure(404, 'resource_not_found', `${path} not found`)
    if (method === 'GET' && action === undefined) return { status: 200, body: { invoice } }
    if (method === 'POST' && action === 'void') {
      if (invoice.status === 'voided') {
        return failure(409, 'invalid_state_for_request', 'The invoice is voided already')
      }
      invoice.status = 'voided'
      return { status: 200, body: { invoice } }
    }
    return failure(404, 'resource_not_found', `${method} ${path} not found`)
  }

  function createInvoice(params: URLSearchParams): FakeAnswer {
    if (params.get('customer_id') !== CHARGEBEE_CUSTOMER) {
      return failure(404, 'resource_not_found', 'customer not found', 'customer_id')
    }
    const lines: { description: string; amount: number }[] = []
    for (let index = 0; params.has(`charges[amount][${index}]`); index++) {
      const amount = params.get(`charges[amount][${index}]`) ?? ''
      const description = params.get(`charges[description][${index}]`) ?? ''
      const from = Number(params.get(`charges[date_from][${index}]`))
      const to = Number(params.get(`charges[date_to][${index}]`))
      if (!/^[1-9]\d*$/.test(amount)) {
        return failure(400, 'param_wrong_value', 'must be at least 1', `charges[amount][${index}]`)
      }
      if (description === '' || description.length > 250) {
        return failure(400, 'param_wrong_value', 'too long or missing', `charges[description][${index}]`)
      }
      if (!(from > 0 && from <= to))
        return failure(400, 'param_wrong_value', 'is before date_from', 'date_to')
      lines.push({ description, amount: Number(amount) })
    }
    if (lines.length === 0) return failure(400, 'invalid_request', 'no charges')
    const sum = lines.reduce((total, { amount }) => total + amount, 0)
    const discount = Number(params.get('discounts[amount][0]') ?? '0')
    if (discount > 0 && params.get('discounts[apply_on][0]') !== 'invoice_amount') {
      return failure(400, 'param_wrong_value', 'is missing', 'discounts[apply_on][0]')
    }
    if (discount > sum) return failure(400, 'invalid_request', 'the discount is more than the invoice')
    const invoice: FakeInvoice = {
      id: `cb_${invoices.length + 1}`,
      customer_id: CHARGEBEE_CUSTOMER,
      po_number: params.get('po_number') ?? '',
      currency_code: params.get('currency_code') ?? '',
      date: Math.floor(now().getTime() / 1000),
      total: sum - discount,
      line_items: lines,
      amount_due: sum - discount,
      status: 'payment_due',
    }
    invoices.push(invoice)
    return { status: 200, body: { invoice } }
  }

  function listInvoices(query: URLSearchParams): FakeAnswer {
    const after = Number(query.get('date[after]') ?? '0')
    const limit = Number(query.get('limit') ?? '10')
    const offset = Number(query.get('offset') ?? '0')
    const found = invoices.filter(
      (one) => one.customer_id === query.get('customer_id[is]') && one.date > after,
    )
    const page = found.slice(offset, offset + limit).map((invoice) => ({ invoice }))
    const rest = found.length > offset + limit ? { next_offset: String(offset + limit) } : {}
    return { status: 200, body: { list: page, ...rest } }
  }

  function createCreditNote(params: URLSearchParams): FakeAnswer {
    const invoice = invoices.find(({ id }) => id === params.get('reference_invoice_id'))
    if (invoice === undefined) return failure(404, 'resource_not_found', 'invoice not found')
    const type = params.get('type') ?? ''
    const total = Number(params.get('total'))
    if (type === 'adjustment' && total > invoice.amount_due) {
      return failure(400, 'invalid_state_for_request', 'the adjustment is more than what is due')
    }
    if (type === 'refundable' && invoice.status !== 'paid') {
      return failure(400, 'invalid_state_for_request', 'nothing was paid')
    }
    if (type === 'adjustment') invoice.amount_due -= total
    const note: FakeCreditNote = {
      id: `cn_${creditNotes.length + 1}`,
      reference_invoice_id: invoice.id,
      type,
      total,
      customer_notes: params.get('customer_notes') ?? '',
    }
    creditNotes.push(note)
    return { status: 200, body: { credit_note: note, invoice } }
  }

  return { ...server, invoices, creditNotes, forgetKeys: () => keys.clear() }
}

function failure(status: number, code: string, message: string, param?: string): FakeAnswer {
  const type = status === 400 || status === 404 || status === 409 ? 'invalid_request' : undefined
  return {
    status,
    body: {
      message,
      ...(type === undefined ? {} : { type }),
      api_error_code: code,
      ...(param === undefined ? {} : { param }),
      error_code: code,
      error_msg: message,
      http_status_code: status,
    },
  }
}
