import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { runCommandLine } from '../../apps/cli/src/program.ts'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { type Answer, call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Markup rules over HTTP, with two replicas on one database: what they charge, what is refused, what stays. */

const RULES = '/api/v1/markup-rules'
let clockMs = Date.UTC(2026, 10, 24, 12)
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let replica: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now })
  replica = await startService({ databaseUrl: database.url, now })
})
afterAll(async () => {
  await replica.stop()
  await service.stop()
  await database.drop()
})

const ruleSchema = z.looseObject({
  id: z.string(),
  version: z.number(),
  version_id: z.string(),
  status: z.string(),
  effective_date: z.string(),
  until: z.string().nullable(),
})
const listSchema = z.object({ rules: z.array(ruleSchema), next_cursor: z.string().nullable() })
const changesSchema = z.object({
  dry_run: z.boolean(),
  changes: z.array(z.looseObject({ kind: z.string(), id: z.string(), after: ruleSchema })),
})

const isoNow = () => now().toISOString()
const later = () => {
  clockMs += 60_000
}

async function add(rule: object, status = 201) {
  const answer = await call(service, RULES, { body: rule })
  expect([answer.status, answer.text]).toEqual([status, expect.any(String)])
  return ruleSchema.parse(answer.json)
}

const put = (id: string, body: object) => call(service, `${RULES}/${id}`, { method: 'PUT', body })
const end = (id: string) => call(service, `${RULES}/${id}`, { method: 'DELETE' })
const rulesOf = (answer: Answer) => {
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return listSchema.parse(answer.json).rules
}
const apply = (body: object) => call(service, `${RULES}/apply`, { body })
const appliedOf = (answer: Answer) => {
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return changesSchema.parse(answer.json).changes.map(({ kind, id }) => `${kind} ${id}`)
}

/** A call of 1,000,000 tokens at 0.15 dollars a million, sent by a replica. */
async function sell(eventId: string, more: object = {}, by = replica) {
  submissionOf(
    await sendUsage(by, {
      event_id: eventId,
      provider: 'openai',
      model: 'gpt-4o-mini',
      input_tokens: 1_000_000,
      ...more,
    }),
  )
  return saleOf(eventId)
}

async function saleOf(eventId: string) {
  const { rows } = await database.pool.query<{ list: string; sell: string; rule: string | null }>(
    `select trim_scale(list_cost_usd)::text as list, trim_scale(sell_cost_usd)::text as sell, markup_rule_id as rule
     from usage_event where event_id = $1`,
    [eventId],
  )
  return rows[0]
}

describe('what a rule charges', () => {
  const table: readonly [name: string, rule: object, event: object, sell: string][] = [
    ['20 % more', { markup: 0.2 }, {}, '0.18'],
    ['a third of a percent more, exactly', { markup: '0.003333333333333333' }, {}, '0.15049999999999999995'],
    ['10 % less', { discount: '0.10' }, {}, '0.135'],
    ['nothing', { discount: 1 }, {}, '0'],
    [
      'prices of its own by meter, and list prices for the rest',
      { prices: { input_tokens: { price: '0.5', per: 1_000_000 } } },
      { output_tokens: 1000 },
      // 0.5 + 1000 × 0.6 / 1,000,000
      '0.5006',
    ],
    [
      'the price of the input for its cached part',
      { prices: { input_tokens: { price: '1', per: 1000 } } },
      { cache_read_tokens: 400_000 },
      '1000',
    ],
    ['a price for each request', { price_per_request: '0.01' }, { output_tokens: 5 }, '0.01'],
    ['a minimum above the list cost', { minimum: '0.2' }, {}, '0.2'],
    ['the list cost above a minimum', { minimum: '0.1' }, {}, '0.15'],
    ['a markup above a minimum', { markup: 1, minimum: '0.2' }, {}, '0.3'],
    ['a minimum for each of the requests', { minimum: '0.1' }, { meters: { requests: 3 } }, '0.3'],
    ['no minimum for what is no request', { minimum: 7 }, { meters: { requests: 0 } }, '0.15'],
    ['nothing for a failed call', { minimum: 7 }, { status: 'error' }, '0'],
  ]
  it.each(table)('%s', async (name, rule, event, expected) => {
    const customer = `charged ${name}`
    const { version_id } = await add({ customer, ...rule })
    const sale = await sell(customer, { customer_id: customer, ...event })
    expect(sale?.sell).toBe(expected)
    expect(sale?.rule).toBe('status' in event ? null : version_id)
  })

  it('the most specific rule wins', async () => {
    const rules: readonly [object, number][] = [
      [{ provider: 'anthropic' }, 1],
      [{ model: 'claude-*' }, 2],
      [{ model: 'claude-haiku*' }, 3],
      [{ model: 'claude-haiku-4-5' }, 4],
      [{ tags: { plan: 'pro' } }, 5],
      [{ tags: { plan: 'pro', region: 'eu' } }, 6],
      [{ feature: 'chat' }, 7],
      [{ customer: 'acme' }, 8],
    ]
    for (const [match, markup] of rules) await add({ ...match, markup })
    // 1,000,000 tokens at 1 dollar a million.
    const event = { provider: 'anthropic', model: 'claude-haiku-4-5' }
    const table: readonly [object, string][] = [
      [{ model: 'claude-2' }, '24'],
      [{ model: 'claude-haiku-4-5-20251001' }, '4'],
      [{}, '5'],
      [{ response_model: 'claude-haiku-4-5-20251001' }, '5'],
      [{ tags: { plan: 'pro' } }, '6'],
      [{ tags: { plan: 'pro', region: 'eu', x: 'y' } }, '7'],
      [{ tags: { plan: 'pro', region: 'eu' }, feature: 'chat' }, '8'],
      [{ feature: 'chat', customer_id: 'acme' }, '9'],
    ]
    for (const [index, [more, expected]] of table.entries()) {
      expect([more, (await sell(`specific-${index}`, { ...event, ...more }))?.sell]).toEqual([more, expected])
    }
  })
})

