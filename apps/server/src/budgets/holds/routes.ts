import { decimalText, type RatingBook, usageEventSchema } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { PROBLEM_CONTENT_TYPE, Problem, problemSchema } from '../../http/problem.ts'
import type { RatingBookCache } from '../../pricing/index.ts'
import { type HoldDesk, type HoldLimit, type HoldOutcome, HoldsBusy } from './hold-desk.ts'
import { findHold, type Hold, releaseHold, settleHold } from './hold-store.ts'
import { LearnedSizes, upperBound } from './upper-bound.ts'

export interface HoldRoutesDependencies {
  readonly pool: Pool
  readonly desk: HoldDesk
  readonly now: () => Date
  readonly ratingBooks: RatingBookCache
  /**
   * Ingests a usage event at once, as `POST /api/v1/usage` does.
   *
   * @throws Problem naming its fields when it is refused
   */
  readonly ingest: (
    sender: { readonly organizationId: string; readonly apiKeyId: string },
    event: unknown,
  ) => Promise<void>
}

const TAGS = ['holds']
const TTL_DEFAULT_S = 120
const TTL_MAX_S = 3_600
const SECOND_MS = 1_000
/** A price change bounds calls differently after this time at the latest. */
const BOOK_CHECK_MS = 1_000

const shape = usageEventSchema.shape
const usd = z
  .string()
  .regex(/^\d{1,12}(\.\d{1,18})?$/, 'must be US dollars as a decimal string such as "0.25"')
const requestSchema = z.strictObject({
  event_id: z.string().min(1).max(256).describe('The id that the usage event of the call will have.'),
  customer_id: shape.customer_id,
  user_id: shape.user_id,
  team_id: shape.team_id,
  project_id: shape.project_id,
  business_unit: shape.business_unit,
  cost_center: shape.cost_center,
  feature: shape.feature,
  agent: shape.agent,
  environment: shape.environment,
  tags: shape.tags,
  provider: shape.provider,
  model: shape.model,
  service_tier: shape.service_tier,
  region: shape.region,
  input_tokens: shape.input_tokens.describe(
    'As counted. Absent: what 99 of 100 calls of this model do not pass.',
  ),
  max_output_tokens: shape.output_tokens.describe("The call's own limit. Absent: as for the input."),
  estimate_usd: usd.optional().describe('The upper bound itself; nothing is computed then.'),
  unpriced: z
    .enum(['refuse', 'allow'])
    .default('refuse')
    .describe('What to do under a hard limit with a call whose price is not known.'),
  ttl_s: z.number().int().min(1).max(TTL_MAX_S).default(TTL_DEFAULT_S),
})

const money = z.string().describe('US dollars, exact decimal')
const limitJson = z.object({
  kind: z.enum(['budget', 'credit']),
  budget: z.object({ id: z.string(), name: z.string() }).nullable().describe('Null for credit.'),
  scope: z.object({ dimension: z.string(), value: z.string().nullable() }),
  limit: money,
  spent: money,
  remaining: money.describe('After this hold. US dollars, exact decimal'),
  until: z.string().nullable().describe("The period's end; null for credit."),
})
const holdJson = z.object({
  id: z.string(),
  event_id: z.string(),
  state: z
    .enum(['open', 'settled', 'released', 'expired', 'counted'])
    .describe('`counted`: its event is in the ledger, whose amount counts instead.'),
  amount: money.describe('The upper bound as sell cost. US dollars, exact decimal'),
  list_amount: money,
  settled_amount: money.nullable(),
  bound: z.object({
    from: z.enum(['prices', 'estimate', 'unpriced']),
    input_tokens: z.number().nullable(),
    input_from: z.enum(['request', 'learned', 'default']).nullable(),
    output_tokens: z.number().nullable(),
    output_from: z.enum(['request', 'learned', 'default']).nullable(),
  }),
  created_at: z.string(),
  expires_at: z.string(),
})
const placedJson = holdJson.extend({
  limits: z.array(limitJson).describe('The hard limits that it falls under.'),
})
const refusalJson = problemSchema.extend({
  limit: limitJson.omit({ remaining: true }).optional().describe('The limit that refused.'),
})

const settlementSchema = z
  .strictObject({
    cost: usd.optional().describe('What the call cost; counts until its event comes.'),
    event: z.record(z.string(), z.unknown()).optional().describe('The usage event, ingested at once.'),
    released: z.literal(true).optional().describe('The call was not made, or cost nothing.'),
  })
  .refine(
    (body) => Object.values(body).filter((value) => value !== undefined).length === 1,
    'must have exactly one of cost, event and released',
  )

