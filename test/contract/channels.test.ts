import { setTimeout as delay } from 'node:timers/promises'
import { SMTPServer } from 'smtp-server'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type DeliverDependencies, deliver } from '../../apps/server/src/alerts/deliver.ts'
import { insertDeliveries, listDue } from '../../apps/server/src/alerts/delivery-store.ts'
import { createMailer } from '../../apps/server/src/alerts/mailer.ts'
import { testMessage } from '../../apps/server/src/alerts/message.ts'
import { allowedTargets } from '../../apps/server/src/http/forbidden-address.ts'
import type { Resolve } from '../../apps/server/src/http/guarded-request.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import {
  createTestDatabase,
  type Receiver,
  spawnService,
  startReceiver,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Channels: what may be named, what arrives there, and what happens when nothing does. */

const SECRET_KEY = Buffer.alloc(32, 7)
const FROM = 'TokenTally <alerts@tokens.example>'
let clockMs = Date.now()
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let organizationId: string
let receiver: Receiver
let mail: MailServer

beforeAll(async () => {
  database = await createTestDatabase()
  mail = await startMailServer()
  service = await startService({
    databaseUrl: database.url,
    roles: 'api',
    now,
    environment: {
      TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.0/8',
      TOKENTALLY_SMTP_URL: mail.url,
      TOKENTALLY_SMTP_FROM: FROM,
    },
  })
  const { rows } = await database.pool.query<{ id: string }>('select id from organization')
  organizationId = rows[0]?.id ?? ''
})
afterAll(async () => {
  await service.stop()
  await mail.stop()
  await database.drop()
})
beforeEach(async () => {
  receiver = await startReceiver()
  clockMs = Date.now()
})
afterEach(() => receiver.stop())

interface MailServer {
  readonly url: string
  readonly messages: string[]
  /** Refuses the next recipient with this code. */
  refuse(code: number): void
  stop(): Promise<void>
}

