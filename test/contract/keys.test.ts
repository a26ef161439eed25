import { createHash, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, problemOf, storesNothing, stream } from './api-client.ts'

/** Authentication, as CONTRACT.md describes it. */

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

const event = { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1 }

/** One route of each scope, with what it is called with. */
const ROUTES: readonly [scope: string, path: string, call: { method?: string; body?: unknown }][] = [
  ['ingest', '/api/v1/usage', { body: event }],
  ['ingest', '/v1/traces', { body: { resourceSpans: [] } }],
  ['ingest', '/usage', { body: {} }],
  ['read', '/api/v1/usage', {}],
  ['read', '/api/v1/usage/some-id', {}],
  ['read', '/api/v1/costs/aggregate', {}],
  ['read', '/api/v1/usage.csv', {}],
  ['read', '/tenant/acme/summary', {}],
  ['read', '/tenant/acme/daily', {}],
  ['read', '/provider/openai/models', {}],
  ['read', '/api/v1/prices', {}],
  ['read', '/api/v1/prices/unpriced', {}],
  ['write', '/api/v1/prices', { body: {} }],
  ['admin', '/api/v1/keys', {}],
  ['admin', '/api/v1/keys', { body: {} }],
  ['admin', `/api/v1/keys/${randomUUID()}`, { method: 'DELETE' }],
  ['admin', '/api/v1/dead-letters', {}],
  ['admin', '/api/v1/dead-letters/replay', { method: 'POST' }],
]

describe('a key', () => {
  it.each(ROUTES)('is needed for %s: %s %j', async (_, path, options) => {
    await storesNothing(database.pool, async () => {
      const missing = await call(service, path, { ...options, key: null })
      expect(problemOf(missing, 401).detail).toContain('Authorization: Bearer')
      expect(missing.headers.get('www-authenticate')).toMatch(/^Bearer /)
      for (const key of ['tt_wrong', `${service.ownerKey}x`, service.ownerKey.slice(0, -1)]) {
        problemOf(await call(service, path, { ...options, key }), 401)
      }
    })
  })

  it('may come as Authorization or as x-tokentally-key', async () => {
    const { ownerKey } = service
    const spellings = [
      { authorization: `Bearer ${ownerKey}` },
      { authorization: `bearer  ${ownerKey}` },
      { 'x-tokentally-key': ownerKey },
      { 'X-TokenTally-Key': ownerKey },
    ]
    for (const headers of spellings) {
      const answer = await call(service, '/api/v1/usage', { key: null, headers })
      expect([headers, answer.status]).toEqual([headers, 200])
    }
    const others = [
      { authorization: ownerKey },
      { authorization: `Basic ${btoa(`x:${ownerKey}`)}` },
      { authorization: 'Bearer' },
      { authorization: '' },
      { 'x-tokentally-key': '' },
      { cookie: `key=${ownerKey}` },
    ]
    for (const headers of others) {
      problemOf(await call(service, '/api/v1/usage', { key: null, headers }), 401)
    }
    problemOf(await call(service, `/api/v1/usage?key=${ownerKey}`, { key: null }), 401)
  })

  it.each(['ingest', 'read', 'write', 'admin'])('with the scope %s opens what it names', async (scope) => {
    const { key } = await createKey(service, [scope])
    for (const [needed, path, options] of ROUTES) {
      const answer = await call(service, path, { ...options, key })
      const isAllowed = scope === needed || scope === 'admin'
      expect([needed, path, [401, 403].includes(answer.status)]).toEqual([needed, path, !isAllowed])
      if (!isAllowed) expect(problemOf(answer, 403).detail).toContain(`"${needed}"`)
      expect(answer.status).toBeLessThan(500)
    }
  })

  it('with two scopes opens both', async () => {
    const { key } = await createKey(service, ['ingest', 'read'])
    expect((await call(service, '/api/v1/usage', { key, body: event })).status).toBe(200)
    expect((await call(service, '/api/v1/usage', { key })).status).toBe(200)
    problemOf(await call(service, '/api/v1/keys', { key }), 403)
  })

  it('that is revoked opens nothing any more', async () => {
    const { id, key } = await createKey(service, ['admin'])
    expect((await call(service, '/api/v1/usage', { key, body: event })).status).toBe(200)
    expect((await call(service, `/api/v1/keys/${id}`, { method: 'DELETE' })).status).toBe(204)
    await storesNothing(database.pool, async () => {
      problemOf(await call(service, '/api/v1/usage', { key, body: event }), 401)
    })
    problemOf(await call(service, '/api/v1/usage', { key }), 401)
    problemOf(await call(service, `/api/v1/keys/${id}`, { method: 'DELETE' }), 404)
  })

  it('is stored as a hash only', async () => {
    const { id, key } = await createKey(service, ['read'])
    const { rows } = await database.pool.query(
      'select key_hash, api_key::text as text from api_key where id = $1',
      [id],
    )
    expect(rows[0].key_hash).toEqual(createHash('sha256').update(key).digest())
    expect(rows[0].text).not.toContain(key)
    const listed = await call(service, '/api/v1/keys')
    expect(listed.text).toContain(id)
    expect(listed.text).not.toContain(key)
  })

  it('is asked for before a body of 100 MiB is', async () => {
    function* chunks() {
      for (let index = 0; index < 100; index++) yield Buffer.alloc(1024 * 1024)
    }
    const answer = await stream(service, '/api/v1/usage', { authorization: 'Bearer wrong' }, chunks())
    expect(answer.status).toBe(401)
  })
})

it.each(['/healthz', '/readyz', '/metrics', '/openapi.json', '/docs'])('%s needs no key', async (path) => {
  expect((await call(service, path, { key: null })).status).toBe(200)
})

describe('every error is a problem', () => {
  it.each([
    ['an unknown route', '/api/v2/usage', {}, 404],
    ['an unknown method', '/api/v1/usage', { method: 'PUT' }, 404],
    ['a path that is not encoded', '/api/v1/usage/%ff', {}, 400],
    ['a scope that is none', '/api/v1/keys', { body: { name: 'x', scopes: ['owner'] } }, 400],
    ['a body that is no JSON', '/api/v1/keys', { body: '{' }, 400],
    ['a body of another type', '/api/v1/keys', { body: '{}', headers: { 'content-type': 'text/csv' } }, 415],
    ['an id that is none', '/api/v1/keys/7', { method: 'DELETE' }, 400],
  ])('%s', async (_, path, options, status) => {
    problemOf(await call(service, path, options), status)
  })
})
