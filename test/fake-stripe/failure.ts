/** An answer that Stripe gives instead of doing something; `type` and `code` as in its reference of errors. */
export class StripeFailure extends Error {
  readonly status: number
  readonly body: { readonly error: Readonly<Record<string, string>> }
  readonly headers: Readonly<Record<string, string>>

  constructor(
    status: number,
    error: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(error['message'] ?? error['type'])
    this.status = status
    this.body = { error: { type: 'invalid_request_error', ...error } }
    this.headers = headers
  }
}

/** A parameter that is not right. */
export function invalid(param: string, message: string, code = 'parameter_invalid'): StripeFailure {
  return new StripeFailure(400, { message, param, code })
}

/** Something that is not there. */
export function missing(what: string, id: string, param = 'id'): StripeFailure {
  return new StripeFailure(param === 'id' ? 404 : 400, {
    code: 'resource_missing',
    message: `No such ${what}: '${id}'`,
    param,
  })
}
