import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { shutdown, start } from '@tokentally/meter'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { readOptions } from '../../packages/meter/src/options.ts'
import { type FakeDecisions, startFakeDecisions } from '../fake-provider/decisions.ts'
import { waitFor } from '../harness/index.ts'

/** The stream of decisions in the life of a process: it opens only when it is asked for, and holds up nothing. */

const run = promisify(execFile)
const APP = fileURLToPath(new URL('./enforcing-app.ts', import.meta.url))
let service: FakeDecisions
let silent: Server
let directory: string

beforeAll(async () => {
  service = await startFakeDecisions()
  silent = createServer(() => undefined)
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  directory = await mkdtemp(join(tmpdir(), 'tokentally-enforced-process-'))
})
afterAll(async () => {
  await service.close()
  silent.close()
  await rm(directory, { recursive: true, force: true })
})

const silentUrl = () => {
  const address = silent.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
}

it.each([
  ['that is connected', () => service.url, '20000', 'true'],
  ['that is about to connect', () => service.url, undefined, 'undefined'],
  ['whose service says nothing', silentUrl, '300', 'false'],
  ['whose service is away', () => 'http://127.0.0.1:1', '300', 'false'],
  ['whose service has no address', () => 'http://tokentally.invalid', undefined, 'undefined'],
])('a process ends by itself: one %s', async (_name, url, wait, ready) => {
  const options = ['--spool', join(directory, 'spool'), '--url', url()]
  const { stdout } = await run(process.execPath, [
    '--conditions=source',
    APP,
    ...options,
    ...(wait === undefined ? [] : ['--wait', wait]),
  ])
  expect(stdout).toBe(`ready: ${ready}\n`)
})

it('without enforce nothing is asked, and with it no more after shutdown', async () => {
  const base = { spool: join(directory, 'own'), url: service.url, apiKey: 'key' }
  const before = service.asked()
  const off = start(base)
  expect(off.tap.enforcer).toBeUndefined()
  expect(await off.decisionsReady(0)).toBe(true)
  await shutdown()
  const on = start({ ...base, enforce: true })
  expect(await on.decisionsReady(20_000)).toBe(true)
  expect(service.open()).toBe(1)
  await shutdown()
  await waitFor(() => service.open() === 0, 'the stream is closed')
  expect(service.asked()).toBe(before + 1)
})

it('the option is read as it is written, and refused when it is wrong', () => {
  const service = { TOKENTALLY_URL: 'http://127.0.0.1:1', TOKENTALLY_API_KEY: 'k' }
  expect(readOptions({}, service).enforce).toBe(false)
  for (const [value, expected] of Object.entries({
    true: 'open',
    open: 'open',
    closed: 'closed',
    false: false,
    '': false,
  }))
    expect(readOptions({}, { ...service, TOKENTALLY_ENFORCE: value }).enforce).toBe(expected)
  expect(readOptions({ enforce: false }, { ...service, TOKENTALLY_ENFORCE: 'true' }).enforce).toBe(false)
  expect(() => readOptions({}, { ...service, TOKENTALLY_ENFORCE: 'yes' })).toThrow(/enforce "yes" must be/)
  // In local mode there is nobody to ask; who wants calls to fail then is told at once.
  expect(readOptions({ enforce: true }, {}).enforce).toBe('open')
  expect(() => readOptions({ enforce: 'closed' }, {})).toThrow(/needs the url/)
})
