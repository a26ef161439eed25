import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { UsageEvent } from '@tokentally/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { LocalLedger } from '../../../packages/meter/src/local/local-ledger.ts'
import { runCommandLine } from './program.ts'

const NOW_MS = Date.UTC(2026, 10, 24, 12)
const HOUR_MS = 3_600_000
const FORMULA = '=HYPERLINK("http://x.example";"a")\n'
const ESCAPE = '\u001b[2Jacme'

let directory = ''
let file = ''

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tokentally-cli-'))
  file = join(directory, 'usage.sqlite')
  const ledger = new LocalLedger(
    file,
    (error) => {
      throw error
    },
    () => 0,
  )
  const append = (eventId: string, hoursAgo: number, more: Partial<UsageEvent> = {}) =>
    ledger.append({
      eventId,
      tsMs: NOW_MS - hoursAgo * HOUR_MS,
      provider: 'openai',
      model: 'gpt-4o-mini',
      operation: 'chat',
      quantities: { input_tokens: 1000, output_tokens: 100 },
      status: 'ok',
      streamed: false,
      estimated: false,
      callId: eventId,
      ...more,
    })
  append('1', 0, { customer: 'acme', feature: '/chat/:id', tags: { plan: 'pro' } })
  append('2', 2, { customer: FORMULA })
  append('3', 13, { customer: ESCAPE, provider: 'anthropic', model: 'claude-sonnet-4-5' })
  append('4', 30 * 24, { customer: 'acme', model: 'nobody-knows' })
  append('5', 400 * 24, { customer: 'acme' })
  ledger.close()
})

afterAll(() => rmSync(directory, { recursive: true }))

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

async function run(
  arguments_: readonly string[],
  environment: Readonly<Record<string, string>> = { TOKENTALLY_SPOOL: join(directory, 'spool') },
  isTTY = false,
): Promise<Ran> {
  const texts = { out: '', err: '' }
  const stream = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        texts[name] += String(chunk)
        done()
      },
    })
  const code = await runCommandLine(arguments_, {
    stdout: Object.assign(stream('out'), { isTTY }),
    stderr: stream('err'),
    environment,
    now: () => NOW_MS,
    fetch,
  })
  return { code, ...texts }
}

describe('cost', () => {
  test('says its version', async () => {
    expect(await run(['--version'])).toEqual({ code: 0, out: '0.1.0\n', err: '' })
  })

  test('prints the last 30 days by model, with a total, decimals under each other', async () => {
    expect(await run(['cost'])).toEqual({
      code: 0,
      err: '',
      out: `List price of calls from 2026-10-25T12:00:00Z to 2026-11-24T12:00:00Z, ${file}

PROVIDER   MODEL              REQUESTS  INPUT  OUTPUT  COST USD
anthropic  claude-sonnet-4-5         1  1,000     100   0.0045
openai     gpt-4o-mini               2  2,000     200   0.00042
total                                3  3,000     300   0.00492
`,
    })
  })

  test('says what is unpriced and does not call it free', async () => {
    const { out } = await run(['cost', '--from', '2026-10-25', '--to', '2026-10-26'])
    expect(out).toMatch(/nobody-knows +1 +1,000 +100 +unpriced +1\n/)
    expect(out).toContain('1 of 1 requests have a meter without a known price')
  })

  test('leaves what is unpriced empty for programs', async () => {
    const range = ['--from', '2026-10-25', '--to', '2026-10-26']
    const csv = await run(['cost', ...range, '--format', 'csv'])
    expect(csv.out).toContain('openai,nobody-knows,1,1000,100,,1\r\n')
    const json = await run(['cost', ...range, '--format', 'json'])
    expect(JSON.parse(json.out)).toMatchObject({ groups: [{ list_cost: null }], totals: { list_cost: null } })
  })

  test('groups by each dimension', async () => {
    const rows = async (by: string) => {
      const { out } = await run(['cost', '--by', by, '--format', 'csv', '--last', 'day'])
      return out.trimEnd().split('\r\n').slice(1)
    }
    expect(await rows('provider')).toEqual(['anthropic,1,1000,100,0.0045,0', 'openai,2,2000,200,0.00042,0'])
    expect(await rows('execution')).toEqual([
      '3,1,1000,100,0.0045,0',
      '1,1,1000,100,0.00021,0',
      '2,1,1000,100,0.00021,0',
    ])
    expect(await rows('feature')).toEqual([',2,2000,200,0.00471,0', '/chat/:id,1,1000,100,0.00021,0'])
    expect(await rows('day')).toEqual(['2026-11-23,1,1000,100,0.0045,0', '2026-11-24,2,2000,200,0.00042,0'])
  })

  test('cuts days and reads dates in the time zone', async () => {
    const zone = ['--time-zone', 'Asia/Tokyo', '--by', 'day', '--format', 'csv']
    // 23:00 of the day before in UTC.
    const { out } = await run(['cost', '--from', '2026-11-24', ...zone])
    expect(out.split('\r\n').slice(1, -1)).toEqual(['2026-11-24,3,3000,300,0.00492,0'])
  })

  test('filters by provider and customer', async () => {
    const { out } = await run(['cost', '--provider', 'openai', '--customer', 'acme', '--format', 'json'])
    expect(JSON.parse(out)).toEqual({
      period: { start: '2026-10-25T12:00:00.001Z', end: '2026-11-24T12:00:00.001Z' },
      currency: 'USD',
      groups: [
        {
          provider: 'openai',
          model: 'gpt-4o-mini',
          requests: 1,
          input_tokens: 1000,
          output_tokens: 100,
          list_cost: '0.00021',
          unpriced_requests: 0,
        },
      ],
      totals: {
        requests: 1,
        input_tokens: 1000,
        output_tokens: 100,
        list_cost: '0.00021',
        unpriced_requests: 0,
      },
    })
  })

  test('lets no name write to the terminal, nor compute in a spreadsheet', async () => {
    const { out } = await run(['cost', '--by', 'customer'])
    expect(out).not.toContain('\u001b')
    expect(out.split('\n')).toHaveLength(8)
    const csv = await run(['cost', '--by', 'customer', '--format', 'csv'])
    expect(csv.out).toContain(`"'=HYPERLINK(""http://x.example"";""a"")\n",1,`)
  })

  test('colours titles in a terminal alone, and not against its will', async () => {
    const environment = { TOKENTALLY_SPOOL: join(directory, 'spool') }
    expect((await run(['cost'], environment, true)).out).toContain('\u001b[1mPROVIDER')
    expect((await run(['cost'], { ...environment, NO_COLOR: '1' }, true)).out).not.toContain('\u001b')
  })

  test('says that there is nothing, and that this is no failure', async () => {
    expect(await run(['cost', '--provider', 'groq', '--last', 'hour'])).toEqual({
      code: 0,
      err: '',
      out: `No calls of provider groq from 2026-11-24T11:00:00Z to 2026-11-24T12:00:00Z in ${file}.\n`,
    })
  })
})

