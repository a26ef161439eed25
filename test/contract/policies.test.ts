import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { runCommandLine } from '../../apps/cli/src/program.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf } from './api-client.ts'

/** Policies: budgets and preferences of models as a file, checked and applied from the command line. */

let database: TestDatabase
let service: TestService
let directory: string
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api' })
  directory = await mkdtemp(join(tmpdir(), 'tokentally-policies-'))
})
afterAll(async () => {
  await service.stop()
  await database.drop()
  await rm(directory, { recursive: true, force: true })
})

const GOVERNANCE = `policies:
  - name: engineering-budget
    scope: team:engineering
    limit: $500/month
    alerts: [50%, 75%, 90%]
    enforcement: rate_limit
  - name: model-preference
    scope: team:*
    prefer: [claude-sonnet-4-5, gpt-4o-mini]
    fallback: claude-haiku-4-5
`

async function run(command: string, yaml: string, ...flags: string[]) {
  const path = join(directory, 'policies.yaml')
  await writeFile(path, yaml)
  let out = ''
  let err = ''
  const into = (write: (text: string) => void) =>
    new Writable({
      write(chunk, _encoding, done) {
        write(String(chunk))
        done()
      },
    })
  const code = await runCommandLine(['policies', command, path, ...flags], {
    stdout: into((text) => {
      out += text
    }),
    stderr: into((text) => {
      err += text
    }),
    environment: { TOKENTALLY_URL: service.url, TOKENTALLY_API_KEY: service.ownerKey },
    now: () => Date.now(),
    fetch,
  })
  return { code, out, err: err.replaceAll(`${directory}/`, '') }
}

const budgetsSchema = z.object({
  budgets: z.array(z.looseObject({ id: z.string(), name: z.string(), version: z.number() })),
})
const budgets = async () => budgetsSchema.parse((await call(service, '/api/v1/budgets')).json).budgets

describe('tokentally policies apply', () => {
  it('makes budgets and preferences of a file, and says what it did', async () => {
    const dry = await run('apply', GOVERNANCE, '--dry-run')
    expect(dry).toMatchObject({ code: 0, err: '' })
    expect(dry.out).toContain('dry run')
    expect(await budgets()).toEqual([])

    expect(await run('apply', GOVERNANCE)).toEqual({
      code: 0,
      out: 'create    budget     engineering-budget\ncreate    preference model-preference\n',
      err: '',
    })
    expect(await budgets()).toMatchObject([
      {
        name: 'engineering-budget',
        amount: '500',
        period: 'month',
        scope: { dimension: 'team', value: 'engineering' },
        thresholds: [50, 75, 90],
        enforcement: 'rate_limit',
        source: 'policies',
      },
    ])
    const decisions = (await call(service, '/api/v1/decisions')).json
    expect(decisions).toMatchObject({
      preferences: [
        { scope: { team: '*' }, prefer: ['claude-sonnet-4-5', 'gpt-4o-mini'], fallback: 'claude-haiku-4-5' },
      ],
    })
    expect((await call(service, '/api/v1/policies')).json).toMatchObject({
      policies: [
        { name: 'engineering-budget', limit: '$500/month', alerts: ['50%', '75%', '90%'] },
        { name: 'model-preference', scope: 'team:*', applied_at: expect.any(String) },
      ],
    })
  })

  it('changes what differs and nothing else', async () => {
    const again = await run('apply', GOVERNANCE)
    expect(again.out).toBe('unchanged budget     engineering-budget\nunchanged preference model-preference\n')
    expect((await budgets()).map((budget) => budget.version)).toEqual([1])
    const dearer = await run('apply', GOVERNANCE.replace('$500/month', '$1,500.50 / week'))
    expect(dearer.out).toContain('update    budget     engineering-budget\n')
    expect(await budgets()).toMatchObject([{ version: 2, amount: '1500.50', period: 'week' }])
  })

  it('removes what the file does not name only when told to, and never what the API made', async () => {
    const own = { name: 'made by hand', amount: '1', period: 'day' }
    expect((await call(service, '/api/v1/budgets', { body: own })).status).toBe(201)
    const other = 'policies:\n  - { name: another, scope: organization, limit: 20/day, enforcement: block }\n'
    await run('apply', other)
    expect((await budgets()).map((budget) => budget.name)).toEqual([
      'another',
      'engineering-budget',
      'made by hand',
    ])
    const pruned = await run('apply', other, '--prune')
    expect(pruned.out).toBe(
      'unchanged budget     another\ndelete    budget     engineering-budget\ndelete    preference model-preference\n',
    )
    expect((await budgets()).map((budget) => budget.name)).toEqual(['another', 'made by hand'])
    expect((await call(service, '/api/v1/decisions')).json).toMatchObject({ preferences: [] })
  })

  it('applies nothing of a file in which something is wrong', async () => {
    const before = await budgets()
    const answer = await call(service, '/api/v1/policies/apply', {
      body: {
        policies: [
          { name: 'good', scope: 'organization', limit: '$1/day' },
          { name: 'bad', scope: 'planet:mars', limit: '$-1/day' },
        ],
        dryrun: true,
      },
    })
    expect(pathsOf(problemOf(answer, 400))).toEqual(['policies.1.scope', 'policies.1.limit', 'dryrun'])
    expect(await budgets()).toEqual(before)
    const { key } = await createKey(service, ['read'])
    problemOf(await call(service, '/api/v1/policies/apply', { body: { policies: [] }, key }), 403)
  })
})

describe('tokentally policies check', () => {
  it('is content with the governance example', async () => {
    expect(await run('check', GOVERNANCE)).toEqual({
      code: 0,
      out: expect.stringMatching(/policies\.yaml: 2 policies, no problems\.\n$/),
      err: '',
    })
  })

  it('names every problem at once, with its line and column', async () => {
    const { code, out, err } = await run(
      'check',
      `policies:
  - name: typo
    scope: team:a
    limit: 500 dollars
    alerts: [50%, many, 50]
    enforcment: block
  - name: typo
    scope: galaxy:x
    limit: $0/month
    timezone: Mars/Olympus
  - scope: organization
    prefer: []
  - name: idle
    scope: organization
    enforcement: block
`,
    )
    expect([code, out]).toEqual([1, ''])
    const places = err.split('\n').map((line) => /^policies\.yaml:(\d+:\d+): (\S+)/.exec(line)?.slice(1))
    expect(places.filter((place) => place !== undefined)).toEqual([
      ['4:12', 'policies.0.limit'],
      ['5:19', 'policies.0.alerts.1'],
      ['5:25', 'policies.0.alerts.2'],
      ['6:17', 'policies.0.enforcment'],
      ['7:11', 'policies.1.name'],
      ['8:12', 'policies.1.scope'],
      ['9:12', 'policies.1.limit'],
      ['10:15', 'policies.1.timezone'],
      ['11:5', 'policies.2.name'],
      ['12:13', 'policies.2.prefer'],
      ['13:11', 'policies.3.name'],
      ['15:18', 'policies.3.enforcement'],
    ])
    expect(err).toContain('12 problems in')
  })

  it('names a mistake of the YAML itself', async () => {
    const { code, err } = await run('check', 'policies:\n  - name: "x\n')
    expect(code).toBe(1)
    expect(err).toMatch(/^policies\.yaml:\d+:\d+: /)
    expect((await run('check', 'rules: []\n')).err).toContain('rules is not a known field')
  })
})
