import { randomUUID } from 'node:crypto'
import type { InvoiceStatus } from '@tokentally/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type FakeStripe, startFakeStripe } from '../fake-stripe/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, problemOf, sendUsage, submissionOf } from './api-client.ts'
import { insertFinalizedInvoice, insertInvoice, usageLine } from './invoices.ts'

/** What the service says of itself: the OpenAPI document, its page, metrics and health. */

let database: TestDatabase
let service: TestService
let stripe: FakeStripe
let document: z.infer<typeof documentSchema>
beforeAll(async () => {
  database = await createTestDatabase()
  stripe = await startFakeStripe()
  service = await startService({
    databaseUrl: database.url,
    environment: { TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.1', TOKENTALLY_STRIPE_URL: stripe.url },
  })
  submissionOf(await sendUsage(service, [EVENT, { ...EVENT, event_id: 'second', tags: undefined }]))
  document = documentSchema.parse((await call(service, '/openapi.json', { key: null })).json)
})
afterAll(async () => {
  await service.stop()
  await stripe.stop()
  await database.drop()
})

/** A target that nobody answers at. */
const HOOK = 'http://127.0.0.1:1025/'
const EVENT = {
  event_id: 'documented',
  ts: '2026-11-01T12:00:00Z',
  customer_id: 'acme',
  provider: 'openai',
  model: 'gpt-4o-mini',
  input_tokens: 1200,
  output_tokens: 300,
  meters: { web_search_requests: 1 },
  tags: { plan: 'pro' },
  host: { k8s: { pod: 'p' } },
}

// As far as OpenAPI 3.1.0 (spec.openapis.org/oas/v3.1.0) rules what is used here; more would be a mistake.
const jsonSchema = z.custom<z.core.JSONSchema.JSONSchema>(
  (value) => typeof value === 'object' && value !== null,
)
const content = z.record(z.string().regex(/^\w+\/[\w.+-]+$/), z.strictObject({ schema: jsonSchema }))
const parameterSchema = z
  .strictObject({
    name: z.string().min(1),
    in: z.enum(['query', 'path', 'header']),
    required: z.boolean().optional(),
    description: z.string().optional(),
    schema: jsonSchema,
  })
  .refine(
    (parameter) => parameter.in !== 'path' || parameter.required === true,
    'path parameters are required',
  )
const operationSchema = z.strictObject({
  summary: z.string().min(1),
  description: z.string().optional(),
  tags: z.array(z.string()).min(1),
  parameters: z.array(parameterSchema).optional(),
  requestBody: z
    .strictObject({ required: z.boolean().optional(), description: z.string().optional(), content })
    .optional(),
  security: z.array(z.record(z.string(), z.array(z.string()))).min(1),
  responses: z.record(
    z.string().regex(/^([1-5]\d\d|default)$/),
    z.strictObject({ description: z.string().min(1), content: content.optional() }),
  ),
})
const documentSchema = z.strictObject({
  openapi: z.literal('3.1.0'),
  info: z.strictObject({ title: z.string(), version: z.string(), description: z.string() }),
  components: z.strictObject({
    schemas: z.record(z.string(), jsonSchema),
    securitySchemes: z.record(z.string(), z.looseObject({ type: z.enum(['http', 'apiKey']) })),
  }),
  paths: z.record(
    z.string().startsWith('/'),
    z.record(z.enum(['get', 'post', 'put', 'patch', 'delete']), operationSchema.optional()),
  ),
})

const operations = () =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) =>
      operation === undefined ? [] : [{ path, method: method.toUpperCase(), operation }],
    ),
  )

