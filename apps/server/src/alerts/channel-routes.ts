import { randomUUID } from 'node:crypto'
import { ALERT_KINDS, type FieldIssue } from '@tokentally/core'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { targetComplaint } from '../http/guarded-request.ts'
import { pageOf } from '../http/page-cursor.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { newWebhookSecret } from '../http/signed-webhook.ts'
import { sealSecret } from '../sealed-secret.ts'
import { CHANNEL_KINDS, type Channel, type ChannelKind, maskTarget } from './channel.ts'
import {
  type ChannelValues,
  type ChannelWrite,
  deleteChannel,
  findChannel,
  insertChannel,
  listChannels,
  type StoredChannel,
  updateChannel,
} from './channel-store.ts'
import { type DeliverDependencies, deliver } from './deliver.ts'
import { type Delivery, findDelivery, insertDeliveries, listDeliveries } from './delivery-store.ts'
import { testMessage } from './message.ts'
import { pageParameters, positionAt, positionOfCursor } from './page-cursor.ts'

export interface ChannelRouteDependencies extends DeliverDependencies {
  readonly publicUrl: string | undefined
}

/** Channels of one organization; each alert looks at all of them. */
const CHANNELS_MAX = 100
const TAGS = ['channels']

const scopePattern = z
  .string()
  .max(512)
  .regex(
    /^(organization|[a-z_]+(\.[^:]+)?:.+)$/,
    'must be `organization`, or such as `team:engineering` or `team:*`',
  )

const filterJson = {
  alert_kinds: z.array(z.enum(ALERT_KINDS)).min(1).nullable().describe('Only these kinds; null: all.'),
  budget_ids: z
    .array(z.string().min(1).max(128))
    .min(1)
    .max(200)
    .nullable()
    .describe('Only alerts of these budgets; null: all alerts.'),
  scopes: z
    .array(scopePattern)
    .min(1)
    .max(200)
    .nullable()
    .describe(
      'Only alerts about these scopes: `team:engineering`, `customer:*`, `organization`; null: all alerts.',
    ),
  min_threshold: z
    .number()
    .min(0)
    .max(10_000)
    .nullable()
    .describe('Of budgets only this percentage and more; null: all.'),
}

const channelJson = z.object({
  id: z.uuid(),
  kind: z.enum(CHANNEL_KINDS),
  name: z.string(),
  target: z.string().describe('With its secret parts left out.'),
  enabled: z.boolean(),
  ...filterJson,
  created_at: z.string(),
  updated_at: z.string(),
})

const targetJson = z
  .string()
  .min(1)
  .max(2_048)
  .describe('A webhook URL, or an e-mail address. Stored encrypted, and never shown again in full.')
const name = z.string().trim().min(1).max(200)

const deliveryJson = z.object({
  id: z.uuid(),
  alert_id: z.uuid().nullable().describe('Null: a test.'),
  cause: z.string().describe('`fired`, `reminder:…` or `test`.'),
  title: z.string(),
  state: z.enum(['pending', 'delivered', 'failed']),
  attempts: z.number().int(),
  status_code: z.number().int().nullable().describe('Of the last attempt: HTTP, or SMTP where it failed.'),
  error: z.string().nullable().describe('Of the last attempt.'),
  created_at: z.string(),
  last_attempt_at: z.string().nullable(),
  next_attempt_at: z.string().nullable(),
})

/** Registers everything under `/api/v1/channels`. */
export function registerChannelRoutes(app: App, dependencies: ChannelRouteDependencies): void {
  registerDeliveryRoutes(app, dependencies)
  registerWriting(app, dependencies)
  registerSingle(app, dependencies)
}

