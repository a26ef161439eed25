import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UsageEvent } from '@tokentally/core'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Spool } from './spool.ts'

let directory = ''
let errors: unknown[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'spool-'))
  errors = []
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function spoolOf(name: string, bytesMax = 1_000_000): Spool {
  return new Spool({ directory, bytesMax, name, onError: (error) => errors.push(error) })
}

function event(eventId: string): UsageEvent {
  return {
    eventId,
    tsMs: 0,
    provider: 'openai',
    operation: 'chat',
    quantities: { input_tokens: 1, output_tokens: 1 },
    status: 'ok',
    streamed: false,
    estimated: false,
  }
}

it('an event that ends after the end is delivered by the next process', () => {
  const ended = spoolOf('1')
  ended.append(event('in-time'))
  ended.close()
  ended.append(event('late'))
  ended.append(event('later'))
  const next = spoolOf('2')
  expect(next.next(10)?.events.map(({ json }) => /in-time|later|late/.exec(json)?.[0])).toEqual([
    'in-time',
    'late',
    'later',
  ])
  // The file is the next process's now.
  ended.append(event('latest'))
  const third = spoolOf('3')
  expect(third.waiting).toBe(1)
  expect(third.next(10)?.events[0]?.json).toContain('latest')
  expect(errors).toEqual([])
  third.close()
  next.close()
})

it('an event that ends after the end and finds no room is reported as lost', () => {
  const ended = spoolOf('1', 0)
  ended.close()
  ended.append(event('late'))
  expect(ended.dropped).toBe(1)
  expect(String(errors)).toContain('ended after shutdown')
})
