import { access, glob, readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { METERS, parseUsageEvent, usageEventSchema } from '@tokentally/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { readOptions } from '../../packages/meter/src/options.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'

/** The reference pages, held against the program: nothing is missing there, and nothing is made up. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const read = (path: string) => readFile(join(ROOT, path), 'utf8')

let database: TestDatabase
let service: TestService

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  const event = { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1200, output_tokens: 300 }
  await post('/api/v1/usage', { ...event, ts: '2026-11-20T09:30:00Z', customer_id: 'acme' })
})

afterAll(async () => {
  await service.stop()
  await database.drop()
})

async function post(path: string, body: object): Promise<unknown> {
  const response = await fetch(service.url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  expect(response.ok).toBe(true)
  return response.json()
}

/** The rows of every table of a page, by what stands in code in their first cell. */
function rowsOf(markdown: string): { names: string[]; cells: string[] }[] {
  return markdown
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => {
      const cells = line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, ''))
      return { names: [...(cells[0] ?? '').matchAll(/`([^`]+)`/g)].map(([, name = '']) => name), cells }
    })
}

function section(markdown: string, heading: string): string {
  const start = markdown.indexOf(`\n## ${heading}\n`)
  expect(start, heading).toBeGreaterThan(-1)
  const end = markdown.indexOf('\n## ', start + 1)
  return markdown.slice(start, end === -1 ? undefined : end)
}

describe('docs/reference/api.md', () => {
  const routeSchema = z.object({ security: z.array(z.unknown()).optional() })
  const openapiSchema = z.object({ paths: z.record(z.string(), z.record(z.string(), routeSchema)) })

  const documented = async () =>
    [
      ...(await read('docs/reference/api.md')).matchAll(/^### (.*) \(scope (`\w+`(?: or `\w+`)?)\)$/gm),
    ].flatMap(([, routes = '', scope = '']) =>
      [...routes.matchAll(/`([A-Z]+) ([^`]+)`/g)].map(([, method = '', path = '']) => ({
        method,
        path,
        scopes: [...scope.matchAll(/\w+/g)].map(([name]) => name).filter((name) => name !== 'or'),
      })),
    )

  test('has every route of the OpenAPI document', async () => {
    const { paths } = openapiSchema.parse(await (await fetch(`${service.url}/openapi.json`)).json())
    const served = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    expect((await documented()).map(({ method, path }) => `${method} ${path}`).sort()).toEqual(served.sort())
  })

  test('names the scope of every route', async () => {
    const keySchema = z.object({ key: z.string() })
    const keys = {
      read: keySchema.parse(await post('/api/v1/keys', { name: 'reader', scopes: ['read'] })).key,
      ingest: keySchema.parse(await post('/api/v1/keys', { name: 'sender', scopes: ['ingest'] })).key,
      write: keySchema.parse(await post('/api/v1/keys', { name: 'writer', scopes: ['write'] })).key,
    }
    for (const { method, path, scopes } of await documented()) {
      const [, key = ''] = Object.entries(keys).find(([name]) => !scopes.includes(name)) ?? []
      const response = await fetch(service.url + path.replaceAll(/\{\w+\}/g, 'x'), {
        method,
        headers: { authorization: `Bearer ${key}` },
      })
      const { detail } = z.object({ detail: z.string() }).parse(await response.json())
      expect(`${method} ${path}: ${detail}`).toContain(
        `the scope ${scopes.map((scope) => `"${scope}"`).join(' or ')}`,
      )
    }
  })

  test('answers without a key what it says', async () => {
    const routes = [
      ...section(await read('docs/reference/api.md'), 'Without a key').matchAll(/`GET ([^`]+)`/g),
    ]
    expect(routes).toHaveLength(5)
    for (const [, path] of routes) expect((await fetch(service.url + path)).status, path).toBe(200)
  })

  test('has examples that are JSON', async () => {
    const blocks = [...(await read('docs/reference/api.md')).matchAll(/```json\n([\s\S]*?)```/g)]
    expect(blocks.length).toBeGreaterThan(10)
    for (const [, text = ''] of blocks) expect(() => JSON.parse(text), text).not.toThrow()
  })
})

describe('docs/reference/usage-event.md', () => {
  test('has every field, in the order of the schema', async () => {
    const [fields = ''] = (await read('docs/reference/usage-event.md')).split('\n## ')
    expect(rowsOf(fields).flatMap(({ names }) => names)).toEqual(Object.keys(usageEventSchema.shape))
  })

  test('has every part of a whole', async () => {
    const rows = rowsOf(section(await read('docs/reference/usage-event.md'), 'Meters'))
    const documented = rows.flatMap(({ names, cells }) =>
      names.map((name) => [name, cells[1]?.replaceAll('`', ''), cells[2]?.replaceAll('`', '')]),
    )
    const defined = Object.entries(METERS).flatMap(([name, { partOf, pricedAs }]) =>
      partOf === undefined ? [] : [[name, partOf, pricedAs]],
    )
    expect(documented.toSorted()).toEqual(defined.toSorted())
  })

  test('has an example that is taken', async () => {
    const [, text = ''] = /```json\n([\s\S]*?)```/.exec(await read('docs/reference/usage-event.md')) ?? []
    const nowMs = Date.UTC(2026, 10, 24)
    expect(parseUsageEvent(JSON.parse(text), { nowMs, newEventId: () => 'x' })).toMatchObject({ ok: true })
  })
})

test('docs/reference/meter-options.md has every option and every variable', async () => {
  const [table = ''] = (await read('docs/reference/meter-options.md')).split('\n## ')
  let known = ''
  try {
    const unknown: object = { nonsense: true }
    readOptions(unknown, {})
  } catch (error) {
    known = error instanceof TypeError ? error.message : ''
  }
  const options = known.split('known: ')[1]?.split(', ') ?? []
  expect(options).not.toEqual([])
  expect(
    rowsOf(table)
      .flatMap(({ names }) => names)
      .sort(),
  ).toEqual(options.sort())

  const source = await read('packages/meter/src/options.ts')
  const variables = new Set([...source.matchAll(/environment\['(\w+)'\]/g)].map(([, name]) => name))
  expect(new Set([...table.matchAll(/`(TOKENTALLY_\w+)`/g)].map(([, name]) => name))).toEqual(variables)
})

test('docs/guides/opentelemetry.md has every attribute that is read', async () => {
  const guide = await read('docs/guides/opentelemetry.md')
  const source = await read('packages/core/src/usage/otel-attributes.ts')
  const names = new Set(
    [...source.matchAll(/'((?:gen_ai|openai|anthropic|llm|user|enduser|deployment|cloud)\.\w[\w.]*)'/g)].map(
      ([, name]) => name,
    ),
  )
  expect(names.size).toBeGreaterThan(20)
  for (const name of names) expect(guide).toContain(`\`${name}\``)
})

describe('docs/reference/ledger.md', () => {
  test('has every column of usage_ledger, with its type', async () => {
    const { rows } = await database.pool.query<{ name: string; type: string }>(
      `select column_name as name, replace(data_type, 'timestamp with time zone', 'timestamptz') as type
       from information_schema.columns where table_name = 'usage_ledger' order by ordinal_position`,
    )
    const documented = rowsOf(section(await read('docs/reference/ledger.md'), '`usage_ledger`'))
    expect(
      documented.map(({ names, cells }) => ({ name: names[0], type: cells[1]?.replaceAll('`', '') })),
    ).toEqual(rows)
  })

  test('has every table, and says of which the database refuses changes', async () => {
    const { rows } = await database.pool.query<{ name: string; refuses: boolean }>(
      `select relname as name, exists (
         select from pg_trigger where tgrelid = pg_class.oid and tgfoid = 'refuse_change'::regproc
       ) as refuses
       from pg_class
       where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
       order by 1`,
    )
    const documented = rowsOf(section(await read('docs/reference/ledger.md'), 'Tables')).flatMap(
      ({ names, cells }) => names.map((name) => ({ name, refuses: cells[2]?.replace(' |', '') === 'yes' })),
    )
    // The queue keeps tables of its own, in a schema of its own.
    expect(documented.toSorted((a, b) => (a.name < b.name ? -1 : 1))).toEqual(rows)
  })

  test('has statements that run', async () => {
    const statements = [...(await read('docs/reference/ledger.md')).matchAll(/```sql\n([\s\S]*?)```/g)]
    expect(statements.length).toBeGreaterThan(2)
    const client = await database.pool.connect()
    try {
      await client.query('begin')
      const results: unknown[] = []
      for (const [, text = ''] of statements) results.push(await client.query(text))
      expect(results[0]).toMatchObject({
        rows: [
          { customer_id: 'acme', metric_type: 'input_tokens', units: '1200', cost_usd: '0.00018' },
          { customer_id: 'acme', metric_type: 'output_tokens', units: '300', cost_usd: '0.00018' },
        ],
      })
      await client.query('rollback')
    } finally {
      client.release(true)
    }
  })
})

test('every link of the documentation leads somewhere', async () => {
  const pages = await Array.fromAsync(
    glob(['*.md', 'docs/**/*.md', 'examples/*/README.md', 'packages/*/README.md'], { cwd: ROOT }),
  )
  expect(pages.length).toBeGreaterThan(20)
  for (const page of pages) {
    for (const [, target = ''] of (await read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? join(ROOT, page) : join(ROOT, dirname(page), path)
      await expect(access(file), `${page} links to ${target}`).resolves.toBeUndefined()
      if (anchor === undefined) continue
      const headings = [...(await read(relative(ROOT, file))).matchAll(/^#+ (.*)$/gm)].map(
        ([, heading = '']) =>
          heading
            .toLowerCase()
            .replace(/[^\w -]/g, '')
            .replaceAll(' ', '-'),
      )
      expect(headings, `${page} links to ${target}`).toContain(anchor)
    }
  }
})
