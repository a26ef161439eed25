import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
    const child = spawn(process.execPath, ['--input-type=module', '-e', source])
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
    for (const json of ['one', 'two', 'three']) spool.append(json)
    const [one, two] = spool.oldest(2)
    if (one === undefined || two === undefined) throw new Error('expected two events')
    spool.acknowledge([one])
    spool.setAside(two, 'bad model')
    expect([spool.events, spool.bytes, spool.refused]).toEqual([1, 5, 1])
    spool.close()
    const again = new SpoolFile(path)
    expect(again.oldest(9).map((event) => event.json)).toEqual(['three'])
    expect([again.events, again.refused]).toEqual([1, 1])
    again.closeAndDelete()
  })

  it('tells a damaged file from a locked one', () => {
    const path = join(directory, 'a.sqlite')
    writeFileSync(path, 'no database at all, but long enough to be looked at as one'.repeat(50))
    const error = errorOf(() => new SpoolFile(path))
    expect([isCorrupt(error), isOwnedByAnother(error)]).toEqual([true, false])
  })
})