async function startMailServer(): Promise<MailServer> {
  const messages: string[] = []
  let refusal: number | undefined
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onRcptTo(_address, _session, callback) {
      const code = refusal
      refusal = undefined
      callback(code === undefined ? null : Object.assign(new Error('refused'), { responseCode: code }))
    },
    onData(stream, _session, callback) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        messages.push(Buffer.concat(chunks).toString('utf8'))
        callback()
      })
    },
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const address = server.server.address()
  if (address === null || typeof address === 'string') throw new Error('the mail server has no port')
  return {
    url: `smtp://127.0.0.1:${address.port}`,
    messages,
    refuse(code) {
      refusal = code
    },
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

const channelSchema = z.looseObject({
  id: z.string(),
  target: z.string(),
  secret: z.string().nullable().optional(),
})
let channels = 0
async function addChannel(fields: object = {}, to: TestService = service) {
  const body = { kind: 'webhook', name: `channel ${channels++}`, target: `${receiver.url}/hook`, ...fields }
  const answer = await call(to, '/api/v1/channels', { body })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return channelSchema.parse(answer.json)
}

const deliverySchema = z.looseObject({
  id: z.string(),
  state: z.string(),
  attempts: z.number(),
  status_code: z.number().nullable(),
  error: z.string().nullable(),
  next_attempt_at: z.string().nullable(),
})
async function press(channelId: string) {
  const answer = await call(service, `/api/v1/channels/${channelId}/test`, { method: 'POST' })
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return deliverySchema.parse(answer.json)
}
async function deliveries(channelId: string, to: TestService = service) {
  const { json } = await call(to, `/api/v1/channels/${channelId}/deliveries`)
  return z.object({ deliveries: z.array(deliverySchema) }).parse(json).deliveries
}

const worker = (overrides: Partial<DeliverDependencies> = {}): DeliverDependencies => ({
  pool: database.pool,
  now,
  random: () => 0.5,
  logger: { warn: () => undefined },
  metrics: createMetrics(),
  secretKey: SECRET_KEY,
  guard: { allowed: allowedTargets(['127.0.0.0/8']) },
  mailer: createMailer({ url: mail.url, from: FROM }),
  ...overrides,
})

describe('a channel', () => {
  it('keeps its target to itself', async () => {
    const slack = await addChannel({
      kind: 'slack',
      target: `${receiver.url}/services/T024/B024/Xw9zTopSecret`,
    })
    expect(slack.target).toBe(`${receiver.url}/…cret`)
    expect(slack.secret).toBeNull()
    const webhook = await addChannel()
    expect(webhook.secret).toMatch(/^whsec_/)
    const email = await addChannel({ kind: 'email', target: 'ops@example.com' })
    expect(email.target).toBe('o…@example.com')

    const list = (await call(service, '/api/v1/channels')).text
    const one = (await call(service, `/api/v1/channels/${webhook.id}`)).text
    const stored = await database.pool.query(
      "select encode(target, 'escape') as target, encode(secret, 'escape') as secret, target_shown from notification_channel",
    )
    for (const text of [list, one, JSON.stringify(stored.rows)]) {
      expect(text).not.toMatch(/Xw9z|T024|ops@|whsec/)
    }
  })

  it('is changed and removed', async () => {
    const channel = await addChannel()
    const url = `/api/v1/channels/${channel.id}`
    const patch = (body: object) => call(service, url, { method: 'PATCH', body })
    expect((await patch({ name: 'renamed', min_threshold: 90, scopes: ['team:*'] })).json).toMatchObject({
      name: 'renamed',
      min_threshold: 90,
      scopes: ['team:*'],
      target: channel.target,
    })
    expect((await patch({ target: `${receiver.url}/elsewhere`, min_threshold: null })).json).toMatchObject({
      name: 'renamed',
      min_threshold: null,
    })
    await press(channel.id)
    expect(receiver.received.at(-1)?.path).toBe('/elsewhere')
    const other = await addChannel()
    const taken = await call(service, `/api/v1/channels/${other.id}`, {
      method: 'PATCH',
      body: { name: 'renamed' },
    })
    expect(pathsOf(problemOf(taken, 409))).toEqual(['name'])
    expect((await call(service, url, { method: 'DELETE' })).status).toBe(204)
    problemOf(await call(service, url), 404)
    problemOf(await call(service, url, { method: 'DELETE' }), 404)
    problemOf(await call(service, `${url}/test`, { method: 'POST' }), 404)
  })

  it('needs the scope admin to be made, since what it is told leaves the service', async () => {
    const { key } = await createKey(service, ['write', 'read'])
    const body = { kind: 'webhook', name: 'x', target: receiver.url }
    problemOf(await call(service, '/api/v1/channels', { body, key }), 403)
  })

  it.each([
    [{ target: 'http://169.254.169.254/latest' }, 'target'],
    [{ target: 'http://[::ffff:10.0.0.1]/' }, 'target'],
    [{ target: 'http://10.1.2.3/' }, 'target'],
    [{ target: 'ftp://127.0.0.1/' }, 'target'],
    [{ target: 'http://a:b@127.0.0.1/' }, 'target'],
    [{ target: 'nonsense' }, 'target'],
    [{ kind: 'email', target: 'nobody' }, 'target'],
    [{ kind: 'pager' }, 'kind'],
    [{ name: '' }, 'name'],
    [{ alert_kinds: ['weather'] }, 'alert_kinds.0'],
    [{ scopes: ['engineering'] }, 'scopes.0'],
    [{ min_threshold: -1 }, 'min_threshold'],
    [{ url: 'x' }, 'url'],
  ])('is refused by the name of the field: %j', async (fields, path) => {
    const body = { kind: 'webhook', name: 'wrong', target: receiver.url, ...fields }
    expect(pathsOf(problemOf(await call(service, '/api/v1/channels', { body }), 400))).toEqual([path])
  })
})

describe('a webhook', () => {
  it('is signed by Standard Webhooks', async () => {
    const { id, secret } = await addChannel()
    expect(await press(id)).toMatchObject({ state: 'delivered', attempts: 1, status_code: 200, error: null })
    const [request] = receiver.received
    const headers = Object.fromEntries(
      Object.entries(request?.headers ?? {}).map(([header, value]) => [header, String(value)]),
    )
    expect(new Webhook(secret ?? '').verify(request?.body ?? '', headers)).toMatchObject({
      type: 'channel.test',
      data: { alert: null },
    })
    expect(() => new Webhook(secret ?? '').verify(`${request?.body} `, headers)).toThrow()
  })

  it('that fails for a day is tried twelve times, by ever longer waits, always with the same id', async () => {
    receiver.answer((response) => response.writeHead(500).end('down for <maintenance>'))
    const { id } = await addChannel()
    const begun = clockMs
    let delivery = await press(id)
    expect(delivery).toMatchObject({ state: 'pending', status_code: 500 })
    expect(delivery.error).toContain('down for <maintenance>')
    const waits: number[] = []
    while (delivery.next_attempt_at !== null) {
      const nextMs = Date.parse(delivery.next_attempt_at)
      waits.push(Math.round((nextMs - clockMs) / 1000))
      // Not a moment before it is due.
      clockMs = nextMs - 1
      expect(await listDue(database.pool, now(), 10)).toEqual([])
      expect(await deliver(worker(), { organizationId, deliveryId: delivery.id })).toBeUndefined()
      clockMs = nextMs
      expect(await listDue(database.pool, now(), 10)).toHaveLength(1)
      await deliver(worker(), { organizationId, deliveryId: delivery.id })
      delivery = (await deliveries(id))[0] ?? delivery
    }
    expect(delivery).toMatchObject({ state: 'failed', attempts: 12, status_code: 500 })
    expect(waits.slice(1)).toEqual([5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800])
    expect(clockMs - begun).toBeLessThan(24 * 3_600_000)
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    expect(receiver.received).toHaveLength(12)
  })

  it('that was down for an hour gets what it missed', async () => {
    receiver.answer((response) => response.writeHead(500).end())
    const { id } = await addChannel()
    const begun = clockMs
    let delivery = await press(id)
    while (delivery.state === 'pending') {
      clockMs = Date.parse(delivery.next_attempt_at ?? '')
      if (clockMs - begun > 3_600_000) receiver.answer((response) => response.end())
      await deliver(worker(), { organizationId, deliveryId: delivery.id })
      delivery = (await deliveries(id))[0] ?? delivery
    }
    expect(delivery).toMatchObject({ state: 'delivered', attempts: 8 })
  })

  it('that asks to wait is waited for', async () => {
    receiver.answer((response) => response.writeHead(429, { 'retry-after': '3600' }).end())
    const { id } = await addChannel()
    const delivery = await press(id)
    expect(delivery).toMatchObject({ state: 'pending', status_code: 429 })
    expect(Date.parse(delivery.next_attempt_at ?? '') - clockMs).toBe(3_600_000)
  })

  it('that redirects inside is not followed, and says so', async () => {
    const internal = await startReceiver()
    try {
      receiver.answer((response) => response.writeHead(307, { location: `${internal.url}/admin` }).end())
      const { id } = await addChannel()
      const delivery = await press(id)
      expect(delivery).toMatchObject({ state: 'failed', status_code: 307, attempts: 1 })
      expect(delivery.error).toContain('redirect')
      expect(internal.received).toEqual([])
    } finally {
      await internal.stop()
    }
  })

  it('whose name means something inside by the time it is called is not called', async () => {
    const { id } = await addChannel({ target: receiver.url })
    await insertDeliveries(
      database.pool,
      [
        {
          organizationId,
          id: '018f0000-0000-7000-8000-000000000001',
          channelId: id,
          alertId: null,
          cause: 'test',
          message: testMessage('rebound', undefined),
        },
      ],
      now(),
    )
    const resolve: Resolve = async () => [{ address: '127.0.0.1', family: 4 }]
    const guarded = worker({ guard: { allowed: allowedTargets([]), resolve } })
    await deliver(guarded, { organizationId, deliveryId: '018f0000-0000-7000-8000-000000000001' })
    const [delivery] = await deliveries(id)
    expect(delivery).toMatchObject({ state: 'failed', status_code: null })
    expect(delivery?.error).toContain('not public')
    expect(receiver.received).toEqual([])
  })

  it('is called by one worker at a time', async () => {
    receiver.answer((response) => response.writeHead(500).end())
    const { id } = await addChannel()
    const delivery = await press(id)
    clockMs = Date.parse(delivery.next_attempt_at ?? '')
    receiver.answer((response) => setTimeout(() => response.end(), 50))
    await Promise.all(
      Array.from({ length: 8 }, () => deliver(worker(), { organizationId, deliveryId: delivery.id })),
    )
    expect((await deliveries(id))[0]).toMatchObject({ state: 'delivered', attempts: 2 })
    expect(receiver.received).toHaveLength(2)
  })
})

describe('Slack and Teams', () => {
  it('are taken at their word when they refuse', async () => {
    receiver.answer((response) => response.writeHead(404).end('no_service'))
    for (const kind of ['slack', 'teams']) {
      const { id } = await addChannel({ kind })
      const delivery = await press(id)
      expect(delivery).toMatchObject({ state: 'failed', status_code: 404 })
      expect(delivery.error).toContain('no_service')
    }
  })

  it('get their own forms', async () => {
    receiver.answer((response) => response.writeHead(202).end())
    for (const kind of ['slack', 'teams']) {
      const { id } = await addChannel({ kind })
      expect((await press(id)).state).toBe('delivered')
    }
    expect(receiver.received.map(({ json }) => json)).toEqual([
      expect.objectContaining({ text: expect.any(String), blocks: expect.any(Array) }),
      {
        type: 'message',
        attachments: [
          expect.objectContaining({
            contentType: 'application/vnd.microsoft.card.adaptive',
            content: expect.objectContaining({ type: 'AdaptiveCard' }),
          }),
        ],
      },
    ])
  })
})

describe('e-mail', () => {
  it('arrives as text and HTML, with the same Message-ID on every attempt', async () => {
    const { id } = await addChannel({ kind: 'email', target: 'ops@example.com' })
    mail.refuse(451)
    const delivery = await press(id)
    expect(delivery).toMatchObject({ state: 'pending', status_code: 451 })
    clockMs = Date.parse(delivery.next_attempt_at ?? '')
    await deliver(worker(), { organizationId, deliveryId: delivery.id })
    const [message = ''] = mail.messages.slice(-1)
    expect(message).toContain(`Message-ID: <${delivery.id}@tokens.example>`)
    expect(message).toMatch(/^From: TokenTally <alerts@tokens.example>\r$/m)
    expect(message).toMatch(/^To: ops@example.com\r$/m)
    expect(message).toContain('text/plain')
    expect(message).toContain('text/html')
    expect((await deliveries(id))[0]).toMatchObject({ state: 'delivered', attempts: 2 })
  })

  it('that is refused for good is given up', async () => {
    const { id } = await addChannel({ kind: 'email', target: 'gone@example.com' })
    mail.refuse(550)
    expect(await press(id)).toMatchObject({ state: 'failed', status_code: 550 })
  })
})

describe('a service that is killed while it sends', () => {
  it('has fired once, and delivers after all', async () => {
    const own = await createTestDatabase()
    const environment = { TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.0/8' }
    const first = await spawnService({ databaseUrl: own.url, environment })
    let second: TestService | undefined
    try {
      const channel = await addChannel({ name: 'killed' }, first)
      await call(first, '/api/v1/prices', {
        body: { provider: 'acme-llm', model: 'unit', rates: { output_tokens: { price: '1', per: 1000 } } },
      })
      const budget = await call(first, '/api/v1/budgets', {
        body: { name: 'b', amount: '10', period: 'month' },
      })
      expect(budget.status).toBe(201)
      // The receiver has taken the message, and never answers.
      receiver.answer(() => undefined)
      const event = { event_id: 'over', provider: 'acme-llm', model: 'unit', output_tokens: 9_500 }
      submissionOf(await sendUsage(first, event))
      await waitFor(() => receiver.received.length === 1, 'the message is being sent')
      await first.kill()

      // The next worker fails once, too, and tries again by itself.
      receiver.answer((response) => {
        response.writeHead(receiver.received.length === 2 ? 500 : 200).end()
      })
      second = await startService({ databaseUrl: own.url, environment })
      submissionOf(await sendUsage(second, { ...event, event_id: 'more', output_tokens: 1 }))
      // Nobody else sends it while the dead worker's lease lasts.
      await delay(500)
      expect(receiver.received).toHaveLength(1)
      await own.pool.query("update notification_delivery set leased_until = now() - interval '1 second'")
      await waitFor(async () => {
        const [delivery] = second === undefined ? [] : await deliveries(channel.id, second)
        return delivery?.state === 'delivered'
      }, 'the message is delivered')
      expect(receiver.received).toHaveLength(3)
      expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
      const { rows } = await own.pool.query('select threshold::text from alert order by threshold')
      expect(rows).toEqual([{ threshold: '50' }, { threshold: '75' }, { threshold: '90' }])
    } finally {
      await second?.stop()
      await own.drop()
    }
  })
})