describe('wrong usage ends with 2 and says how to write it', () => {
  const cases: readonly [arguments_: readonly string[], complaint: string][] = [
    [['cost', '--last', 'year'], 'Allowed choices are hour, day, week, month'],
    [['cost', '--last', 'day', '--from', '2026-11-01'], '--last goes without --from and --to'],
    [['cost', '--from', '2026-02-30'], '--from "2026-02-30" must be a date (2026-11-01)'],
    [['cost', '--from', '2026-11-02', '--to', '2026-11-01'], '--to must lie after --from'],
    [['cost', '--time-zone', 'Mars/Base'], 'is no IANA time zone'],
    [['cost', '--url', 'http://127.0.0.1:9'], 'needs --api-key'],
    [['cost', '--url', 'nonsense', '--api-key', 'k'], 'the URL "nonsense" is none'],
    [['cost', '--file', 'a', '--url', 'http://127.0.0.1:9'], '--file and --url exclude each other'],
    [['spend'], "unknown command 'spend'"],
    [['cost', 'now'], 'too many arguments'],
    [[], 'Usage: tokentally'],
  ]
  test.each(cases)('%j', async (arguments_, complaint) => {
    const { code, out, err } = await run(arguments_)
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toContain(complaint)
  })
})

test('a file that is not there ends with 1 and the cure, and is not made', async () => {
  const missing = join(directory, 'nowhere', 'usage.sqlite')
  const { code, err } = await run(['cost', '--file', missing])
  expect({ code, err }).toEqual({
    code: 1,
    err: `tokentally: there is no usage file ${missing}: run the metered app first, or name its file (--file, TOKENTALLY_SPOOL)\n`,
  })
  expect(readdirSync(directory)).not.toContain('nowhere')
})