describe('a change', () => {
  it('is in force for the next event on the other replica, and changes no past one in any digit', async () => {
    const customer_id = 'changing'
    const before = await sell('change-0', { customer_id })
    expect(before).toEqual({ list: '0.15', sell: '0.15', rule: null })
    const first = await add({ id: 'changing', customer: 'changing', markup: 0.2 })
    const second = await sell('change-1', { customer_id })
    expect(second).toEqual({ list: '0.15', sell: '0.18', rule: first.version_id })
    later()
    const changed = ruleSchema.parse((await put('changing', { customer: 'changing', markup: 0.4 })).json)
    expect(changed).toMatchObject({ version: 2, markup: '0.4', status: 'in_force', effective_date: isoNow() })
    const third = await sell('change-2', { customer_id })
    expect(third).toEqual({ list: '0.15', sell: '0.21', rule: changed.version_id })
    // A late event is sold by the rule of its own time.
    const late = await sell('change-late', { customer_id, ts: new Date(clockMs - 60_000).toISOString() })
    expect(late).toEqual(second)
    later()
    expect(ruleSchema.parse((await end('changing')).json)).toMatchObject({ version: 3, status: 'removed' })
    expect(await sell('change-3', { customer_id })).toEqual(before)
    expect(await Promise.all(['change-0', 'change-1', 'change-2'].map(saleOf))).toEqual([
      before,
      second,
      third,
    ])
  })

  it('may be planned, and a plan replaced before it begins', async () => {
    const rule = { id: 'planned', customer: 'planned', markup: 1 }
    const date = '2026-12-01'
    expect(await add({ ...rule, effective_date: date, until: '2027-01-01' })).toMatchObject({
      status: 'planned',
      effective_date: '2026-12-01T00:00:00.000Z',
      until: '2027-01-01T00:00:00.000Z',
    })
    expect((await sell('plan-1', { customer_id: 'planned' }))?.sell).toBe('0.15')
    const { id: _, ...body } = rule
    await put('planned', { ...body, effective_date: '2026-12-24' })
    const versions = rulesOf(await call(service, `${RULES}?history=true`)).filter(
      ({ id }) => id === 'planned',
    )
    expect(versions.map(({ version, status }) => [version, status])).toEqual([
      [1, 'ended'],
      [2, 'planned'],
    ])
    expect(rulesOf(await call(service, `${RULES}?at=2026-12-02`)).map(({ id }) => id)).not.toContain(
      'planned',
    )
    expect(rulesOf(await call(service, `${RULES}?at=2026-12-25`)).map(({ id }) => id)).toContain('planned')
  })

  it('charges a minimum once when the rest of an event is priced later', async () => {
    const event = { customer_id: 'late', provider: 'late-ai', model: 'late-1' }
    const rates = { input_tokens: { price: '1', per: 1_000_000 } }
    await call(service, '/api/v1/prices', { body: { provider: 'late-ai', model: 'late-1', rates } })
    await add({ id: 'late', customer: 'late', markup: 1, minimum: '5' })
    const more = { output_tokens: 1_000_000, ts: new Date(clockMs + 90_000).toISOString() }
    // 2 dollars of input with the markup, of output nobody knows the price: the minimum.
    expect((await sell('late', { ...event, ...more }))?.sell).toBe('5')
    later()
    const all = { ...rates, output_tokens: { price: '3', per: 1_000_000 } }
    await call(service, '/api/v1/prices', { body: { provider: 'late-ai', model: 'late-1', rates: all } })
    await waitFor(async () => {
      const { rows } = await database.pool.query<{ sell: string }>(
        `select trim_scale(sell_cost_usd)::text as sell from late_rating where event_id = 'late'`,
      )
      // The whole is worth 8 dollars, 5 were charged.
      return rows[0]?.sell === '3'
    }, 'the late rating')
  })

  it('that asks for what is already makes no version', async () => {
    const rule = { id: 'same', customer: 'same', prices: { output_tokens: { price: '7.50', per: 1000 } } }
    const first = await add(rule)
    later()
    const { id: _, ...body } = rule
    expect(ruleSchema.parse((await put('same', body)).json)).toEqual(first)
  })
})

