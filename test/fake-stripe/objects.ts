import { invalid, missing, StripeFailure } from './failure.ts'
import type { Value, Values } from './validate.ts'

/** What the fake keeps, as Stripe answers it; only what callers here look at. */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }
export interface StripeObject {
  readonly id: string
  readonly object: string
  [key: string]: Json
}

/** An event that came of a change, for webhooks. */
export interface StripeEvent extends StripeObject {
  readonly type: string
  readonly data: { readonly object: StripeObject }
}

/** The most that Stripe lets an invoice have. */
const ITEMS_MAX = 250

/** All objects of one account, oldest first, and what operations do to them. */
export class StripeObjects {
  readonly invoices = new Map<string, StripeObject>()
  readonly invoiceItems = new Map<string, StripeObject>()
  readonly creditNotes = new Map<string, StripeObject>()
  readonly customers = new Map<string, StripeObject>()
  readonly meters = new Map<string, StripeObject>()
  readonly meterEvents = new Map<string, StripeObject>()
  readonly payouts = new Map<string, StripeObject>()
  readonly transfers = new Map<string, StripeObject>()
  readonly events: StripeEvent[] = []
  readonly #now: () => Date
  readonly #onEvent: (event: StripeEvent) => void
  readonly #identifiers = new Set<string>()
  #lastId = 0

  constructor(now: () => Date, onEvent: (event: StripeEvent) => void) {
    this.#now = now
    this.#onEvent = onEvent
  }

  newId(prefix: string): string {
    this.#lastId += 1
    return `${prefix}_fake${String(this.#lastId).padStart(10, '0')}`
  }

  seconds(): number {
    return Math.floor(this.#now().getTime() / 1000)
  }

  /** Notes that something happened. */
  emit(type: string, object: StripeObject): void {
    const event: StripeEvent = {
      id: this.newId('evt'),
      object: 'event',
      type,
      created: this.seconds(),
      livemode: false,
      data: { object: structuredClone(object) },
    }
    this.events.push(event)
    this.#onEvent(event)
  }

  createCustomer(values: Values, id = this.newId('cus')): StripeObject {
    const customer: StripeObject = {
      id,
      object: 'customer',
      created: this.seconds(),
      name: textOf(values['name']),
      email: textOf(values['email']),
      metadata: mapOf(values['metadata']),
    }
    this.customers.set(id, customer)
    return customer
  }

  deleteCustomer(id: string): StripeObject {
    const customer = this.customers.get(id)
    if (customer === undefined || customer['deleted'] === true) throw missing('customer', id)
    const deleted: StripeObject = { id, object: 'customer', deleted: true }
    this.customers.set(id, deleted)
    return deleted
  }

  #customerOf(values: Values): string {
    const id = textOf(values['customer'])
    if (id === null) throw invalid('customer', 'You must specify a customer.', 'parameter_missing')
    const customer = this.customers.get(id)
    if (customer === undefined || customer['deleted'] === true) throw missing('customer', id, 'customer')
    return id
  }

  createInvoice(values: Values): StripeObject {
    const customer = this.#customerOf(values)
    const collection = textOf(values['collection_method']) ?? 'charge_automatically'
    const days = values['days_until_due']
    if (collection === 'charge_automatically' && days !== undefined) {
      throw invalid(
        'days_until_due',
        'You can only specify days_until_due with collection_method=send_invoice.',
      )
    }
    if (collection === 'send_invoice' && days === undefined && values['due_date'] === undefined) {
      throw invalid('days_until_due', 'You must specify days_until_due or due_date.', 'parameter_missing')
    }
    const invoice: StripeObject = {
      id: this.newId('in'),
      object: 'invoice',
      created: this.seconds(),
      customer,
      status: 'draft',
      currency: textOf(values['currency']) ?? 'usd',
      collection_method: collection,
      auto_advance: values['auto_advance'] === true,
      description: textOf(values['description']),
      custom_fields: jsonOf(values['custom_fields'] ?? []),
      automatic_tax: jsonOf(values['automatic_tax'] ?? { enabled: false }),
      metadata: mapOf(values['metadata']),
      days_until_due: typeof days === 'number' ? days : null,
      number: textOf(values['number']),
      due_date: null,
      hosted_invoice_url: null,
      attempted: false,
      ...ZERO_TOTALS,
    }
    this.invoices.set(invoice.id, invoice)
    this.emit('invoice.created', invoice)
    return invoice
  }

