import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { decimal, type UsageEvent } from '@tokentally/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LocalLedger } from './local-ledger.ts'
import { openLocalReader } from './local-report.ts'

const START_MS = Date.UTC(2026, 10, 20)
const DAY_MS = 24 * 3_600_000
const ALL = { startMs: 0, endMs: Date.UTC(2030, 0, 1) }

let directory = ''
let path = ''
let errors: unknown[] = []
let clockMs = 0
const open: LocalLedger[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tokentally-local-'))
  path = join(directory, 'usage.sqlite')
  errors = []
})

afterEach(() => {
  for (const ledger of open.splice(0)) ledger.close()
  rmSync(directory, { recursive: true })
})

function ledgerOf(file = path): LocalLedger {
  const ledger = new LocalLedger(
    file,
    (error) => errors.push(error),
    () => clockMs,
  )
  open.push(ledger)
  return ledger
}

/** 1,000 tokens in and 100 out on gpt-4o-mini cost 0.00021 USD. */
function event(eventId: string, more: Partial<UsageEvent> = {}): UsageEvent {
  return {
    eventId,
    tsMs: START_MS,
    provider: 'openai',
    model: 'gpt-4o-mini',
    operation: 'chat',
    quantities: { input_tokens: 1000, output_tokens: 100 },
    status: 'ok',
    streamed: false,
    estimated: false,
    ...more,
  }
}

describe('a summary', () => {
  test('is by provider, model, execution, customer and feature, the dearest first', async () => {
    const ledger = ledgerOf()
    ledger.append(
      event('1', { customer: 'acme', feature: 'chat', conversation: 'c9', traceId: 'a'.repeat(32) }),
    )
    ledger.append(event('2', { customer: 'acme', conversation: 'c9', callId: '2' }))
    ledger.append(event('3', { customer: 'blue', feature: 'chat', traceId: 'b'.repeat(32), callId: '3' }))
    ledger.append(event('4', { callId: '4', status: 'error', quantities: {} }))
    ledger.append(event('5', { callId: '4', provider: 'anthropic', model: 'claude-sonnet-4-5' }))
    ledger.append(event('6', { model: 'nobody-knows' }))
    const summary = await ledger.cost(ALL.startMs, ALL.endMs, undefined)

    const mini = {
      inputTokens: 1000,
      outputTokens: 100,
      listCostUsd: '0.00021',
      unpricedRequests: 0,
      requests: 1,
    }
    const twice = { ...mini, inputTokens: 2000, outputTokens: 200, listCostUsd: '0.00042', requests: 2 }
    const sonnet = { ...mini, listCostUsd: '0.0045' }
    const unknown = { ...mini, listCostUsd: '0', unpricedRequests: 1 }
    expect(summary).toEqual({
      requests: 6,
      inputTokens: 5000,
      outputTokens: 500,
      listCostUsd: '0.00513',
      unpricedRequests: 1,
      byProvider: [
        { provider: 'anthropic', ...sonnet },
        {
          provider: 'openai',
          requests: 5,
          inputTokens: 4000,
          outputTokens: 400,
          listCostUsd: '0.00063',
          unpricedRequests: 1,
        },
      ],
      byModel: [
        { provider: 'anthropic', model: 'claude-sonnet-4-5', ...sonnet },
        {
          provider: 'openai',
          model: 'gpt-4o-mini',
          requests: 4,
          inputTokens: 3000,
          outputTokens: 300,
          listCostUsd: '0.00063',
          unpricedRequests: 0,
        },
        { provider: 'openai', model: 'nobody-knows', ...unknown },
      ],
      byExecution: [
        // The failed attempt and its repetition by another provider are one call.
        { execution: '4', ...sonnet, requests: 2 },
        { execution: 'c9', ...twice },
        { execution: 'b'.repeat(32), ...mini },
        { execution: '6', ...unknown },
      ],
      byCustomer: [
        {
          customer: null,
          requests: 3,
          inputTokens: 2000,
          outputTokens: 200,
          listCostUsd: '0.0045',
          unpricedRequests: 1,
        },
        { customer: 'acme', ...twice },
        { customer: 'blue', ...mini },
      ],
      byFeature: [
        {
          feature: null,
          requests: 4,
          inputTokens: 3000,
          outputTokens: 300,
          listCostUsd: '0.00471',
          unpricedRequests: 1,
        },
        { feature: 'chat', ...twice },
      ],
    })
  })

  test('includes the start of the range and not its end, of one provider if asked', async () => {
    const ledger = ledgerOf()
    for (const [index, tsMs] of [START_MS - 1, START_MS, START_MS + 9, START_MS + 10].entries()) {
      ledger.append(event(`${index}`, { tsMs }))
    }
    ledger.append(event('other', { provider: 'anthropic', model: 'claude-sonnet-4-5' }))
    expect(await ledger.cost(START_MS, START_MS + 10, undefined)).toMatchObject({ requests: 3 })
    expect(await ledger.cost(START_MS, START_MS + 10, 'openai')).toMatchObject({ requests: 2 })
    expect(await ledger.cost(START_MS, START_MS + 10, 'nobody')).toMatchObject({
      requests: 0,
      listCostUsd: '0',
    })
  })

  test('adds ten thousand costs that floats would blur', async () => {
    const ledger = ledgerOf()
    for (let index = 0; index < 10_000; index++) {
      ledger.append(event(`${index}`, { quantities: { input_tokens: index, output_tokens: 1 } }))
    }
    // (0 + … + 9,999) × 0.15 and 10,000 × 0.60 millionths.
    const expected = decimal('49995000').times(decimal('0.00000015')).plus(decimal('0.006')).toFixed()
    expect((await ledger.cost(ALL.startMs, ALL.endMs, undefined)).listCostUsd).toBe(expected)
  })
})