describe('is refused', () => {
  const table: readonly [name: string, rule: object, paths: readonly string[]][] = [
    ['a past date', { markup: 1, effective_date: '2026-11-01' }, ['effective_date']],
    ['a past instant', { markup: 1, effective_date: '2026-11-24T11:59:59Z' }, ['effective_date']],
    ['a date that is none', { markup: 1, effective_date: '2026-02-30' }, ['effective_date']],
    ['an end before the start', { markup: 1, effective_date: '2027-01-01', until: '2026-12-01' }, ['until']],
    ['an end in the past', { markup: 1, until: '2026-11-01' }, ['until']],
    ['a negative markup', { markup: -0.1 }, ['markup']],
    ['an absurd markup', { markup: 2000 }, ['markup']],
    ['a markup with more digits than a number carries', { markup: 1 / 3 }, ['markup']],
    ['a markup in per cent', { markup: '20%' }, ['markup']],
    ['an exponent', { markup: '2e-1' }, ['markup']],
    ['a discount above all', { discount: '1.01' }, ['discount']],
    ['two ways of pricing', { markup: 1, discount: '0.1' }, ['discount']],
    ['none', { customer: 'x' }, ['markup']],
    ['a negative minimum', { minimum: '-1' }, ['minimum']],
    ['an absurd minimum', { minimum: '10001' }, ['minimum']],
    ['no prices', { prices: {} }, ['prices']],
    ['a price of no unit', { prices: { input_tokens: { price: '1' } } }, ['prices.input_tokens.per']],
    ['a meter that is none', { prices: { 'Input Tokens': { price: '1', per: 1 } } }, ['prices.Input Tokens']],
    ['an unknown field', { markup: 1, custmer: 'acme' }, ['custmer']],
    ['an empty customer', { markup: 1, customer: '' }, ['customer']],
    ['an id with blanks', { markup: 1, id: 'a b' }, ['id']],
    ['all of it at once', { id: '', markup: -1, x: 1, until: 'soon' }, ['id', 'markup', 'until', 'x']],
  ]
  it.each(table)('%s', async (_, rule, paths) => {
    const before = await call(service, `${RULES}?history=true&limit=1000`)
    const problem = problemOf(await call(service, RULES, { body: { provider: 'refused', ...rule } }), 400)
    expect(pathsOf(problem).toSorted()).toEqual(paths)
    expect((await call(service, `${RULES}?history=true&limit=1000`)).text).toBe(before.text)
  })

  it('a tie, naming the other rule', async () => {
    await add({ id: 'tie-a', provider: 'tied', model: 'gpt-4*', markup: 1, until: '2026-12-01' })
    const tied = { id: 'tie-b', provider: 'tied', model: '*-mini', minimum: 1 }
    // As many letters as the pattern of tie-a.
    const problem = problemOf(await call(service, RULES, { body: tied }), 409)
    expect(problem.detail).toContain('"tie-a"')
    expect(problem.errors).toEqual([{ path: 'id', message: expect.stringContaining('"tie-a"') }])
    await add({ ...tied, effective_date: '2026-12-01' })
    await add({ ...tied, id: 'tie-c', model: 'o3-*b' })
    expect(problemOf(await put('tie-c', { ...tied, id: undefined }), 409).detail).toContain('"tie-a"')
  })

  it('an id that is there, and one that is not', async () => {
    await add({ id: 'twice', customer: 'twice', markup: 1 })
    const again = { id: 'twice', customer: 'other', markup: 1 }
    expect(pathsOf(problemOf(await call(service, RULES, { body: again }), 409))).toEqual(['id'])
    problemOf(await put('nowhere', { markup: 1 }), 404)
    problemOf(await end('nowhere'), 404)
    problemOf(await call(service, `${RULES}/nowhere`), 404)
    await end('twice')
    problemOf(await end('twice'), 404)
    later()
    expect(await add(again)).toMatchObject({ version: 3 })
    const shown = await call(service, `${RULES}/twice`)
    expect(z.object({ versions: z.array(ruleSchema) }).parse(shown.json).versions).toHaveLength(3)
  })

  it('a change without the scope', async () => {
    const { key } = await createKey(service, ['read'])
    const body = { markup: 1, customer: 'scope' }
    problemOf(await call(service, RULES, { body, key }), 403)
    problemOf(await call(service, `${RULES}/same`, { method: 'PUT', body, key }), 403)
    problemOf(await call(service, `${RULES}/same`, { method: 'DELETE', key }), 403)
    problemOf(await call(service, `${RULES}/apply`, { body: { rules: [] }, key }), 403)
    expect((await call(service, RULES, { key })).status).toBe(200)
  })
})