function registerWriting(app: App, dependencies: ChannelRouteDependencies): void {
  const { pool, now } = dependencies
  app.get(
    '/api/v1/channels',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'Where alerts go',
        response: { 200: z.object({ channels: z.array(channelJson) }) },
      },
    },
    async ({ organizationId }) => ({
      channels: (await listChannels(pool, organizationId)).map(channelToJson),
    }),
  )

  app.post(
    '/api/v1/channels',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Add a channel',
        description:
          '`slack`: an incoming webhook. `teams`: the URL of a workflow that posts to a channel. `webhook`: any URL; requests are signed by Standard Webhooks, and the answer is the only time that the signing secret is shown. `email`: an address; needs an SMTP server. The target must be public, see the configuration.',
        body: z.strictObject({
          kind: z.enum(CHANNEL_KINDS),
          name,
          target: targetJson,
          enabled: z.boolean().default(true),
          alert_kinds: filterJson.alert_kinds.default(null),
          budget_ids: filterJson.budget_ids.default(null),
          scopes: filterJson.scopes.default(null),
          min_threshold: filterJson.min_threshold.default(null),
        }),
        response: {
          201: channelJson.extend({
            secret: z.string().nullable().describe('Of webhooks: verify signatures with it. Shown only now.'),
          }),
          400: problemSchema,
          409: problemSchema,
        },
      },
    },
    async ({ organizationId, body }, reply) => {
      await checkTarget(dependencies, body.kind, body.target)
      if ((await listChannels(pool, organizationId)).length >= CHANNELS_MAX) {
        throw new Problem({
          code: 'conflict',
          detail: `There are ${CHANNELS_MAX} channels; more are not possible.`,
        })
      }
      const id = randomUUID()
      const secret = body.kind === 'webhook' ? newWebhookSecret() : null
      const channel = written(
        await insertChannel(
          pool,
          {
            organizationId,
            id,
            kind: body.kind,
            name: body.name,
            ...sealedTarget(dependencies, organizationId, id, body.kind, body.target),
            sealedSecret:
              secret === null
                ? null
                : sealSecret(dependencies.secretKey, [organizationId, id, 'signing'], secret),
            alertKinds: body.alert_kinds,
            budgetIds: body.budget_ids,
            scopes: body.scopes,
            minThreshold: body.min_threshold,
            enabled: body.enabled,
          },
          now(),
        ),
      )
      return reply
        .code(201)
        .header('cache-control', 'no-store')
        .send({ ...channelToJson(channel), secret })
    },
  )
}

function registerSingle(app: App, dependencies: ChannelRouteDependencies): void {
  const { pool, now } = dependencies
  const params = z.object({ id: z.uuid() })

  app.get(
    '/api/v1/channels/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'One channel',
        params,
        response: { 200: channelJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) =>
      channelToJson(await existing(dependencies, organizationId, params.id)),
  )

  app.patch(
    '/api/v1/channels/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Change a channel',
        description: 'What is left out stays as it is; the kind always does.',
        params,
        body: z.strictObject({ name, target: targetJson, enabled: z.boolean(), ...filterJson }).partial(),
        response: { 200: channelJson, 400: problemSchema, 404: problemSchema, 409: problemSchema },
      },
    },
    async ({ organizationId, params, body }) => {
      const channel = await existing(dependencies, organizationId, params.id)
      const { target } = body
      if (target !== undefined) await checkTarget(dependencies, channel.kind, target)
      const values: ChannelValues = {
        ...channel,
        ...(target !== undefined &&
          sealedTarget(dependencies, organizationId, channel.id, channel.kind, target)),
        name: body.name ?? channel.name,
        enabled: body.enabled ?? channel.enabled,
        alertKinds: body.alert_kinds === undefined ? channel.alertKinds : body.alert_kinds,
        budgetIds: body.budget_ids === undefined ? channel.budgetIds : body.budget_ids,
        scopes: body.scopes === undefined ? channel.scopes : body.scopes,
        minThreshold: body.min_threshold === undefined ? channel.minThreshold : body.min_threshold,
      }
      return channelToJson(written(await updateChannel(pool, values, now())))
    },
  )

  app.delete(
    '/api/v1/channels/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Remove a channel, with its deliveries',
        params,
        response: { 204: z.null(), 404: problemSchema },
      },
    },
    async ({ organizationId, params }, reply) => {
      if (!(await deleteChannel(pool, organizationId, params.id))) throw notFound()
      return reply.code(204).send(null)
    },
  )
}

