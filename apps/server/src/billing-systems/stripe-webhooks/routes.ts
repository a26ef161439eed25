import type { Pool } from 'pg'
import Stripe from 'stripe'
import { ZodError, z } from 'zod'
import { inTransaction } from '../../database/transaction.ts'
import type { App } from '../../http/app.ts'
import { Problem } from '../../http/problem.ts'
import type { Logger } from '../../telemetry/log.ts'
import { receiveStripeEvent } from './apply-event.ts'
import { type WebhookSecrets, webhookSecrets } from './secrets.ts'
import { readStripeEvent, type StripeEvent } from './stripe-event.ts'

export interface StripeWebhookDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly secretKey: Buffer
  readonly logger: Logger
  readonly newCreditNoteId: () => string
  /** An invoice was voided at Stripe or a credit note issued: the other systems are to be told. */
  readonly onApplied: () => void
}

/** How old a signature may be: Stripe signs each attempt anew. */
const TOLERANCE_S = 300
/** Stripe's events are some KiB; beyond this it is none. */
const BODY_MAX_BYTES = 512 * 1024

/**
 * Registers Stripe's webhooks. No API key: the signature says who it is. It is checked over the bytes that came,
 * before they are read as anything.
 */
export function registerStripeWebhookRoutes(app: App, dependencies: StripeWebhookDependencies): void {
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      '*',
      { parseAs: 'buffer', bodyLimit: BODY_MAX_BYTES },
      (_request, body, done) => done(null, body),
    )
    // Not in the OpenAPI document: its callers follow Stripe's.
    const schema = { hide: true }
    const answer = async (request: {
      readonly headers: Readonly<Record<string, string | string[] | undefined>>
      readonly body: unknown
      readonly params: unknown
    }) => {
      const path = params.safeParse(request.params)
      if (!path.success) throw new Problem({ code: 'not-found', detail: 'There is no such organization.' })
      const organizationId = path.data.organization_id
      const { header, body } = signedBody(request)
      const candidates = await webhookSecrets(dependencies.pool, dependencies.secretKey, organizationId)
      const verified = verify(candidates, { header, body, receivedAtMs: dependencies.now().getTime() })
      return receive(dependencies, verified)
    }
    scope.post('/webhooks/stripe', { schema }, answer)
    scope.post('/webhooks/stripe/:organization_id', { schema }, answer)
  })
}

const params = z.object({ organization_id: z.guid('must be a UUID').optional() })

interface Verified {
  readonly organizationId: string
  readonly json: unknown
}

async function receive(
  { pool, now, logger, newCreditNoteId, onApplied }: StripeWebhookDependencies,
  { organizationId, json }: Verified,
): Promise<{ readonly received: true; readonly outcome: string }> {
  const event = readEvent(json)
  const outcome = await inTransaction(pool, (client) =>
    receiveStripeEvent(client, { organizationId, newCreditNoteId }, event, now()),
  )
  if (outcome === 'applied' || outcome === 'capped') onApplied()
  if (outcome === 'capped' || outcome === 'refused') {
    logger.warn({ organizationId, event: event.id, type: event.type, outcome }, 'a Stripe event needs a look')
  }
  return { received: true, outcome: outcome ?? 'repeated' }
}

function readEvent(json: unknown): StripeEvent {
  try {
    return readStripeEvent(json)
  } catch (cause) {
    if (!(cause instanceof ZodError)) throw cause
    throw new Problem({
      code: 'invalid-request',
      detail: 'This is no event of Stripe that can be read.',
      errors: cause.issues.slice(0, 20).map(({ path, message }) => ({ path: path.join('.'), message })),
      cause,
    })
  }
}

function signedBody(request: {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: unknown
}): { readonly header: string; readonly body: Buffer } {
  const header = request.headers['stripe-signature']
  if (typeof header !== 'string' || header === '') {
    throw badSignature('The header Stripe-Signature is missing.')
  }
  if (!Buffer.isBuffer(request.body)) throw badSignature('There is no body.')
  return { header, body: request.body }
}

/** The organization whose secret verifies. @throws Problem `invalid-request` when none does */
function verify(
  candidates: readonly WebhookSecrets[],
  signed: { readonly header: string; readonly body: Buffer; readonly receivedAtMs: number },
): Verified {
  let isOld = false
  for (const { organizationId, secrets } of candidates) {
    for (const secret of secrets) {
      try {
        const { header, body, receivedAtMs } = signed
        const json: unknown = Stripe.webhooks.constructEvent(
          body,
          header,
          secret,
          TOLERANCE_S,
          undefined,
          receivedAtMs,
        )
        return { organizationId, json }
      } catch (error) {
        if (!(error instanceof Stripe.errors.StripeSignatureVerificationError)) {
          throw new Problem({
            code: 'invalid-request',
            detail: 'This is no event of Stripe that can be read.',
            cause: error,
          })
        }
        // Stripe's library compares the signature first, then the time.
        if (error.message.startsWith('Timestamp outside the tolerance zone')) isOld = true
      }
    }
  }
  throw badSignature(
    candidates.length === 0
      ? 'No webhook secret is set up here: it is a secret of the billing system stripe.'
      : isOld
        ? `The signature is more than ${TOLERANCE_S} seconds old.`
        : 'The signature does not fit the body and any webhook secret.',
  )
}

function badSignature(detail: string): Problem {
  return new Problem({ code: 'invalid-request', title: 'The webhook is not verified', detail })
}
