import { z } from 'zod'
import { type FakeAnswer, type FakeRequest, type FaultyServer, startFaultyServer } from './faulty-server.ts'

/**
 * QuickBooks Online as developer.intuit.com tells: the OAuth 2.0 token service, which hands out another refresh token each time and
 * ends the one before; `requestid`, whose first answer is repeated; entries that must balance, faults with codes.
 */

const entrySchema = z.strictObject({
  DocNumber: z.string().max(21),
  TxnDate: z.iso.date(),
  PrivateNote: z.string().max(4000),
  CurrencyRef: z.strictObject({ value: z.string().length(3) }),
  ExchangeRate: z.number().positive().optional(),
  Line: z
    .array(
      z.strictObject({
        Id: z.string(),
        DetailType: z.literal('JournalEntryLineDetail'),
        Amount: z.number().positive(),
        Description: z.string().max(4000),
        JournalEntryLineDetail: z.strictObject({
          PostingType: z.enum(['Debit', 'Credit']),
          AccountRef: z.strictObject({ value: z.string().regex(/^\d+$/) }),
          Entity: z
            .strictObject({ Type: z.literal('Customer'), EntityRef: z.strictObject({ value: z.string() }) })
            .optional(),
        }),
      }),
    )
    .min(2),
})
export type FakeEntry = z.output<typeof entrySchema>

export interface FakeQuickbooks extends FaultyServer {
  readonly entries: readonly FakeEntry[]
  /** The only refresh token that is valid. */
  refreshToken(): string
  /** Ends all access tokens at once, before their time. */
  endAccessTokens(): void
}

export const QUICKBOOKS = {
  realm: '4620816365',
  clientId: 'client-of-quickbooks',
  clientSecret: 'secret-of-quickbooks',
  receivable: '84',
  refreshToken: 'refresh-0',
} as const

export async function startFakeQuickbooks(): Promise<FakeQuickbooks> {
  const entries: FakeEntry[] = []
  const answers = new Map<string, FakeAnswer>()
  let refreshes = 0
  const accessTokens = new Set<string>()
  const refreshToken = () => `refresh-${refreshes}`

  const server = await startFaultyServer((request) =>
    request.url.pathname === '/oauth2/v1/tokens/bearer' ? token(request) : journalEntry(request),
  )

  function token({ headers, body }: FakeRequest): FakeAnswer {
    const basic = Buffer.from(`${QUICKBOOKS.clientId}:${QUICKBOOKS.clientSecret}`).toString('base64')
    if (headers.authorization !== `Basic ${basic}`) return { status: 401, body: { error: 'invalid_client' } }
    const form = new URLSearchParams(body)
    if (form.get('grant_type') !== 'refresh_token' || form.get('refresh_token') !== refreshToken()) {
      return { status: 400, body: { error: 'invalid_grant' } }
    }
    refreshes += 1
    accessTokens.add(`access-${refreshes}`)
    return {
      status: 200,
      body: {
        token_type: 'bearer',
        access_token: `access-${refreshes}`,
        expires_in: 3600,
        refresh_token: refreshToken(),
        x_refresh_token_expires_in: 8_726_400,
      },
    }
  }

  function journalEntry({ method, url, headers, body }: FakeRequest): FakeAnswer {
    if (!accessTokens.has((headers.authorization ?? '').replace('Bearer ', ''))) {
      return fault(401, '3200', 'message=AuthenticationFailed; errorCode=003200; statusCode=401')
    }
    if (method !== 'POST' || url.pathname !== `/v3/company/${QUICKBOOKS.realm}/journalentry`) {
      return fault(404, '600', 'Not found')
    }
    const requestId = url.searchParams.get('requestid') ?? ''
    if (requestId === '' || requestId.length > 50)
      return fault(400, '2010', 'requestid is missing or too long')
    const known = answers.get(requestId)
    if (known !== undefined) return known
    const answer = create(body)
    if (answer.status === 200) answers.set(requestId, answer)
    return answer
  }

  function create(body: string): FakeAnswer {
    const parsed = entrySchema.safeParse(JSON.parse(body))
    if (!parsed.success) return fault(400, '2010', z.prettifyError(parsed.error))
    const { Line } = parsed.data
    const cents = Line.map(
      ({ Amount, JournalEntryLineDetail: { PostingType } }) =>
        Math.round(Amount * 100) * (PostingType === 'Debit' ? 1 : -1),
    )
    if (cents.reduce((sum, one) => sum + one, 0) !== 0) return fault(400, '6000', 'Debits must equal credits')
    const isNameless = Line.some(
      ({ JournalEntryLineDetail: { AccountRef, Entity } }) =>
        AccountRef.value === QUICKBOOKS.receivable && Entity === undefined,
    )
    if (isNameless) return fault(400, '6000', 'When you use Accounts Receivable, you must choose a customer')
    entries.push(parsed.data)
    return { status: 200, body: { JournalEntry: { ...parsed.data, Id: String(entries.length) }, time: '' } }
  }

  return { ...server, entries, refreshToken, endAccessTokens: () => accessTokens.clear() }
}

function fault(status: number, code: string, Message: string): FakeAnswer {
  return { status, body: { Fault: { Error: [{ Message, Detail: Message, code }], type: 'ValidationFault' } } }
}
