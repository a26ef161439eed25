import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'

/** Calls whose tokens are being counted when the process ends: none is lost, whichever way it ends. */

const APP = fileURLToPath(new URL('./ending-app.ts', import.meta.url))
let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tokentally-'))
})
afterAll(() => rm(directory, { recursive: true }))

/** Runs the application to its end. @returns the events that are on disk then */
async function eventsOf(name: string, ...flags: string[]): Promise<Record<string, unknown>[]> {
  const spool = join(directory, name, 'spool')
  await promisify(execFile)(process.execPath, ['--conditions=source', APP, '--spool', spool, ...flags])
  const ledger = new DatabaseSync(join(directory, name, 'usage.sqlite'), { readOnly: true })
  try {
    return ledger
      .prepare('select json from usage_event')
      .all()
      .map(({ json }) => JSON.parse(String(json)))
  } finally {
    ledger.close()
  }
}

const CUT = { status: 'aborted', estimated: true, reason: 'stream_cut', model: 'gpt-4o' }

it.each(['normally', 'shutdown'])(
  'a stream that was cut is counted before the process ends: %s',
  async (end) => {
    expect(await eventsOf(end, '--end', end)).toMatchObject([
      {
        ...CUT,
        input_tokens: 9,
        output_tokens: 9,
        tokenizer: expect.stringMatching(/^tiktoken\/o200k_base@/),
      },
    ])
  },
)

it('a stream that was cut is counted by bytes when the process ends at once', async () => {
  expect(await eventsOf('exit', '--end', 'exit')).toMatchObject([{ ...CUT, tokenizer: 'bytes/4' }])
})

it('on a sample of calls the tokenizer counts beside the provider', async () => {
  const [event] = await eventsOf('sampled', '--answer', 'reported', '--sample', '1')
  expect(event).toMatchObject({
    status: 'ok',
    input_tokens: 9,
    output_tokens: 9,
    counted_input_tokens: 9,
    counted_output_tokens: 9,
    tokenizer: expect.stringMatching(/^tiktoken\/o200k_base@/),
  })
  expect(event).toMatchObject({ estimated: false })
})

it('a call of the sample keeps its reported counts when the process ends at once', async () => {
  const [event] = await eventsOf('sampled-exit', '--answer', 'reported', '--sample', '1', '--end', 'exit')
  expect(event).toMatchObject({ status: 'ok', input_tokens: 9, output_tokens: 9 })
  expect(event).not.toHaveProperty('counted_input_tokens')
})

it('outside of the sample nothing is counted', async () => {
  const [event] = await eventsOf('unsampled', '--answer', 'reported')
  expect(event).toMatchObject({ input_tokens: 9, output_tokens: 9 })
  expect(event).not.toHaveProperty('tokenizer')
})