/** Registers everything under `/api/v1/holds`. */
export function registerHoldRoutes(app: App, dependencies: HoldRoutesDependencies): void {
  const { pool, desk, now, ratingBooks, ingest } = dependencies
  const learnedSizes = new LearnedSizes()
  let checkedAtMs = Number.NEGATIVE_INFINITY
  let checked: Promise<RatingBook> = Promise.resolve(ratingBooks.current())
  /** The rating book as it was committed a second ago, or later; one look for all calls of that second. */
  const ratingBook = () => {
    const nowMs = performance.now()
    if (nowMs - checkedAtMs >= BOOK_CHECK_MS) {
      checkedAtMs = nowMs
      checked = ratingBooks.refreshIfChanged()
    }
    return checked
  }

  app.post(
    '/api/v1/holds',
    {
      config: { scope: 'ingest' },
      schema: {
        tags: TAGS,
        summary: 'Reserve the most that a call can cost, before it is made',
        description:
          'Granted if what is spent and held passes no hard limit with it: budgets that `block`, and prepaid credit. A repeat for the same event gives the same hold.',
        body: requestSchema,
        response: { 200: placedJson, 201: placedJson, 429: refusalJson },
      },
    },
    async (request, reply) => {
      const { event_id, ttl_s, unpriced, input_tokens, max_output_tokens, estimate_usd, ...fields } =
        request.body
      const at = now()
      const bound = await upperBound(
        { pool, learnedSizes, book: await ratingBook() },
        {
          organizationId: request.organizationId,
          fields,
          inputTokens: input_tokens,
          maxOutputTokens: max_output_tokens,
          estimateUsd: estimate_usd,
        },
        at.getTime(),
      )
      const outcome = await place({
        ...bound,
        organizationId: request.organizationId,
        eventId: event_id,
        dimensions: { ...fields, api_key_id: request.apiKeyId },
        ttlMs: ttl_s * SECOND_MS,
        mayBeUnpriced: unpriced === 'allow',
      })
      switch (outcome.kind) {
        case 'granted':
          return reply.code(201).send(grantedToJson(outcome, at))
        case 'repeated':
          return reply.code(200).send({ ...holdToJson(outcome.hold, at), limits: [] })
        case 'refused': {
          const problem = refusal(outcome.by, outcome.isHeldUp, at.getTime())
          return reply
            .code(429)
            .header('content-type', PROBLEM_CONTENT_TYPE)
            .header('retry-after', String(problem.retryAfterS ?? 1))
            .send({ ...problem.toBody(), limit: limitToJson(outcome.by) })
        }
        case 'unpriced':
          throw new Problem({
            code: 'unprocessable-content',
            detail:
              'A hard limit applies to this call and its price is not known. Set a price, send estimate_usd, or say unpriced: allow.',
            errors: [{ path: 'model', message: 'has no price' }],
          })
        case 'over':
          throw new Problem({
            code: 'conflict',
            detail: 'The event of this id is in the ledger already: another call needs another id.',
            errors: [{ path: 'event_id', message: 'is in the ledger' }],
          })
      }
    },
  )

  app.get(
    '/api/v1/holds/:id',
    {
      config: { scope: 'ingest' },
      schema: {
        tags: TAGS,
        summary: 'One hold',
        params: z.object({ id: z.uuid() }),
        response: { 200: holdJson },
      },
    },
    async (request) => holdToJson(await existing(request), now()),
  )

  app.post(
    '/api/v1/holds/:id/settle',
    {
      config: { scope: 'ingest' },
      schema: {
        tags: TAGS,
        summary: 'Say what became of a held call',
        description:
          'With its cost, with its usage event, or that it was released. Safe to repeat; also after the hold expired.',
        params: z.object({ id: z.uuid() }),
        body: settlementSchema,
        response: { 200: holdJson },
      },
    },
    async (request) => {
      const { cost, event } = request.body
      const { organizationId, params } = request
      const hold = await existing(request)
      if (event !== undefined) {
        if (event['event_id'] !== undefined && event['event_id'] !== hold.eventId) {
          throw new Problem({
            code: 'invalid-request',
            errors: [{ path: 'event.event_id', message: `must be that of the hold, ${hold.eventId}` }],
          })
        }
        // In the ledger the event's own amount counts, and by that the hold no more: in one moment.
        await ingest(request, { ...event, event_id: hold.eventId })
      } else if (cost !== undefined) {
        const isSettled = await settleHold(pool, organizationId, params.id, cost, now())
        if (!isSettled && hold.settledSellUsd === null) throw settledOtherwise()
      } else {
        const isReleased = await releaseHold(pool, organizationId, params.id, now())
        if (!isReleased && hold.releasedAt === null) throw settledOtherwise()
      }
      return holdToJson(await existing(request), now())
    },
  )

  async function place(hold: Parameters<HoldDesk['place']>[0]): Promise<HoldOutcome> {
    try {
      return await desk.place(hold)
    } catch (error) {
      if (!(error instanceof HoldsBusy)) throw error
      throw new Problem({
        code: 'too-many-requests',
        detail: 'Too many calls wait for their holds. Nothing is held for this one.',
        retryAfterS: 1,
        cause: error,
      })
    }
  }

  async function existing(request: {
    readonly organizationId: string
    readonly params: { readonly id: string }
  }): Promise<Hold> {
    const hold = await findHold(pool, request.organizationId, request.params.id)
    if (hold === undefined) throw new Problem({ code: 'not-found', detail: 'There is no hold with this id.' })
    return hold
  }
}