describe('GET /openapi.json', () => {
  it('describes every route of the contract', () => {
    expect(operations().map(({ method, path }) => `${method} ${path}`)).toEqual(
      expect.arrayContaining([
        'POST /v1/traces',
        'POST /api/v1/usage',
        'GET /api/v1/usage',
        'GET /api/v1/costs/aggregate',
        'GET /api/v1/usage.csv',
        'POST /usage',
        'GET /tenant/{tenant_id}/summary',
        'GET /tenant/{tenant_id}/daily',
        'GET /provider/{provider}/models',
        'GET /api/v1/prices/unpriced',
      ]),
    )
  })

  it('is a valid OpenAPI 3.1 document', () => {
    for (const { path, method, operation } of operations()) {
      const { parameters = [], security, requestBody, responses } = operation
      const named = parameters.map((parameter) => `${parameter.in} ${parameter.name}`)
      expect([method, path, new Set(named).size]).toEqual([method, path, named.length])
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => `path ${name}`)
      expect(named.filter((name) => name.startsWith('path '))).toEqual(inPath)
      for (const requirement of security) {
        expect(Object.keys(document.components.securitySchemes)).toEqual(
          expect.arrayContaining(Object.keys(requirement)),
        )
      }
      const schemas = [
        ...parameters.map(({ schema }) => schema),
        ...[requestBody, ...Object.values(responses)].flatMap((body) =>
          Object.values(body?.content ?? {}).map(({ schema }) => schema),
        ),
      ]
      for (const schema of schemas) expect(() => z.fromJSONSchema(schema)).not.toThrow()
    }
    // Nothing points out of the document, or to what is not in it.
    expect(JSON.stringify(document)).not.toContain('"$ref"')
  })

  it('describes problems by their content type', () => {
    for (const { operation } of operations()) {
      for (const [status, response] of Object.entries(operation.responses)) {
        if (!/^[45]|default/.test(status)) continue
        expect(Object.keys(response.content ?? {})).toEqual(['application/problem+json'])
      }
      expect(operation.responses['default']).toBeDefined()
    }
  })

  it('holds the very schema that events are checked by', () => {
    const schema = document.paths['/api/v1/usage']?.post?.requestBody?.content['application/json']?.schema
    const body = z.fromJSONSchema(schema ?? {})
    const valid = [EVENT, [EVENT], { events: [EVENT] }, []]
    const wrong = [
      {},
      { ...EVENT, prompt: 'x' },
      { ...EVENT, input_tokens: -1 },
      { ...EVENT, ts: 'now' },
      [{ ...EVENT, status: 'fine' }],
      { events: EVENT },
    ]
    expect(valid.map((value) => body.safeParse(value).success)).toEqual(valid.map(() => true))
    expect(wrong.map((value) => body.safeParse(value).success)).toEqual(wrong.map(() => false))
  })
})

/** Corrects an event. @returns the correction's id */
async function correct(eventId: string): Promise<string> {
  const body = { reason: 'documented', select: { event_ids: [eventId] }, change: { void: true } }
  return z.object({ id: z.string() }).parse((await call(service, '/api/v1/corrections', { body })).json).id
}

/** An alert, as if something had happened. @returns its id */
async function fireAlert(): Promise<string> {
  const { rows } = await database.pool.query<{ alert_id: string }>(
    `insert into alert (organization_id, alert_id, kind, subject_key, period_start, period_end, threshold, state, fired_at, details)
     select id, gen_random_uuid(), 'dead_letters', 'usage', now(), now() + interval '1 day', 0, 'fired', now(), $1
     from organization
     returning alert_id`,
    [{ kind: 'dead_letters', door: 'usage', letters: 1 }],
  )
  return rows[0]?.alert_id ?? ''
}

/** An invoice with a line, as if a cycle of its customer had been closed. @returns its id */
function closedCycle(status: InvoiceStatus, total = '0'): Promise<string> {
  const lines = [usageLine(1, 'Usage', '0', { keys: { model: 'm' }, events: 0, quantity: '0' })]
  return insertInvoice(database.pool, { customer: randomUUID(), status, total, lines })
}

/** A step of the outbox that waits for a person. */
async function refuseStep(): Promise<void> {
  await database.pool.query(
    `insert into outbox_step (organization_id, system, stream, step_no, about, action, payload, idempotency_key, status,
       created_at)
     select id, 'stripe', 'documented', 1, 'invoice', 'act', '{}', 'documented', 'refused', now() from organization`,
  )
}

