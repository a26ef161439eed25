import { createHash } from 'node:crypto'
import { z } from 'zod'
import { type GuardOptions, guardedRequest } from '../../http/guarded-request.ts'
import { jsonOf } from '../json-text.ts'

/**
 * Access tokens of QuickBooks Online by the OAuth 2.0 refresh token flow. Intuit hands out a new refresh token now and then, and the
 * old one ends: the new one is stored before the access token is used.
 */

const TOKEN_URL = 'https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer'
const CALL_TIMEOUT_MS = 8_000
/** A token is not used in its last minute. */
const SPARE_MS = 60_000

/** The company must be connected anew, or the app's credentials are wrong. */
export class NotConnected extends Error {
  override readonly name = 'NotConnected'
}

export interface TokenRequest {
  readonly tokenUrl: string | undefined
  readonly clientId: string
  readonly clientSecret: string
  readonly refreshToken: string
  readonly at: Date
  /** Called when the refresh token is another one from now on. */
  keepRefreshToken(refreshToken: string): Promise<void>
}

const answerSchema = z.object({
  access_token: z.string().min(1),
  refresh_token: z.string().min(1),
  expires_in: z.number().positive(),
})
const errorSchema = z.object({ error: z.string() })

export class AccessTokens {
  readonly #guard: GuardOptions
  /** By what they were made from; a process has few. */
  readonly #tokens = new Map<string, { readonly token: string; readonly expiresMs: number }>()
  readonly #underway = new Map<string, Promise<string>>()

  constructor(guard: GuardOptions) {
    this.#guard = guard
  }

  /** @throws NotConnected; Error when there is no answer */
  async get(request: TokenRequest): Promise<string> {
    const key = keyOf(request)
    const known = this.#tokens.get(key)
    if (known !== undefined && known.expiresMs - SPARE_MS > request.at.getTime()) return known.token
    // Steps that are done at once ask once.
    const underway = this.#underway.get(key)
    if (underway !== undefined) return underway
    const refresh = this.#refresh(request).finally(() => this.#underway.delete(key))
    this.#underway.set(key, refresh)
    return refresh
  }

  /** Forgets a token that was refused. */
  forget(request: TokenRequest): void {
    this.#tokens.delete(keyOf(request))
  }

  async #refresh(request: TokenRequest): Promise<string> {
    const { tokenUrl, clientId, clientSecret, refreshToken, at } = request
    const { status, text } = await guardedRequest(
      {
        url: tokenUrl ?? TOKEN_URL,
        headers: {
          authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`,
          accept: 'application/json',
          'content-type': 'application/x-www-form-urlencoded',
        },
        body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken }).toString(),
        timeoutMs: CALL_TIMEOUT_MS,
      },
      this.#guard,
    )
    const json = jsonOf(text)
    if (status === 400 || status === 401) {
      const said = errorSchema.safeParse(json).data?.error ?? `status ${status}`
      throw new NotConnected(`QuickBooks gives no access token (${said}): connect the company anew.`)
    }
    if (status !== 200) throw new Error(`Intuit's token service answered ${status}`)
    const answer = answerSchema.parse(json)
    if (answer.refresh_token !== refreshToken) await request.keepRefreshToken(answer.refresh_token)
    const token = { token: answer.access_token, expiresMs: at.getTime() + answer.expires_in * 1000 }
    // Steps that were claimed before still come with the old one.
    this.#tokens.set(keyOf(request), token)
    this.#tokens.set(keyOf({ ...request, refreshToken: answer.refresh_token }), token)
    return answer.access_token
  }
}

/** Secrets are not kept as keys. */
function keyOf({ clientId, clientSecret, refreshToken, tokenUrl }: TokenRequest): string {
  return createHash('sha256')
    .update(JSON.stringify([clientId, clientSecret, refreshToken, tokenUrl ?? '']))
    .digest('base64')
}