test('a rating is frozen: later prices and later reports do not change it', async () => {
  const ledger = ledgerOf()
  ledger.append(event('1'))
  ledger.append(event('2', { model: 'nobody-knows' }))
  await ledger.cost(ALL.startMs, ALL.endMs, undefined)
  const database = new DatabaseSync(path)
  database.exec("update usage_event set list_cost_usd = '7' where event_id = '1'")
  expect((await ledger.cost(ALL.startMs, ALL.endMs, undefined)).listCostUsd).toBe('7')
  // What was unpriced is looked up again once there are other prices.
  database.exec(
    "update usage_event set rated_by = 'older', json = replace(json, 'nobody-knows', 'gpt-4o-mini')",
  )
  expect((await ledger.cost(ALL.startMs, ALL.endMs, undefined)).listCostUsd).toBe('7.00021')
  database.close()
})

test('a reader changes nothing in the file and sees the same costs', async () => {
  const ledger = ledgerOf()
  ledger.append(event('1', { customer: 'acme' }))
  ledger.append(event('2', { tsMs: START_MS + DAY_MS, customer: '=cmd' }))
  ledger.close()
  const bytes = readFileSync(path)
  const reader = openLocalReader(path)
  expect((await reader.summary(ALL)).listCostUsd).toBe('0.00042')
  expect(await reader.groups({ ...ALL, customer: 'acme' }, 'provider', 'UTC')).toMatchObject([
    { keys: { provider: 'openai' }, requests: 1 },
  ])
  // Midnight in UTC is the evening before in New York.
  expect((await reader.groups(ALL, 'day', 'America/New_York')).map(({ keys }) => keys['day'])).toEqual([
    '2026-11-19',
    '2026-11-20',
  ])
  const events = await Array.fromAsync(reader.events(ALL))
  expect(events.map((one) => [one.event.event_id, one.rating.listCostUsd, one.rating.status])).toEqual([
    ['1', '0.00021', 'rated'],
    ['2', '0.00021', 'rated'],
  ])
  reader.close()
  expect(readFileSync(path).equals(bytes)).toBe(true)
})

test('a file from before executions were kept is read, and extended by the next program that appends', async () => {
  const old = new DatabaseSync(path)
  old.exec(`
    pragma journal_mode = wal;
    create table usage_event (
      event_id text primary key, ts_ms integer not null, provider text not null, model text, customer text,
      feature text, status text not null, input_tokens integer not null, output_tokens integer not null,
      json text not null, list_cost_usd text, rating_status text
    ) strict;
    insert into usage_event values ('1', ${START_MS}, 'openai', 'gpt-4o-mini', null, null, 'ok', 1000, 100,
      '{"event_id":"1","conversation_id":"c1"}', '0.00021', 'rated')`)
  old.close()
  const reader = openLocalReader(path)
  expect((await reader.summary(ALL)).byExecution).toMatchObject([{ execution: 'c1', listCostUsd: '0.00021' }])
  reader.close()
  const ledger = ledgerOf()
  ledger.append(event('2', { conversation: 'c1' }))
  expect((await ledger.cost(ALL.startMs, ALL.endMs, undefined)).byExecution).toMatchObject([
    { execution: 'c1', requests: 2, listCostUsd: '0.00042' },
  ])
})

test('a reader of no file, a directory or another file says what to do, and makes nothing', () => {
  expect(() => openLocalReader(path)).toThrow(/there is no usage file .* run the metered app first/)
  expect(existsSync(path)).toBe(false)
  expect(() => openLocalReader(directory)).toThrow('is no file')
  writeFileSync(path, 'hello')
  expect(() => openLocalReader(path)).toThrow('not readable as a usage file')
  expect(readFileSync(path, 'utf8')).toBe('hello')
})