/** A finalized invoice with a correction after it, and a credit note on it. */
async function invoiceAndNote() {
  const event = { ...EVENT, event_id: 'billed', customer_id: 'billed', ts: '2026-10-15T12:00:00Z' }
  submissionOf(await sendUsage(service, event))
  const customer = 'billed'
  const lines = [{ amount: '10' }]
  const invoiceId = await insertFinalizedInvoice(database.pool, { customer, lines })
  const note = await call(service, `/api/v1/invoices/${invoiceId}/credit-notes`, {
    body: { reason: 'documented', lines: [{ line_no: 1, amount: '1' }] },
  })
  const { id: noteId } = z.object({ id: z.string() }).parse(note.json)
  return { invoiceId, noteId, correctionId: await correct('billed') }
}

/** A recommendation, as if traffic had led to it. @returns its id */
async function recommend(): Promise<string> {
  const { rows } = await database.pool.query<{ recommendation_id: string }>(
    `insert into recommendation (organization_id, recommendation_id, kind, scope_dimension, subject, alternative,
       saving_usd, saving_low_usd, saving_high_usd, confidence, events, computation, sample_event_ids, first_seen_at,
       computed_at, is_current)
     select id, gen_random_uuid(), 'retries_and_errors', 'organization', $1, $2, 3, 2, 4, 'high', 5, $3, '{}', now(),
       now(), true
     from organization
     returning recommendation_id`,
    [
      { provider: 'openai', model: 'gpt-4o', service_tier: null },
      { provider: null, model: null, service_tier: null, note: null },
      {
        window: { start: '2026-10-01T00:00:00Z', end: '2026-10-29T00:00:00Z' },
        prices_at: '2026-10-29T00:00:00Z',
        formula: 'x',
        current_usd: '3',
        alternative_usd: '0',
        saved_usd: '3',
        month_days: 30,
        interval: 'x',
        history: { every: 'day', saved_usd: ['3'] },
        price_version_ids: [],
        assumption: null,
        others: [],
        query: '/api/v1/usage',
      },
    ],
  )
  return rows[0]?.recommendation_id ?? ''
}

