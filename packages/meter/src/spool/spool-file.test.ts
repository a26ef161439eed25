import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isCorrupt, isOwnedByAnother, SpoolFile } from './spool-file.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'spool-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function errorOf(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return undefined
}

describe('the spool file', () => {
  it('keeps every event whose append returned when the process is killed, and is locked until then', async () => {
    const path = join(directory, 'a.sqlite')
    const source = `
      import { writeSync } from 'node:fs'
      import { SpoolFile } from ${JSON.stringify(new URL('./spool-file.ts', import.meta.url).href)}
      const spool = new SpoolFile(${JSON.stringify(path)})
      for (let id = 0; ; id += 1) { spool.append(String(id)); writeSync(1, id + '\\n') }`
    const child = spawn(process.execPath, ['--conditions=source', '--input-type=module', '-e', source])
    let printed = ''
    let lockError: unknown
    child.stdout.on('data', (chunk: Buffer) => {
      printed += chunk.toString()
      if (printed.length < 20_000 || child.killed) return
      lockError = errorOf(() => new SpoolFile(path))
      child.kill('SIGKILL')
    })
    await new Promise((resolve) => child.on('close', resolve))
    expect(isOwnedByAnother(lockError)).toBe(true)
    const ids = printed.split('\n').slice(0, -1)
    const spool = new SpoolFile(path)
    const kept = new Set(spool.oldest(1_000_000).map((event) => event.json))
    spool.close()
    expect(ids.length).toBeGreaterThan(1_000)
    expect(ids.filter((id) => !kept.has(id))).toEqual([])
  })

  it('forgets acknowledged events only, and keeps refused ones apart', () => {
    const path = join(directory, 'a.sqlite')
    const spool = new SpoolFile(path)
    for (const span of ['one', 'two', 'three']) spool.append(span)
    const [one, two] = spool.oldest(2)
    if (one === undefined || two === undefined) throw new Error('expected two events')
    spool.setAside(two, 'bad model')
    spool.acknowledge([one, two])
    expect([spool.events, spool.bytes, spool.refused]).toEqual([1, 'three\n'.length, 1])
    spool.close()
    const again = new SpoolFile(path)
    expect(again.oldest(9).map((event) => event.json)).toEqual(['three'])
    expect([again.events, again.refused]).toEqual([1, 1])
    again.closeAndDelete()
    expect(readdirSync(directory)).toEqual([])
  })

  it('takes a line away that a death cut off', () => {
    const path = join(directory, 'a.sqlite')
    writeFileSync(join(directory, 'a.log'), 'whole\nhalf of a li')
    const spool = new SpoolFile(path)
    spool.append('next')
    expect(spool.oldest(9).map((event) => event.json)).toEqual(['whole', 'next'])
    spool.close()
  })

  it('delivers all again when a death came between making the log shorter and noting it', () => {
    const path = join(directory, 'a.sqlite')
    const spool = new SpoolFile(path)
    for (const span of ['one', 'two', 'three']) spool.append(span)
    spool.acknowledge(spool.oldest(2))
    spool.close()
    writeFileSync(join(directory, 'a.log'), 'three\n')
    const again = new SpoolFile(path)
    expect(again.oldest(9).map((event) => event.json)).toEqual(['three'])
    again.close()
  })

  it('is a queue, whatever is appended, acknowledged and reopened', () => {
    const text = fc.oneof(fc.string(), fc.constantFrom('é🙂', 'x'.repeat(3_000_000)))
    const step = fc.oneof(
      fc.record({ append: text.map((span) => JSON.stringify(span)) }),
      fc.record({ take: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ reopen: fc.constant(true) }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const path = join(mkdtempSync(join(directory, 'run-')), 'a.sqlite')
        let spool = new SpoolFile(path)
        const expected: string[] = []
        for (const one of steps) {
          if ('append' in one) {
            spool.append(one.append)
            expected.push(one.append)
          } else if ('take' in one) {
            const taken = spool.oldest(one.take)
            const spans = taken.map((event) => event.json)
            expect(spans).toEqual(expected.splice(0, taken.length))
            expect(taken.length > 0 || expected.length === 0).toBe(true)
            spool.acknowledge(taken)
          } else {
            spool.close()
            spool = new SpoolFile(path)
          }
          expect(spool.events).toBe(expected.length)
          expect(spool.bytes).toBe(expected.reduce((sum, span) => sum + Buffer.byteLength(span) + 1, 0))
        }
        spool.closeAndDelete()
      }),
      { numRuns: 60 },
    )
  })

  it('tells a damaged file from a locked one', () => {
    const path = join(directory, 'a.sqlite')
    writeFileSync(path, 'no database at all, but long enough to be looked at as one'.repeat(50))
    const error = errorOf(() => new SpoolFile(path))
    expect([isCorrupt(error), isOwnedByAnother(error)]).toEqual([true, false])
  })
})