describe('a set of rules', () => {
  const a = { id: 'set-a', customer: 'set', markup: '0.20' }
  const b = { id: 'set-b', customer: 'set', feature: 'chat', discount: 0.5 }

  it('is applied as a whole, shown before, and leaves alone what is as given', async () => {
    expect(appliedOf(await apply({ rules: [a, b], dry_run: true }))).toEqual(['create set-a', 'create set-b'])
    problemOf(await call(service, `${RULES}/set-a`), 404)
    expect(appliedOf(await apply({ rules: [a, b] }))).toEqual(['create set-a', 'create set-b'])
    later()
    const change = { rules: [{ ...a, markup: 0.3 }, b] }
    expect(appliedOf(await apply(change))).toEqual(['update set-a', 'unchanged set-b'])
    expect(appliedOf(await apply(change))).toEqual(['unchanged set-a', 'unchanged set-b'])
    const [{ effective_date = '' } = {}] = rulesOf(await call(service, `${RULES}?limit=1000`)).filter(
      ({ id }) => id === 'set-b',
    )
    later()
    // A date that was reached is no past date for a rule that does not change.
    expect(appliedOf(await apply({ rules: [{ ...b, effective_date }] }))).toEqual(['unchanged set-b'])
    const moved = problemOf(await apply({ rules: [{ ...b, discount: 0.4, effective_date }] }), 400)
    expect(pathsOf(moved)).toEqual(['rules.0.effective_date'])
  })

  it('is applied not at all when one rule is wrong', async () => {
    const before = (await call(service, `${RULES}?history=true&limit=1000`)).text
    const fresh = { id: 'set-c', customer: 'fresh', markup: 1 }
    const wrong: readonly [status: number, rules: readonly object[], path: string][] = [
      [400, [fresh, { ...a, markup: -1 }], 'rules.1.markup'],
      [400, [fresh, { ...a, effective_date: '2020-01-01' }], 'rules.1.effective_date'],
      [400, [fresh, fresh], 'rules.1.id'],
      [409, [fresh, { ...fresh, id: 'set-d' }], 'rules.0.id'],
      [409, [fresh, { ...b, id: 'set-d' }], 'rules.1.id'],
    ]
    for (const [status, rules, path] of wrong) {
      expect(pathsOf(problemOf(await apply({ rules }), status))).toEqual([path])
    }
    expect((await call(service, `${RULES}?history=true&limit=1000`)).text).toBe(before)
  })

  it('ends the others with prune alone', async () => {
    later()
    expect(appliedOf(await apply({ rules: [b] }))).toEqual(['unchanged set-b'])
    expect(appliedOf(await apply({ rules: [b], prune: true }))).toContain('remove set-a')
    expect(rulesOf(await call(service, RULES)).map(({ id }) => id)).toEqual(['set-b'])
  })
})