describe('every documented route', () => {
  const BODIES: Readonly<Record<string, unknown>> = {
    'POST /api/v1/keys': { name: 'documented', scopes: ['read'] },
    'POST /api/v1/invoices/simulate': { rules: [] },
    'PUT /api/v1/billing-profiles/{customer_id}': { starts_on: '2026-11-01' },
    'PUT /api/v1/invoicing-settings': { name: 'documented' },
    'POST /api/v1/budgets': { name: 'documented', amount: '5', period: 'day' },
    'POST /api/v1/customers/{customer_id}/credit': { amount: '5', idempotency_key: 'documented' },
    'PUT /api/v1/customers/{customer_id}/credit/auto-refill': { auto_refill: null },
    'PUT /api/v1/billing-systems/{name}': { settings: {} },
    'POST /api/v1/outbox/retry': { stream: 'documented' },
    'POST /api/v1/policies/apply': { policies: [{ name: 'p', scope: 'team:*', limit: '$5/day' }] },
    'POST /api/v1/holds': {
      event_id: 'held',
      provider: 'openai',
      model: 'gpt-4o-mini',
      max_output_tokens: 10,
    },
    'POST /api/v1/holds/{id}/settle': { released: true },
    'PUT /api/v1/budgets/{id}': { name: 'renamed', amount: '5', period: 'day' },
    'POST /api/v1/alerts/ack': { budget_id: 'none' },
    'POST /api/v1/alerts/{id}/snooze': { until: new Date(Date.now() + 3_600_000).toISOString() },
    'POST /api/v1/alert-settings': { anomaly_min_usd: '5' },
    'POST /api/v1/channels': { kind: 'webhook', name: 'documented', target: HOOK },
    'PATCH /api/v1/channels/{id}': { enabled: false },
    'POST /api/v1/invoices/close': {},
    'POST /api/v1/prices': {
      provider: 'nobody',
      model: 'm',
      rates: { input_tokens: { price: '1', per: 1_000_000 } },
    },
    'POST /api/v1/corrections': {
      reason: 'documented',
      select: { event_ids: [EVENT.event_id] },
      change: { set: { team_id: 'growth' } },
      preview: true,
    },
    'POST /api/v1/fx-rates': {
      source: 'desk',
      published_at: '2026-11-01T09:00:00Z',
      units_per_eur: { USD: '1.0870' },
    },
    'PUT /api/v1/customers/{customer_id}': { currency: 'USD' },
    'POST /api/v1/invoices/{id}/credit-notes': { reason: 'documented', lines: [{ line_no: 1, amount: '1' }] },
    'POST /api/v1/payouts': { recipient: 'documented', amount: '5', currency: 'EUR' },
    'POST /api/v1/reconciliation/imports': vendorPage('documented'),
    'PUT /api/v1/reconciliation/vendors/{vendor}': { metered_keys: ['key_a'] },
    'POST /api/v1/prices/refreshes': priceFile(3),
    'POST /api/v1/prices/refreshes/{id}/approve': { models: [{ provider: 'vendor', model: 'a' }] },
    'POST /api/v1/prices/refreshes/{id}/reject': { models: [{ provider: 'vendor', model: 'b' }] },
    'POST /api/v1/markup-rules': { customer: 'documented', markup: 0.1 },
    'PUT /api/v1/markup-rules/{id}': { minimum: 0.1 },
    'POST /api/v1/markup-rules/apply': { rules: [] },
    'POST /api/v1/markup-rules/preview': { rules: [] },
    'POST /api/v1/recommendations/{id}/dismiss': { reason: 'documented' },
    'PUT /api/v1/advice/model-alternatives': {
      model_alternatives: [{ provider: 'openai', model: 'gpt-4o', alternatives: [{ model: 'gpt-4o-mini' }] }],
    },
    'PUT /api/v1/commitments/offers': {
      offers: [
        {
          id: 'o',
          kind: 'provisioned_throughput',
          provider: 'openai',
          model: 'gpt-4o-mini',
          tokens_per_minute: 1000,
          price_per_hour: '1',
        },
        { id: 't', kind: 'committed_spend', provider: 'openai', monthly_usd: '1', discount: '0.1' },
      ],
    },
    'PUT /api/v1/commitments': {
      commitments: [
        {
          id: 't',
          kind: 'committed_spend',
          provider: 'openai',
          monthly_usd: '1',
          discount: '0.1',
          valid_from: '2026-01-01',
        },
      ],
    },
    'POST /api/v1/usage': { ...EVENT, event_id: 'another' },
    'POST /v1/traces': { resourceSpans: [] },
    'POST /usage': {
      tenant_id: 'acme',
      provider: 'openai',
      model: 'gpt-4o-mini',
      prompt_tokens: 1,
      completion_tokens: 1,
    },
  }

  /** Models of which the price waits for a person when it changes. */
  function priceFile(price: number): object {
    const models = ['a', 'b'].map((id) => ({ id, match: { equals: id }, prices: { input_mtok: price } }))
    return [{ id: 'vendor', models }]
  }

  /** A page of OpenAI's usage. */
  function vendorPage(key: string): object {
    const result = { object: 'organization.usage.completions.result', model: 'gpt-4o-mini', api_key_id: key }
    return {
      data: [{ start_time: 1_793_491_200, results: [{ ...result, input_tokens: 1, output_tokens: 1 }] }],
    }
  }

  async function waitingRefresh(): Promise<string> {
    await call(service, '/api/v1/prices/refreshes', { body: priceFile(1) })
    const { json } = await call(service, '/api/v1/prices/refreshes', { body: priceFile(3) })
    return z.object({ id: z.string(), status: z.literal('waiting') }).parse(json).id
  }

  it('answers as documented, asks for a key, and refuses what is not documented', async () => {
    const values: Readonly<Record<string, string>> = {
      '{id}': (await createKey(service, ['read'])).id,
      '{event_id}': EVENT.event_id,
      '{line_no}': '1',
      '{tenant_id}': 'acme',
      '{customer_id}': 'paying',
      '{provider}': 'openai',
      '{name}': 'stripe',
      '{vendor}': 'openai',
      '{correction_id}': await correct('second'),
    }
    const billed = await invoiceAndNote()
    const created = async (url: string, body: object) =>
      z.object({ id: z.string() }).parse((await call(service, url, { body })).json).id
    const ids: Readonly<Record<string, string>> = {
      '/api/v1/budgets': await created('/api/v1/budgets', { name: 'b', amount: '1', period: 'month' }),
      '/api/v1/holds': await created('/api/v1/holds', {
        event_id: 'h',
        provider: 'openai',
        estimate_usd: '1',
      }),
      '/api/v1/prices/refreshes': await waitingRefresh(),
      '/api/v1/channels': await created('/api/v1/channels', { kind: 'webhook', name: 'c', target: HOOK }),
      '/api/v1/alerts': await fireAlert(),
      '/api/v1/invoices': billed.invoiceId,
      '/api/v1/recommendations': await recommend(),
      '/api/v1/reconciliation/imports': await created('/api/v1/reconciliation/imports', vendorPage('first')),
      '/api/v1/credit-notes': billed.noteId,
      '/api/v1/payouts': await created('/api/v1/payouts', { recipient: 'o', amount: '1', currency: 'EUR' }),
    }
    /** What only an invoice in the right state is for. */
    const own: Readonly<Record<string, string>> = {
      'POST /api/v1/invoices/{id}/finalize': await closedCycle('draft'),
      'POST /api/v1/invoices/{id}/void': await closedCycle('draft'),
      'POST /api/v1/invoices/{id}/reissue': await closedCycle('void'),
      'POST /api/v1/invoices/{id}/recalculate': await closedCycle('draft'),
      'POST /api/v1/invoices/{id}/carry-forward': await closedCycle('blocked', '-1'),
    }
    const bodies = {
      ...BODIES,
      'POST /api/v1/credit-notes': { correction_id: billed.correctionId, preview: true },
    }
    // A rule of the name that every other {id} stands for.
    await call(service, '/api/v1/markup-rules', { body: { id: values['{id}'], discount: 0.5 } })
    await call(service, '/api/v1/customers/paying/credit', { body: { amount: '1' } })
    await call(service, '/api/v1/billing-systems/stripe', {
      method: 'PUT',
      body: { secrets: { api_key: 'sk_test_fake' } },
    })
    await refuseStep()
    await call(service, '/api/v1/billing-profiles/paying', {
      method: 'PUT',
      body: { starts_on: '2026-11-01' },
    })
    await call(service, '/api/v1/reconciliation/vendors/openai', { method: 'PUT', body: {} })
    // What is deleted last was there for all others.
    const ordered = operations().toSorted(
      (a, b) => Number(a.method === 'DELETE') - Number(b.method === 'DELETE'),
    )
    for (const { path, method, operation } of ordered) {
      const name = `${method} ${path}`
      const url = path.replaceAll(
        /\{\w+\}/g,
        (parameter, at: number) => own[name] ?? ids[path.slice(0, at - 1)] ?? values[parameter] ?? 'unknown',
      )
      // A stream has no end that could be waited for; test/contract/decisions.test.ts reads it.
      if (operation.responses['200']?.content?.['text/event-stream'] !== undefined) continue
      const body = new Map<string, unknown>(Object.entries(bodies)).get(name)
      expect([name, body !== undefined]).toEqual([name, operation.requestBody !== undefined])
      const answer = await call(service, url, { method, ...(body !== undefined && { body }) })
      const documented = operation.responses[answer.status]
      expect([name, answer.status, documented !== undefined]).toEqual([name, answer.status, true])
      expect([name, answer.status < 300]).toEqual([name, true])
      const mediaType = answer.headers.get('content-type')?.split(';')[0] ?? ''
      if (answer.text !== '') {
        const described = documented?.content?.[mediaType]
        expect([name, mediaType, described !== undefined]).toEqual([name, mediaType, true])
        const checked = z.fromJSONSchema(described?.schema ?? {}).safeParse(answer.json ?? answer.text)
        expect([name, checked.error?.issues]).toEqual([name, undefined])
      }
      problemOf(await call(service, url, { method, key: null, ...(body !== undefined && { body }) }), 401)
      if (
        path.startsWith('/api/v1/') &&
        operation.parameters?.some((parameter) => parameter.in === 'query')
      ) {
        problemOf(await call(service, `${url}?undocumented=1`, { method }), 400)
      }
    }
  })
})