  invoice(id: string, param = 'id'): StripeObject {
    const invoice = this.invoices.get(id)
    if (invoice === undefined) throw missing('invoice', id, param)
    return invoice
  }

  updateInvoice(id: string, values: Values): StripeObject {
    const invoice = this.invoice(id)
    if (values['metadata'] !== undefined) {
      invoice['metadata'] = { ...mapOf(invoice['metadata']), ...mapOf(values['metadata']) }
    }
    if (values['description'] !== undefined) invoice['description'] = textOf(values['description'])
    return invoice
  }

  deleteInvoice(id: string): StripeObject {
    if (this.invoice(id)['status'] !== 'draft') throw notAllowed('You can only delete draft invoices.')
    this.invoices.delete(id)
    for (const item of this.itemsOf(id)) this.invoiceItems.delete(item.id)
    return { id, object: 'invoice', deleted: true }
  }

  createInvoiceItem(values: Values): StripeObject {
    const customer = this.#customerOf(values)
    const invoiceId = textOf(values['invoice'])
    const amount = values['amount']
    if (typeof amount !== 'number')
      throw invalid('amount', 'You must specify an amount.', 'parameter_missing')
    if (invoiceId !== null) {
      const invoice = this.invoice(invoiceId, 'invoice')
      if (invoice['status'] !== 'draft') {
        throw notAllowed(`The invoice ${invoiceId} is no longer editable.`)
      }
      if (invoice['customer'] !== customer) throw invalid('customer', 'The invoice is of another customer.')
      if (invoice['currency'] !== values['currency']) {
        throw invalid('currency', 'The currency must be that of the invoice.')
      }
      if (this.itemsOf(invoiceId).length >= ITEMS_MAX) {
        throw notAllowed(`An invoice can have at most ${ITEMS_MAX} items.`)
      }
    }
    const item: StripeObject = {
      id: this.newId('ii'),
      object: 'invoiceitem',
      date: this.seconds(),
      customer,
      invoice: invoiceId,
      amount,
      currency: textOf(values['currency']),
      description: textOf(values['description']),
      discountable: values['discountable'] !== false,
      metadata: mapOf(values['metadata']),
      period: jsonOf(values['period'] ?? { start: this.seconds(), end: this.seconds() }),
    }
    this.invoiceItems.set(item.id, item)
    if (invoiceId !== null) this.#computeTotals(invoiceId)
    return item
  }

  /** Items of an invoice, in the order in which they were made. */
  itemsOf(invoiceId: string): readonly StripeObject[] {
    return [...this.invoiceItems.values()].filter((item) => item['invoice'] === invoiceId)
  }

  linesOf(invoiceId: string): readonly StripeObject[] {
    this.invoice(invoiceId)
    return this.itemsOf(invoiceId).map((item) => ({
      id: item.id.replace(/^ii_/, 'il_'),
      object: 'line_item',
      amount: item['amount'] ?? null,
      currency: item['currency'] ?? null,
      description: item['description'] ?? null,
      invoice: invoiceId,
      metadata: item['metadata'] ?? {},
      period: item['period'] ?? null,
      parent: { type: 'invoice_item_details', invoice_item_details: { invoice_item: item.id } },
    }))
  }