describe('tokentally rules', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tokentally-rules-'))
  const file = join(directory, 'prices.rules')
  afterAll(() => rmSync(directory, { recursive: true }))

  async function rules(source: string, ...flags: string[]) {
    writeFileSync(file, source)
    const texts = { out: '', err: '' }
    const stream = (name: 'out' | 'err') =>
      new Writable({
        write(chunk, _encoding, done) {
          texts[name] += String(chunk)
          done()
        },
      })
    const code = await runCommandLine(['rules', ...flags, file], {
      stdout: stream('out'),
      stderr: stream('err'),
      environment: { TOKENTALLY_URL: service.url, TOKENTALLY_API_KEY: service.ownerKey },
      now: () => clockMs,
      fetch,
    })
    return { code, ...texts }
  }

  it('check names every problem with its line, and asks nobody', async () => {
    expect(await rules('rule "a" { markup = 0.2 customer = "file" }', 'check')).toEqual({
      code: 0,
      out: `${file}: 1 rule, no problems.\n`,
      err: '',
    })
    expect(await rules('rule "a" { markup = -1 }\nrule "b" { }', 'check')).toEqual({
      code: 1,
      out: '',
      err: `${file}:1:12: markup must not be negative: a price below the list is a \`discount\`
${file}:2:1: markup is missing: a rule needs one of markup, discount, prices, price_per_request, or a minimum
tokentally: 2 problems in ${file}; nothing was changed
`,
    })
  })

  it('apply shows what changes, then changes it', async () => {
    const first = `rule "file-a" { customer = "file" model = "gpt*" markup = 0.2 }
rule "file-b" { customer = "file" feature = "chat" minimum = 0.01 }`
    const created = `+ file-a: model gpt*, customer file, markup 0.2, from ${isoNow()}
+ file-b: customer file, feature chat, minimum 0.01, from ${isoNow()}
`
    const dry = await rules(first, 'apply', '--dry-run')
    expect(dry).toEqual({ code: 0, err: '', out: `${created}Nothing was changed: this was a dry run.\n` })
    problemOf(await call(service, `${RULES}/file-a`), 404)
    expect((await rules(first, 'apply')).out).toBe(`${created}Changed 2 rules.\n`)
    expect((await sell('by-file', { customer_id: 'file' }))?.sell).toBe('0.18')
    later()
    const second = 'rule "file-a" { customer = "file" model = "gpt*" discount = 0.1 minimum = 0.5 }'
    const { out } = await rules(second, 'apply', '--prune')
    expect(out).toContain(
      `~ file-a: markup 0.2 -> (none), discount (none) -> 0.1, minimum (none) -> 0.5, from ${isoNow()}\n`,
    )
    expect(out).toContain('- file-b: ends now\n')
    expect((await rules(second, 'apply')).out).toBe('  1 rule unchanged\nNothing to change.\n')
  })

  it('apply says at which line the service found a problem, and changes nothing', async () => {
    const before = (await call(service, `${RULES}?history=true&limit=1000`)).text
    const past = await rules(
      'rule "fine" { customer = "fine" markup = 1 }\nrule "past" { customer = "past" markup = 1\n  effective_date = "2020-01-01" }',
      'apply',
    )
    expect(past.code).toBe(1)
    expect(past.err).toContain(`${file}:3:3: effective_date must not lie in the past`)
    const tied = await rules('rule "tied" { customer = "file" model = "gpt*" markup = 1 }', 'apply')
    expect(tied.err).toContain(`${file}:1:6: rule "tied" would tie with the rule "file-a"`)
    expect((await call(service, `${RULES}?history=true&limit=1000`)).text).toBe(before)
  })
})

it('a list is read in pages', async () => {
  const whole = rulesOf(await call(service, `${RULES}?history=true&limit=1000`))
  const paged: unknown[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const answer = await call(service, `${RULES}?history=true&limit=7${cursor && `&cursor=${cursor}`}`)
    const page = listSchema.parse(answer.json)
    paged.push(...page.rules)
    cursor = page.next_cursor
  }
  expect(paged).toEqual(whole)
  expect(pathsOf(problemOf(await call(service, `${RULES}?cursor=x`), 400))).toEqual(['cursor'])
})

it.each(["update markup_rule set rule_id = 'x'", 'delete from markup_rule', 'truncate markup_rule'])(
  'the database refuses: %s',
  async (statement) => {
    await expect(database.pool.query(statement)).rejects.toThrow(/append-only/)
  },
)