function registerDeliveryRoutes(app: App, dependencies: ChannelRouteDependencies): void {
  const { pool, now, publicUrl } = dependencies
  const params = z.object({ id: z.uuid() })

  app.post(
    '/api/v1/channels/:id/test',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: 'Send a test message now',
        description:
          'The answer says how it went. A test that failed is tried again like any delivery, unless trying again cannot help.',
        params,
        response: { 200: deliveryJson, 404: problemSchema },
      },
    },
    async ({ organizationId, params }) => {
      const channel = await existing(dependencies, organizationId, params.id)
      const id = randomUUID()
      const delivery = {
        organizationId,
        id,
        channelId: channel.id,
        alertId: null,
        cause: 'test',
        message: testMessage(channel.name, publicUrl),
      }
      await insertDeliveries(pool, [delivery], now())
      await deliver(dependencies, { organizationId, deliveryId: id })
      const sent = await findDelivery(pool, { organizationId, deliveryId: id })
      if (sent === undefined) throw notFound()
      return deliveryToJson(sent)
    },
  )

  app.get(
    '/api/v1/channels/:id/deliveries',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: 'What was sent to a channel, newest first',
        description: 'Kept for 90 days.',
        params,
        querystring: z.strictObject(pageParameters),
        response: {
          200: z.object({ deliveries: z.array(deliveryJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
          404: problemSchema,
        },
      },
    },
    async ({ organizationId, params, query }) => {
      const channel = await existing(dependencies, organizationId, params.id)
      const after = query.cursor === undefined ? undefined : positionOfCursor(query.cursor)
      const deliveries = await listDeliveries(pool, {
        organizationId,
        channelId: channel.id,
        limit: query.limit + 1,
        after: after === undefined ? undefined : { createdAt: after.at, id: after.id },
      })
      const { page, nextCursor } = pageOf(deliveries, query.limit, ({ createdAt, id }) =>
        positionAt(createdAt, id),
      )
      return { deliveries: page.map(deliveryToJson), next_cursor: nextCursor }
    },
  )
}

/** @throws Problem that names the field */
async function checkTarget(
  { guard, mailer }: ChannelRouteDependencies,
  kind: ChannelKind,
  target: string,
): Promise<void> {
  const complaint =
    kind === 'email'
      ? mailer === undefined
        ? 'cannot be used: no SMTP server is configured (TOKENTALLY_SMTP_URL)'
        : z.email().safeParse(target).success
          ? undefined
          : 'must be an e-mail address'
      : await targetComplaint(target, guard)
  if (complaint !== undefined) throw invalid({ path: 'target', message: complaint })
}

function sealedTarget(
  { secretKey }: ChannelRouteDependencies,
  organizationId: string,
  id: string,
  kind: ChannelKind,
  target: string,
): Pick<ChannelValues, 'sealedTarget' | 'targetShown'> {
  return {
    sealedTarget: sealSecret(secretKey, [organizationId, id], target),
    targetShown: maskTarget(kind, target),
  }
}

function written(result: ChannelWrite): StoredChannel {
  if (result !== 'name_taken') return result
  throw new Problem({
    code: 'conflict',
    detail: 'Another channel has this name.',
    errors: [{ path: 'name', message: 'belongs to another channel' }],
  })
}

async function existing(
  { pool }: ChannelRouteDependencies,
  organizationId: string,
  id: string,
): Promise<StoredChannel> {
  const channel = await findChannel(pool, organizationId, id)
  if (channel === undefined) throw notFound()
  return channel
}

function notFound(): Problem {
  return new Problem({ code: 'not-found', detail: 'There is no such channel.' })
}

function invalid(issue: FieldIssue): Problem {
  return new Problem({ code: 'invalid-request', detail: 'The channel is not valid.', errors: [issue] })
}

function channelToJson(channel: Channel): z.infer<typeof channelJson> {
  return {
    id: channel.id,
    kind: channel.kind,
    name: channel.name,
    target: channel.targetShown,
    enabled: channel.enabled,
    alert_kinds: channel.alertKinds === null ? null : [...channel.alertKinds],
    budget_ids: channel.budgetIds === null ? null : [...channel.budgetIds],
    scopes: channel.scopes === null ? null : [...channel.scopes],
    min_threshold: channel.minThreshold,
    created_at: channel.createdAt.toISOString(),
    updated_at: channel.updatedAt.toISOString(),
  }
}

function deliveryToJson(delivery: Delivery): z.infer<typeof deliveryJson> {
  return {
    id: delivery.id,
    alert_id: delivery.alertId,
    cause: delivery.cause,
    title: delivery.message.title,
    state: delivery.state,
    attempts: delivery.attempts,
    status_code: delivery.statusCode,
    error: delivery.error,
    created_at: delivery.createdAt.toISOString(),
    last_attempt_at: delivery.lastAttemptAt?.toISOString() ?? null,
    next_attempt_at: delivery.nextAttemptAt?.toISOString() ?? null,
  }
}
