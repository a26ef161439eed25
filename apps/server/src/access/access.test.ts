import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/harness/database.ts'
import type { App } from '../http/app.ts'
import { createApp } from '../http/server.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { authenticate, bootstrapOwner, registerAccessRoutes } from './index.ts'

let database: TestDatabase
let app: App
let ownerKey: string | undefined
let nowMs = Date.UTC(2026, 10, 1)

beforeAll(async () => {
  database = await createTestDatabase()
  const { pool } = database
  const keys = await Promise.all([bootstrapOwner(pool, undefined), bootstrapOwner(pool, undefined)])
  ownerKey = keys.find((key) => key !== undefined)
  expect(keys.filter((key) => key !== undefined)).toHaveLength(1)
  app = await createApp({
    logger: pino({ level: 'silent' }),
    metrics: createMetrics(),
    bodyMaxBytes: 1_000,
    version: '0',
  })
  registerAccessRoutes(app, { pool, cache: authenticate(app, { pool, nowMs: () => nowMs }) })
  app.get('/readable', { config: { scope: 'read' } }, async (request) => ({ id: request.organizationId }))
  await app.ready()
})

afterAll(async () => {
  await app.close()
  await database.drop()
})

async function createKey(scopes: readonly string[]): Promise<{ id: string; key: string }> {
  const answer = await app.inject({
    method: 'POST',
    url: '/api/v1/keys',
    headers: { authorization: `Bearer ${ownerKey}` },
    payload: { name: 'one', scopes },
  })
  expect(answer.statusCode).toBe(201)
  return answer.json()
}

test('without a key, or with a wrong one, the answer is 401 and names the scheme', async () => {
  for (const headers of [{}, { authorization: 'Bearer tt_wrong' }, { authorization: 'Basic eDp5' }]) {
    const answer = await app.inject({ url: '/readable', headers })
    expect(answer.statusCode).toBe(401)
    expect(answer.headers['www-authenticate']).toContain('Bearer')
    expect(answer.headers['content-type']).toContain('application/problem+json')
  }
})

test('a key opens what its scopes name, and nothing else; admin opens all', async () => {
  const reader = await createKey(['read'])
  const sender = await createKey(['ingest'])
  const statusFor = async (key: string | undefined) =>
    (await app.inject({ url: '/readable', headers: { 'x-tokentally-key': key ?? '' } })).statusCode
  expect(await statusFor(reader.key)).toBe(200)
  expect(await statusFor(sender.key)).toBe(403)
  expect(await statusFor(ownerKey)).toBe(200)
})

test('a revoked key stops working on every replica within a minute', async () => {
  const { id, key } = await createKey(['read'])
  const headers = { authorization: `Bearer ${key}` }
  expect((await app.inject({ url: '/readable', headers })).statusCode).toBe(200)
  await database.pool.query('update api_key set revoked_at = now() where id = $1', [id])
  nowMs += 60_000
  expect((await app.inject({ url: '/readable', headers })).statusCode).toBe(401)
})

test('only a hash of a key is stored', async () => {
  const { key } = await createKey(['read'])
  const { rows } = await database.pool.query('select k::text as text from api_key k')
  expect(JSON.stringify(rows)).not.toContain(key)
})

test('a body over the limit is answered with 413 and nothing is stored', async () => {
  const answer = await app.inject({
    method: 'POST',
    url: '/api/v1/keys',
    headers: { authorization: `Bearer ${ownerKey}` },
    payload: { name: 'x'.repeat(2_000), scopes: ['read'] },
  })
  expect(answer.statusCode).toBe(413)
  expect(answer.headers['content-type']).toContain('application/problem+json')
})
