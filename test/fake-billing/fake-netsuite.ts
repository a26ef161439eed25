import { constants, type KeyObject, verify } from 'node:crypto'
import { z } from 'zod'
import { type FakeAnswer, type FakeRequest, type FaultyServer, startFaultyServer } from './faulty-server.ts'

/**
 * NetSuite as docs.oracle.com tells: tokens for a JWT that is signed with PS256, records that are put under an external id. The lines
 * of a repeated put are added to those that are there, unless the sublist is named by `replace`.
 */

const itemSchema = z
  .strictObject({
    account: z.strictObject({ id: z.string().regex(/^\d+$/) }),
    debit: z.number().positive().optional(),
    credit: z.number().positive().optional(),
    memo: z.string().max(999),
    entity: z.strictObject({ id: z.string() }).optional(),
  })
  .refine(({ debit, credit }) => (debit === undefined) !== (credit === undefined), 'one of debit and credit')
const recordSchema = z.strictObject({
  externalId: z.string(),
  tranDate: z.iso.date(),
  memo: z.string().max(999),
  subsidiary: z.strictObject({ id: z.string() }).optional(),
  currency: z.strictObject({ id: z.string() }).optional(),
  exchangeRate: z.number().positive().optional(),
  line: z.strictObject({ items: z.array(itemSchema).min(2) }),
})
export type FakeRecord = z.output<typeof recordSchema>

const headerSchema = z.object({
  typ: z.literal('JWT'),
  alg: z.literal('PS256'),
  kid: z.literal('certificate-1'),
})
const claimsSchema = z.object({
  iss: z.literal('client-of-netsuite'),
  scope: z.string(),
  aud: z.string(),
  iat: z.number(),
  exp: z.number(),
})

export interface FakeNetsuite extends FaultyServer {
  readonly records: ReadonlyMap<string, FakeRecord>
  endAccessTokens(): void
}

/** @param publicKey of the certificate that was uploaded */
export async function startFakeNetsuite(publicKey: KeyObject): Promise<FakeNetsuite> {
  const records = new Map<string, FakeRecord>()
  const tokens = new Set<string>()
  let issued = 0
  const server = await startFaultyServer((request) =>
    request.url.pathname === '/services/rest/auth/oauth2/v1/token' ? token(request) : record(request),
  )

  function token({ body }: FakeRequest): FakeAnswer {
    const form = new URLSearchParams(body)
    const [header = '', claims = '', signature = ''] = (form.get('client_assertion') ?? '').split('.')
    const isSigned = verify(
      'sha256',
      Buffer.from(`${header}.${claims}`),
      { key: publicKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 },
      Buffer.from(signature, 'base64url'),
    )
    const said = claimsSchema.safeParse(decoded(claims))
    const isValid =
      isSigned &&
      form.get('grant_type') === 'client_credentials' &&
      form.get('client_assertion_type') === 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer' &&
      headerSchema.safeParse(decoded(header)).success &&
      said.success &&
      said.data.scope === 'rest_webservices' &&
      said.data.aud === `${server.url}/services/rest/auth/oauth2/v1/token` &&
      said.data.exp - said.data.iat < 3600
    if (!isValid) return { status: 400, body: { error: 'invalid_request' } }
    issued += 1
    tokens.add(`token-${issued}`)
    return {
      status: 200,
      body: { access_token: `token-${issued}`, expires_in: '3600', token_type: 'bearer' },
    }
  }

  function record({ method, url, headers, body }: FakeRequest): FakeAnswer {
    if (!tokens.has((headers.authorization ?? '').replace('Bearer ', ''))) {
      return failure(401, 'INVALID_LOGIN', 'Invalid login attempt.')
    }
    const [, externalId] =
      /^\/services\/rest\/record\/v1\/journalEntry\/eid:([\w-]+)$/.exec(url.pathname) ?? []
    if (method !== 'PUT' || externalId === undefined) return failure(404, 'NONEXISTENT_ID', 'not found')
    const parsed = recordSchema.safeParse(JSON.parse(body))
    if (!parsed.success) return failure(400, 'INVALID_CONTENT', z.prettifyError(parsed.error))
    const cents = parsed.data.line.items.reduce(
      (sum, { debit = 0, credit = 0 }) => sum + Math.round(debit * 100) - Math.round(credit * 100),
      0,
    )
    if (cents !== 0) return failure(400, 'USER_ERROR', 'The amounts in a journal entry must balance.')
    const before = records.get(externalId)
    const isReplaced = url.searchParams.get('replace') === 'line'
    const items = [...(isReplaced ? [] : (before?.line.items ?? [])), ...parsed.data.line.items]
    records.set(externalId, { ...parsed.data, line: { items } })
    const id = [...records.keys()].indexOf(externalId) + 100
    return {
      status: 204,
      headers: { location: `${server.url}/services/rest/record/v1/journalEntry/${id}` },
    }
  }

  return { ...server, records, endAccessTokens: () => tokens.clear() }
}

function decoded(part: string): unknown {
  return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
}

function failure(status: number, code: string, detail: string): FakeAnswer {
  return {
    status,
    body: {
      type: 'about:blank',
      title: 'Error',
      status,
      'o:errorDetails': [{ detail, 'o:errorCode': code }],
    },
  }
}
