import type { RecognizedCall } from '@tokentally/providers'
import type { Enforcer } from './enforcer.ts'
import { refuseFetch } from './refused-response.ts'

/** A request as `fetch` was given it. */
export interface FetchRequest {
  readonly init: RequestInit | undefined
  readonly header: (name: string) => string | null
  /** Its text, if it can be read without taking it from the application. */
  readonly bodyText: () => string | undefined | Promise<string>
  /** The headers that another body goes out with. */
  readonly headers: () => Headers
}

/**
 * Lets a call of `fetch` go, refuses it, or sends it for a cheaper model.
 *
 * @param send does what would be done without limits
 */
export function enforcedFetch(
  enforcer: Enforcer,
  call: RecognizedCall,
  request: FetchRequest,
  send: (init: RequestInit | undefined) => Promise<Response>,
): Promise<Response> {
  const { init } = request
  const decide = (bodyText: string | undefined, isReplaceable: boolean): Promise<Response> => {
    const verdict = enforcer.judge(call, bodyText, isReplaceable)
    switch (verdict.kind) {
      case 'go':
        return send(init)
      case 'refused':
        return refuseFetch(verdict.error, request.header)
      case 'downgraded': {
        const headers = request.headers()
        headers.delete('content-length')
        return verdict.run(() => send({ ...init, headers, body: verdict.body }))
      }
    }
  }
  if (!enforcer.needsBody(call)) return decide(undefined, false)
  // A form is made to a body only while it is sent.
  const isReplaceable = !(init?.body instanceof FormData)
  let bodyText: string | undefined | Promise<string>
  try {
    bodyText = request.bodyText()
  } catch {
    return decide(undefined, false)
  }
  if (!(bodyText instanceof Promise)) return decide(bodyText, isReplaceable)
  return bodyText.then(
    (text) => decide(text, isReplaceable),
    () => decide(undefined, false),
  )
}