describe('GET /docs', () => {
  it('is a page whose every part comes from the service itself', async () => {
    const page = await call(service, '/docs', { key: null })
    expect(page.headers.get('content-type')).toMatch(/^text\/html/)
    const parts = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url ?? '')
    expect(parts.length).toBeGreaterThan(3)
    for (const part of parts) {
      expect(part).toMatch(/^\.?\//)
      const url = new URL(part, `${service.url}/docs/`)
      expect([part, (await fetch(url)).status]).toEqual([part, 200])
    }
  })
})

describe('GET /metrics', () => {
  it('is in the format of Prometheus and counts what happened', async () => {
    const value = async (name: string) => {
      const { text } = await call(service, '/metrics', { key: null })
      const line = text.split('\n').find((one) => one.startsWith(`tokentally_${name} `))
      return Number(line?.split(' ').at(-1))
    }
    const counters = [
      'ingested_events_total',
      'duplicate_events_total',
      'ignored_spans_total',
      'dead_letters_total',
    ]
    const read = () =>
      Promise.all(
        [
          ...counters,
          'rejected_events_total{reason="invalid"}',
          'rejected_events_total{reason="conflict"}',
        ].map(value),
      )
    const before = await read()
    await sendUsage(service, [
      { ...EVENT, event_id: 'counted' },
      EVENT,
      { ...EVENT, input_tokens: -1 },
      { ...EVENT, input_tokens: 1 },
    ])
    const span = { traceId: '0'.repeat(32), spanId: '0'.repeat(16) }
    await call(service, '/v1/traces', { body: { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] } })
    const after = await read()
    expect(after.map((count, index) => count - (before[index] ?? 0))).toEqual([1, 1, 1, 1, 1, 1])

    const { text, headers } = await call(service, '/metrics', { key: null })
    expect(headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
    for (const line of text.trimEnd().split('\n')) {
      expect(line).toMatch(
        /^$|^# (HELP|TYPE) \w+ .+$|^[a-zA-Z_:]\w*(\{\w+="[^"]*"(,\w+="[^"]*")*\})? ([Nn]a[Nn]|[+-]Inf|[-+\d.e]+)$/,
      )
    }
    for (const promised of [
      /^tokentally_rollup_lag_seconds \d/m,
      /^tokentally_open_batches \d/m,
      /^tokentally_queue_depth \d/m,
      /^tokentally_append_seconds_bucket\{le="0.005"\} \d/m,
      /^tokentally_request_seconds_count\{route="\/api\/v1\/usage",method="POST",status="200"\} \d/m,
      /^tokentally_process_cpu_seconds_total \d/m,
    ]) {
      expect(text).toMatch(promised)
    }
    // No customer's name, no id: those would make a series each.
    expect(text).not.toContain('acme')
    expect(text).not.toContain(EVENT.event_id)
  })
})

it('GET /healthz and GET /readyz say that all is well', async () => {
  expect((await call(service, '/healthz', { key: null })).status).toBe(200)
  expect((await call(service, '/readyz', { key: null })).status).toBe(200)
})