function settledOtherwise(): Problem {
  return new Problem({ code: 'conflict', detail: 'The hold is settled or released already.' })
}

/** Why a limit refuses, and when it makes sense to ask again. */
function refusal(limit: HoldLimit, isHeldUp: boolean, nowMs: number): Problem {
  const { status, creditOf } = limit
  // What is held comes back within seconds; what is spent, at the period's end or with a top-up.
  const untilEndS = status === null ? CREDIT_RETRY_S : (status.period.endMs - nowMs) / SECOND_MS
  const retryAfterS = Math.max(1, Math.ceil(isHeldUp ? HELD_RETRY_S : untilEndS))
  if (status === null) {
    return new Problem({
      code: 'credit-exhausted',
      detail: `The prepaid credit of customer ${creditOf ?? ''} does not cover this call.`,
      retryAfterS,
    })
  }
  return new Problem({
    code: 'budget-exceeded',
    detail: `The budget ${status.budgetName} of ${status.limitUsd} USD does not cover this call${isHeldUp ? ' while others are under way' : ''}.`,
    retryAfterS,
  })
}

const HELD_RETRY_S = 1
const CREDIT_RETRY_S = 60

function limitToJson(limit: HoldLimit) {
  const { status, creditOf } = limit
  return {
    kind: status === null ? ('credit' as const) : ('budget' as const),
    budget: status === null ? null : { id: status.budgetId, name: status.budgetName },
    scope: status === null ? { dimension: 'customer', value: creditOf } : { ...status.scope },
    limit: decimalText(limit.limitUsd),
    spent: decimalText(limit.spentUsd),
    until: status === null ? null : new Date(status.period.endMs).toISOString(),
  }
}

function grantedToJson(
  { hold, listUsd, sellUsd, remaining }: Extract<HoldOutcome, { kind: 'granted' }>,
  at: Date,
): z.input<typeof placedJson> {
  return {
    id: hold.id,
    event_id: hold.eventId,
    state: 'open',
    amount: decimalText(sellUsd),
    list_amount: decimalText(listUsd),
    settled_amount: null,
    bound: hold.bound,
    created_at: at.toISOString(),
    expires_at: hold.expiresAt.toISOString(),
    limits: [...remaining].map(([limit, left]) => ({
      ...limitToJson(limit),
      remaining: decimalText(left),
    })),
  }
}

function holdToJson(hold: Hold, at: Date): z.input<typeof holdJson> {
  return {
    id: hold.id,
    event_id: hold.eventId,
    state: stateOf(hold, at),
    amount: hold.sellUsd,
    list_amount: hold.listUsd,
    settled_amount: hold.settledSellUsd,
    bound: hold.bound,
    created_at: hold.createdAt.toISOString(),
    expires_at: hold.expiresAt.toISOString(),
  }
}

function stateOf(hold: Hold, at: Date): z.input<typeof holdJson>['state'] {
  if (hold.isInLedger) return 'counted'
  if (hold.releasedAt !== null) return 'released'
  if (hold.settledAt !== null) return 'settled'
  return hold.expiresAt.getTime() <= at.getTime() ? 'expired' : 'open'
}