  #computeTotals(invoiceId: string): void {
    const invoice = this.invoice(invoiceId)
    const total = this.itemsOf(invoiceId).reduce((sum, item) => sum + numberOf(item['amount']), 0)
    invoice['subtotal'] = total
    invoice['subtotal_excluding_tax'] = total
    invoice['total'] = total
    invoice['total_excluding_tax'] = total
    invoice['amount_due'] = Math.max(0, total)
    invoice['amount_remaining'] = Math.max(0, total)
  }

  finalize(id: string): StripeObject {
    const invoice = this.invoice(id)
    if (invoice['status'] !== 'draft') {
      throw notAllowed("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    }
    invoice['status'] = 'open'
    invoice['number'] = invoice['number'] ?? `FAKE-${id.slice(-4)}`
    invoice['hosted_invoice_url'] = `https://invoice.stripe.com/i/${id}`
    invoice['due_date'] = this.seconds() + 86_400 * numberOf(invoice['days_until_due'])
    this.emit('invoice.finalized', invoice)
    // What costs nothing is paid at once.
    if (invoice['amount_due'] === 0) this.#settle(invoice, 'paid', 'invoice.paid')
    return invoice
  }

  send(id: string): StripeObject {
    const invoice = this.invoice(id)
    if (invoice['collection_method'] !== 'send_invoice') {
      throw notAllowed('You can only manually send an invoice whose collection method is `send_invoice`.')
    }
    if (invoice['status'] === 'draft') this.finalize(id)
    if (invoice['status'] !== 'open') throw notAllowed('You can only send open invoices.')
    this.emit('invoice.sent', invoice)
    return invoice
  }

  pay(id: string): StripeObject {
    const invoice = this.invoice(id)
    if (invoice['status'] === 'paid') throw notAllowed('Invoice is already paid', 'invoice_already_paid')
    if (invoice['status'] !== 'open') throw notAllowed('You can only pay open invoices.')
    invoice['amount_paid'] = invoice['amount_remaining'] ?? 0
    this.#settle(invoice, 'paid', 'invoice.paid')
    return invoice
  }

  /** A payment that is tried and fails. */
  failPayment(id: string): StripeObject {
    const invoice = this.invoice(id)
    invoice['attempted'] = true
    this.emit('invoice.payment_failed', invoice)
    return invoice
  }

  voidInvoice(id: string): StripeObject {
    const invoice = this.invoice(id)
    if (invoice['status'] !== 'open' && invoice['status'] !== 'uncollectible') {
      throw notAllowed('You can only void open or uncollectible invoices.')
    }
    this.#settle(invoice, 'void', 'invoice.voided')
    return invoice
  }

  #settle(invoice: StripeObject, status: string, event: string): void {
    invoice['status'] = status
    invoice['amount_remaining'] = 0
    this.emit(event, invoice)
  }

  createCreditNote(values: Values): StripeObject {
    const id = textOf(values['invoice']) ?? ''
    const invoice = this.invoice(id, 'invoice')
    if (invoice['status'] !== 'open' && invoice['status'] !== 'paid') {
      throw notAllowed('You can only create credit notes for open or paid invoices.')
    }
    const lines = listOf(values['lines']).map((line) => {
      const of = textOf(line['invoice_line_item'])
      const known = this.linesOf(id).find((candidate) => candidate.id === of)
      if (line['type'] === 'invoice_line_item' && known === undefined) {
        throw missing('invoice line item', String(of), 'lines[invoice_line_item]')
      }
      const amount = numberOf(line['amount'] ?? line['unit_amount'] ?? 0)
      return {
        id: this.newId('cnli'),
        object: 'credit_note_line_item',
        type: line['type'] ?? '',
        amount,
        invoice_line_item: of,
      }
    })
    const total =
      lines.length > 0 ? lines.reduce((sum, line) => sum + line.amount, 0) : numberOf(values['amount'] ?? 0)
    const before = [...this.creditNotes.values()]
      .filter((note) => note['invoice'] === id && note['status'] === 'issued')
      .reduce((sum, note) => sum + numberOf(note['total']), 0)
    if (total <= 0) throw invalid('amount', 'The amount of a credit note must be above zero.')
    if (before + total > numberOf(invoice['total'])) {
      throw invalid('amount', 'The sum of credit notes is more than the invoice.')
    }
    if (invoice['status'] === 'paid') {
      const parts = ['credit_amount', 'refund_amount', 'out_of_band_amount'].reduce(
        (sum, name) => sum + numberOf(values[name] ?? 0),
        0,
      )
      if (parts !== total) {
        throw invalid(
          'amount',
          'The sum of credit amount, refund amount and out of band amount must equal the credit note amount.',
        )
      }
    } else invoice['amount_remaining'] = numberOf(invoice['amount_remaining']) - total
    const note: StripeObject = {
      id: this.newId('cn'),
      object: 'credit_note',
      created: this.seconds(),
      invoice: id,
      customer: invoice['customer'] ?? null,
      currency: invoice['currency'] ?? null,
      amount: total,
      total,
      subtotal: total,
      status: 'issued',
      reason: textOf(values['reason']),
      memo: textOf(values['memo']),
      metadata: mapOf(values['metadata']),
      lines: { object: 'list', data: lines, has_more: false, url: '/v1/credit_notes/lines' },
    }
    this.creditNotes.set(note.id, note)
    this.emit('credit_note.created', note)
    if (invoice['status'] === 'open' && numberOf(invoice['amount_remaining']) === 0) {
      this.#settle(invoice, 'paid', 'invoice.paid')
    }
    return note
  }

  voidCreditNote(id: string): StripeObject {
    const note = this.creditNotes.get(id)
    if (note === undefined) throw missing('credit note', id)
    note['status'] = 'void'
    this.emit('credit_note.voided', note)
    return note
  }

  createMeter(values: Values): StripeObject {
    const eventName = textOf(values['event_name'])
    for (const meter of this.meters.values()) {
      if (meter['event_name'] === eventName && meter['status'] === 'active') {
        throw invalid(
          'event_name',
          'An active meter with this event name exists already.',
          'resource_already_exists',
        )
      }
    }
    const meter: StripeObject = {
      id: this.newId('mtr'),
      object: 'billing.meter',
      created: this.seconds(),
      display_name: textOf(values['display_name']),
      event_name: eventName,
      status: 'active',
      default_aggregation: jsonOf(values['default_aggregation'] ?? {}),
      customer_mapping: jsonOf(
        values['customer_mapping'] ?? { event_payload_key: 'stripe_customer_id', type: 'by_id' },
      ),
      value_settings: jsonOf(values['value_settings'] ?? { event_payload_key: 'value' }),
      event_time_window: textOf(values['event_time_window']),
    }
    this.meters.set(meter.id, meter)
    return meter
  }

  createMeterEvent(values: Values): StripeObject {
    const payload = mapOf(values['payload'])
    const identifier = textOf(values['identifier']) ?? this.newId('mtr_evt')
    if (this.#identifiers.has(identifier)) {
      throw invalid(
        'identifier',
        `An event already exists with identifier ${identifier}.`,
        'duplicate_meter_event',
      )
    }
    if (payload['stripe_customer_id'] === undefined) throw invalid('payload', 'Missing stripe_customer_id')
    if (!/^-?\d+$/.test(payload['value'] ?? '')) throw invalid('payload', 'Invalid value')
    const timestamp = numberOf(values['timestamp'] ?? this.seconds())
    if (timestamp < this.seconds() - 35 * 86_400 || timestamp > this.seconds() + 300) {
      throw invalid(
        'timestamp',
        'Must be within the past 35 calendar days or up to 5 minutes in the future.',
        'timestamp_too_far_in_past',
      )
    }
    const event: StripeObject = {
      id: identifier,
      object: 'billing.meter_event',
      created: this.seconds(),
      event_name: textOf(values['event_name']),
      identifier,
      payload,
      timestamp,
      livemode: false,
    }
    this.#identifiers.add(identifier)
    this.meterEvents.set(this.newId('received'), event)
    return event
  }

  /** Sums of a customer's events of a meter, of the whole time that is asked for. */
  meterEventSummaries(id: string, values: Values): unknown {
    const meter = this.meters.get(id)
    if (meter === undefined) throw missing('billing meter', id)
    const start = numberOf(values['start_time'])
    const end = numberOf(values['end_time'])
    if (start % 60 !== 0 || end % 60 !== 0) {
      throw invalid('start_time', 'Must be aligned with minute boundaries.')
    }
    const events = [...this.meterEvents.values()].filter(
      (event) =>
        event['event_name'] === meter['event_name'] &&
        mapOf(event['payload'])['stripe_customer_id'] === values['customer'] &&
        numberOf(event['timestamp']) >= start &&
        numberOf(event['timestamp']) < end,
    )
    const aggregated_value = events.reduce((sum, event) => sum + Number(mapOf(event['payload'])['value']), 0)
    const summary = { id: `mtrusg_${id}_${start}`, object: 'billing.meter_event_summary', meter: id }
    return {
      object: 'list',
      url: `/v1/billing/meters/${id}/event_summaries`,
      has_more: false,
      data: events.length === 0 ? [] : [{ ...summary, aggregated_value, start_time: start, end_time: end }],
    }
  }

  /** What happens when 24 hours have passed. */
  forgetIdentifiers(): void {
    this.#identifiers.clear()
  }

  cancelMeterEvent(values: Values): StripeObject {
    const cancel = values['cancel']
    const identifier = isMap(cancel) ? textOf(cancel['identifier']) : null
    const received = [...this.meterEvents].find(([, event]) => event['identifier'] === identifier)
    if (received === undefined || !this.meterEvents.delete(received[0])) {
      throw invalid('cancel[identifier]', 'No such meter event')
    }
    return {
      id: this.newId('mea'),
      object: 'billing.meter_event_adjustment',
      status: 'pending',
      type: 'cancel',
    }
  }

  /** A payout or transfer, as hosts make them. */
  createMovement(kind: 'payout' | 'transfer', values: Values): StripeObject {
    const movement: StripeObject = {
      id: this.newId(kind === 'payout' ? 'po' : 'tr'),
      object: kind,
      created: this.seconds(),
      amount: numberOf(values['amount']),
      currency: textOf(values['currency']),
      metadata: mapOf(values['metadata']),
      ...(kind === 'payout'
        ? { status: 'pending', arrival_date: this.seconds() + 2 * 86_400, failure_message: null }
        : { destination: textOf(values['destination']) }),
    }
    ;(kind === 'payout' ? this.payouts : this.transfers).set(movement.id, movement)
    this.emit(`${kind}.created`, movement)
    return movement
  }
}

const ZERO_TOTALS = {
  subtotal: 0,
  subtotal_excluding_tax: 0,
  total: 0,
  total_excluding_tax: 0,
  amount_due: 0,
  amount_paid: 0,
  amount_remaining: 0,
}

function notAllowed(message: string, code = 'invoice_not_editable'): StripeFailure {
  return new StripeFailure(400, { message, code })
}

function textOf(value: Value | undefined): string | null {
  return typeof value === 'string' ? value : null
}

function numberOf(value: Json | undefined): number {
  return typeof value === 'number' ? value : 0
}

function isMap(value: Value | Json | undefined): value is { readonly [key: string]: Value } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listOf(value: Value | undefined): readonly Values[] {
  return Array.isArray(value) ? value.filter(isMap) : []
}

function mapOf(value: Value | Json | undefined): Record<string, string> {
  return isMap(value)
    ? Object.fromEntries(
        Object.entries(value).flatMap(([key, text]) => (typeof text === 'string' ? [[key, text]] : [])),
      )
    : {}
}

function jsonOf(value: Value): Json {
  return value
}