test('events wait for a file that cannot be opened, and are written once it can', async () => {
  writeFileSync(join(directory, 'blocked'), '')
  const blocked = join(directory, 'blocked', 'usage.sqlite')
  const ledger = ledgerOf(blocked)
  ledger.append(event('1'))
  expect(ledger.settle()).toBe(1)
  expect(errors).toHaveLength(1)
  rmSync(join(directory, 'blocked'))
  clockMs += 5_000
  expect(ledger.settle()).toBe(0)
  expect(await ledger.cost(ALL.startMs, ALL.endMs, undefined)).toMatchObject({ requests: 1 })
})

test('what another process keeps from being written is written later, in order, or reported at the end', () => {
  const ledger = ledgerOf()
  const other = new DatabaseSync(path)
  other.exec('begin immediate')
  ledger.append(event('1'))
  ledger.append(event('2'))
  expect(ledger.settle()).toBe(2)
  other.exec('rollback')
  ledger.append(event('3'))
  expect(ledger.settle()).toBe(0)
  expect(
    other
      .prepare('select event_id from usage_event order by rowid')
      .all()
      .map((row) => row['event_id']),
  ).toEqual(['1', '2', '3'])
  other.exec('begin immediate')
  ledger.append(event('4'))
  ledger.close()
  expect(String(errors.at(-1))).toContain('1 events could not be written')
  other.close()
})

test('what ends after the end is written, or reported', async () => {
  const ledger = ledgerOf()
  ledger.close()
  ledger.append(event('1'))
  expect(errors).toEqual([])
  expect(await ledgerOf().cost(ALL.startMs, ALL.endMs, undefined)).toMatchObject({ requests: 1 })
  const other = new DatabaseSync(path)
  other.exec('begin immediate')
  ledger.append(event('2'))
  other.close()
  expect(String(errors.at(-1))).toContain('ended after shutdown')
})

test('a report is made while another process writes', async () => {
  const ledger = ledgerOf()
  ledger.append(event('1'))
  const other = new DatabaseSync(path)
  other.exec('begin immediate')
  expect(await ledger.cost(ALL.startMs, ALL.endMs, undefined)).toMatchObject({ listCostUsd: '0.00021' })
  other.exec('rollback')
  other.close()
  expect(errors).toEqual([])
})

test('processes that open a new file at once and append to it together lose nothing', async () => {
  const PROCESSES = 4
  const EVENTS = 200
  const program = `
    import { LocalLedger } from ${JSON.stringify(fileURLToPath(new URL('./local-ledger.ts', import.meta.url)))}
    const [path, name] = process.argv.slice(2)
    process.stdout.write('ready')
    process.stdin.once('data', () => {
      const ledger = new LocalLedger(path, (error) => { console.error(error); process.exitCode = 1 }, () => performance.now())
      const next = (index) => {
        if (index === ${EVENTS}) { ledger.close(); process.exit() }
        ledger.append({ eventId: name + index, tsMs: ${START_MS}, provider: 'openai', model: 'gpt-4o-mini',
          operation: 'chat', quantities: { input_tokens: 1000, output_tokens: 100 }, status: 'ok', streamed: false,
          estimated: false, customer: name })
        setImmediate(next, index + 1)
      }
      next(0)
    })`
  const file = join(directory, 'writer.ts')
  writeFileSync(file, program)
  const writers = Array.from({ length: PROCESSES }, (_, index) =>
    spawn(process.execPath, ['--conditions=source', file, path, `writer-${index}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  )
  await Promise.all(writers.map((writer) => once(writer.stdout, 'data')))
  for (const writer of writers) writer.stdin.write('go')
  const ends = await Promise.all(writers.map((writer) => once(writer, 'exit')))
  expect(ends.map(([code]) => code)).toEqual(Array(PROCESSES).fill(0))
  const reader = openLocalReader(path)
  const summary = await reader.summary(ALL)
  reader.close()
  expect(summary.requests).toBe(PROCESSES * EVENTS)
  expect(summary.byCustomer.map(({ requests }) => requests)).toEqual(Array(PROCESSES).fill(EVENTS))
})

test.skipIf(process.getuid?.() === 0)('a directory that may not be written can be read from', async () => {
  const closed = join(directory, 'closed')
  mkdirSync(closed)
  const ledger = ledgerOf(join(closed, 'usage.sqlite'))
  ledger.append(event('1'))
  ledger.close()
  chmodSync(closed, 0o500)
  const reader = openLocalReader(join(closed, 'usage.sqlite'))
  expect(await reader.summary(ALL)).toMatchObject({ requests: 1 })
  reader.close()
  chmodSync(closed, 0o700)
})
