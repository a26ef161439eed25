import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type GuardOptions, guardedRequest } from '../../http/guarded-request.ts'
import { clientAssertion } from './client-assertion.ts'

/** Access tokens of NetSuite, kept in memory until they end. */

const TOKEN_PATH = '/services/rest/auth/oauth2/v1/token'
/** Twice this and twice a call are within `PERFORM_MAX_MS`. */
const TOKEN_TIMEOUT_MS = 8_000
/** A token is not used in its last minute. */
const SPARE_MS = 60_000

const tokenSchema = z.object({ access_token: z.string().min(1), expires_in: z.coerce.number().positive() })

/** NetSuite knows no such client, or not its key. */
export class NotAllowed extends Error {
  override readonly name = 'NotAllowed'
}

export interface NetsuiteClient {
  readonly baseUrl: string
  readonly clientId: string
  readonly certificateId: string
  readonly privateKey: string
  readonly at: Date
}

export class NetsuiteTokens {
  readonly #guard: GuardOptions
  readonly #tokens = new Map<string, { readonly token: string; readonly expiresMs: number }>()

  constructor(guard: GuardOptions) {
    this.#guard = guard
  }

  /** Forgets a token that was refused. */
  forget(client: NetsuiteClient): void {
    this.#tokens.delete(keyOf(client))
  }

  /** @throws NotAllowed; UnusableKey; Error when there is no answer */
  async get(client: NetsuiteClient): Promise<string> {
    const { baseUrl, at, ...credentials } = client
    const known = this.#tokens.get(keyOf(client))
    if (known !== undefined && known.expiresMs - SPARE_MS > at.getTime()) return known.token
    const tokenUrl = new URL(TOKEN_PATH, baseUrl).href
    const { status, text } = await guardedRequest(
      {
        url: tokenUrl,
        headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
        body: new URLSearchParams({
          grant_type: 'client_credentials',
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: clientAssertion({ ...credentials, tokenUrl, at }),
        }).toString(),
        timeoutMs: TOKEN_TIMEOUT_MS,
      },
      this.#guard,
    )
    if (status === 400 || status === 401) {
      throw new NotAllowed(
        `NetSuite gives no access token (${status}): check client_id, certificate_id and private_key.`,
      )
    }
    if (status !== 200) throw new Error(`NetSuite's token service answered ${status}`)
    const answer = tokenSchema.parse(JSON.parse(text))
    this.#tokens.set(keyOf(client), {
      token: answer.access_token,
      expiresMs: at.getTime() + answer.expires_in * 1000,
    })
    return answer.access_token
  }
}

/** Secrets are not kept as keys. */
function keyOf({ baseUrl, clientId, certificateId, privateKey }: NetsuiteClient): string {
  return createHash('sha256')
    .update(JSON.stringify([baseUrl, clientId, certificateId, privateKey]))
    .digest('base64')
}
