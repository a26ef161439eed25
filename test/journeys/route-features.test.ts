import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Router from '@koa/router'
import * as forExpress from '@tokentally/express'
import * as forKoa from '@tokentally/koa'
import { openLocalReader } from '@tokentally/meter/local'
import express from 'express'
import Koa from 'koa'
import OpenAI from 'openai'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'

/** Real Express and Koa apps whose handlers call a provider; what is asserted stands in the ledger. */

let provider: FakeProvider
let directory = ''
let spool = ''

beforeAll(async () => {
  provider = await startFakeProvider({ port: 0 })
})
afterAll(() => provider.close())

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tokentally-routes-'))
  spool = join(directory, 'spool')
})
afterEach(async () => {
  await forExpress.shutdown().catch(() => undefined)
  rmSync(directory, { recursive: true, force: true })
})

const options = () => ({ spool, url: '', endpoints: `${provider.url}/v1=openai` })

async function ask(): Promise<string> {
  const client = new OpenAI({ apiKey: 'k', baseURL: `${provider.url}/v1`, maxRetries: 0 })
  await client.chat.completions.create({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Hi' }] })
  return 'done'
}

/** Serves the app while `paths` are asked for, one after the other. @returns the features of the calls made */
async function featuresOf(app: RequestListener, paths: readonly string[]): Promise<(string | undefined)[]> {
  const server = createServer(app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  for (const path of paths) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`)
    expect(`${path} ${response.status} ${await response.text()}`).toBe(`${path} 200 done`)
  }
  server.closeAllConnections()
  server.close()
  return (await storedEvents()).map((event) => event.feature)
}

async function storedEvents() {
  await forExpress.flush()
  const reader = openLocalReader(join(directory, 'usage.sqlite'))
  const events = await Array.fromAsync(reader.events({ startMs: 0, endMs: Date.now() + 1000 }))
  reader.close()
  return events.map(({ event }) => event)
}

describe('Express', () => {
  const answer = async (_req: express.Request, res: express.Response) => {
    res.send(await ask())
  }

  test('the feature is the pattern of the route, with its routers', async () => {
    const app = express().use(forExpress.tokenTally(options()))
    app.get('/', answer)
    app.get('/chat/:id', answer)
    app.get(['/a', '/b/:x'], answer)
    app.get(/^\/files\/(.+)$/, answer)
    const inner = express.Router().get('/', answer).get('/:id/summary', answer)
    const merging = express.Router({ mergeParams: true }).get('/chat/:id', answer)
    app.use('/docs', express.Router().use('/v1', inner))
    app.use('/tenants/:tenant', merging)
    const paths = ['/', '/chat/42?x=1', '/b/7', '/files/a/b.txt', '/docs/v1/', '/docs/v1/9/summary']
    expect(await featuresOf(app, [...paths, '/tenants/acme%20inc/chat/acme'])).toEqual([
      '/',
      '/chat/:id',
      '/a|/b/:x',
      String.raw`/^\/files\/(.+)$/`,
      '/docs/v1',
      '/docs/v1/:id/summary',
      '/tenants/:tenant/chat/:id',
    ])
  })

  test('a call before the route has no feature, the one after it has', async () => {
    const app = express().use(forExpress.tokenTally(options()))
    app.use(async (_req, _res, next) => {
      await ask()
      next()
    })
    app.get('/chat/:id', answer)
    expect(await featuresOf(app, ['/chat/1'])).toEqual([undefined, '/chat/:id'])
  })

  test('a feature that the app names wins, and one that it leaves out is none', async () => {
    const app = express().use(
      forExpress.tokenTally({ ...options(), feature: (req) => req.get('x-feature') ?? undefined }),
    )
    app.get('/none', answer)
    app.get('/within', (_req, res) =>
      forExpress.attribute({ feature: 'named' }, async () => res.send(await ask())),
    )
    expect(await featuresOf(app, ['/none', '/within'])).toEqual([undefined, 'named'])
  })

  test('nested attribute() adds agent and conversation, the innermost wins, and siblings do not mix', async () => {
    const app = express().use(forExpress.tokenTally({ ...options(), customer: 'acme' }))
    app.get('/run/:id', async (req, res) => {
      await forExpress.attribute({ conversation: `c-${req.params.id}` }, async () => {
        await Promise.all([
          forExpress.attribute({ agent: 'writer' }, ask),
          forExpress.attribute({ agent: 'researcher' }, () =>
            forExpress.attribute({ agent: 'reader', feature: 'read' }, ask),
          ),
        ])
        await ask()
      })
      await ask()
      res.send('done')
    })
    await featuresOf(app, ['/run/1'])
    const seen = (await storedEvents())
      .map((event) => [event.customer_id, event.conversation_id, event.agent, event.feature])
      .map((values) => values.map((value) => value ?? '-').join(' '))
    expect(seen.sort()).toEqual([
      'acme - - /run/:id',
      'acme c-1 - /run/:id',
      'acme c-1 reader read',
      'acme c-1 writer /run/:id',
    ])
  })
})

describe('Koa', () => {
  const answer = async (ctx: { body: unknown }) => {
    ctx.body = await ask()
  }

  test('the feature is the pattern of the route, with its prefixes', async () => {
    const app = new Koa().use(forKoa.tokenTally(options()))
    const nested = new Router().get('/:id/summary', answer)
    const router = new Router({ prefix: '/v1' })
      .get('/', answer)
      .get('/chat/new', answer)
      .get('/chat/:id', answer)
      .get(/\/files\/(.+)$/, answer)
      .use('/docs/:doc', nested.routes())
    app.use(router.routes())
    const paths = ['/v1', '/v1/chat/new', '/v1/chat/42?x=1', '/v1/files/a/b.txt', '/v1/docs/7/9/summary']
    const features = await featuresOf(app.callback(), paths)
    expect(features.filter((_, index) => index !== 3)).toEqual([
      '/v1',
      '/v1/chat/new',
      '/v1/chat/:id',
      '/v1/docs/:doc/:id/summary',
    ])
    expect(features[3]).toContain('files')
  })

  test('a call without a route has no feature, also in middleware of the router', async () => {
    const app = new Koa().use(forKoa.tokenTally(options()))
    const router = new Router()
      .use(async (_ctx, next) => {
        await ask()
        await next()
      })
      .get('/chat/:id', answer)
    app.use(router.routes()).use(answer)
    expect(await featuresOf(app.callback(), ['/chat/1', '/elsewhere'])).toEqual([
      undefined,
      '/chat/:id',
      undefined,
    ])
  })

  test('a feature that the app names wins', async () => {
    const app = new Koa().use(forKoa.tokenTally({ ...options(), feature: 'assistant' }))
    app.use(new Router().get('/chat/:id', answer).routes())
    expect(await featuresOf(app.callback(), ['/chat/1'])).toEqual(['assistant'])
  })
})