describe('export', () => {
  test('writes every event as CSV that spreadsheets read and do not obey', async () => {
    const { out } = await run(['export'])
    const [header = '', ...lines] = out.trimEnd().split('\r\n')
    const names = header.split(',')
    expect(names.slice(0, 3)).toEqual(['event_id', 'ts', 'customer_id'])
    expect(names.slice(-2)).toEqual(['list_cost_usd', 'rating_status'])
    expect(lines.map((line) => line.split(',')[0])).toEqual(['5', '4', '3', '2', '1'])
    // No zero for what has no price.
    expect(lines[1]).toMatch(/,,unpriced$/)
    expect(lines[4]).toContain(',"{""plan"":""pro""}",')
    expect(lines[4]).toMatch(/,0\.00021,rated$/)
    expect(out).toContain(`,"'=HYPERLINK(""http://x.example"";""a"")\n",`)
  })

  test('writes JSON, an event a line, to a file that appears once it is whole', async () => {
    const output = join(directory, 'usage.json')
    const { code, out, err } = await run(['export', '--format', 'json', '--last', 'day', '--output', output])
    expect({ code, out, err }).toEqual({ code: 0, out: '', err: `3 events written to ${output}\n` })
    const text = readFileSync(output, 'utf8')
    expect(text.split('\n')).toHaveLength(6)
    expect(JSON.parse(text)).toMatchObject([
      { event_id: '3', list_cost_usd: '0.0045', rating_status: 'rated', input_tokens: 1000 },
      { event_id: '2', customer_id: FORMULA },
      { event_id: '1', tags: { plan: 'pro' } },
    ])
    expect(readdirSync(directory).filter((name) => name.includes('unfinished'))).toEqual([])
  })

  test('writes an empty array of nothing', async () => {
    expect((await run(['export', '--format', 'json', '--customer', 'nobody'])).out).toBe('[]\n')
  })

  test('does not overwrite what it reads, and says where it cannot write', async () => {
    expect(await run(['export', '--output', file])).toMatchObject({ code: 2 })
    expect(await run(['export', '--output', join(directory, 'no', 'x.csv')])).toMatchObject({
      code: 1,
      err: expect.stringContaining('ENOENT'),
    })
    expect((await run(['cost'])).code).toBe(0)
  })
})

describe('a service', () => {
  test('is asked when it is named, and its refusal is told', async () => {
    const asked: string[] = []
    const sums = { requests: 2, input_tokens: 5, output_tokens: 1, unpriced_requests: 0 }
    const server = createServer((request, response) => {
      asked.push(`${request.headers.authorization} ${request.url}`)
      const { pathname, searchParams } = new URL(request.url ?? '', 'http://x')
      const event = (id: string) => ({
        event_id: id,
        provider: 'openai',
        received_at: '2026-11-24T12:00:00Z',
        rating: { status: 'rated', list_cost: '0.1', total_cost: '0.2', lines: [] },
      })
      response.setHeader('content-type', 'application/json')
      if (searchParams.get('customer') === 'refused') {
        response.statusCode = 403
        response.end(JSON.stringify({ detail: 'The key lacks the scope "read".' }))
      } else if (pathname === '/api/v1/usage') {
        const isLast = searchParams.has('cursor')
        response.end(
          JSON.stringify({ events: [event(isLast ? 'b' : 'a')], next_cursor: isLast ? null : 'next' }),
        )
      } else {
        response.end(
          JSON.stringify({
            groups: [
              { conversation: null, ...sums, list_cost: '0.1' },
              { conversation: 'c9', ...sums, list_cost: '0.25' },
            ],
            totals: { ...sums, requests: 4, list_cost: '0.35' },
          }),
        )
      }
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const url = `http://127.0.0.1:${port}`
    try {
      const environment = { TOKENTALLY_URL: `${url}/`, TOKENTALLY_API_KEY: 'key' }
      const costs = await run(['cost', '--last', 'hour', '--by', 'execution', '--format', 'csv'], environment)
      expect(costs).toMatchObject({ code: 0, err: '' })
      expect(costs.out.split('\r\n').slice(1)).toEqual(['c9,2,5,1,0.25,0', ',2,5,1,0.1,0', ''])
      expect(asked).toEqual([
        'Bearer key /api/v1/costs/aggregate?start=2026-11-24T11%3A00%3A00.001Z&end=2026-11-24T12%3A00%3A00.001Z&group_by=conversation&timezone=UTC',
      ])
      const events = await run(['export', '--format', 'json'], environment)
      expect(JSON.parse(events.out)).toEqual([
        { event_id: 'a', provider: 'openai', list_cost_usd: '0.1', rating_status: 'rated' },
        { event_id: 'b', provider: 'openai', list_cost_usd: '0.1', rating_status: 'rated' },
      ])
      expect(await run(['cost', '--customer', 'refused'], environment)).toEqual({
        code: 1,
        out: '',
        err: `tokentally: ${url} answered 403: The key lacks the scope "read".\n`,
      })
      // A flag wins over the environment.
      expect(await run(['cost', '--file', file], environment)).toMatchObject({ code: 0 })
    } finally {
      server.close()
    }
  })
})

test('the command runs from a clone, without a build', async () => {
  const bin = fileURLToPath(new URL('../bin/tokentally.js', import.meta.url))
  const environment = { PATH: process.env['PATH'], TOKENTALLY_SPOOL: join(directory, 'spool') }
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [bin, 'cost', '--from', '2026-11-01', '--to', '2026-12-01', '--format', 'csv'],
    { env: environment },
  )
  expect(stdout.split('\r\n')).toHaveLength(4)
})
