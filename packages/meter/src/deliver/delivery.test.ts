import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { UsageEvent } from '@tokentally/core'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { Spool } from '../spool/spool.ts'
import { Delivery } from './delivery.ts'

const requestSchema = z.object({
  resourceSpans: z.array(
    z.object({
      scopeSpans: z.array(
        z.object({
          spans: z.array(
            z.object({
              attributes: z.array(
                z.object({ key: z.string(), value: z.looseObject({ stringValue: z.string().optional() }) }),
              ),
            }),
          ),
        }),
      ),
    }),
  ),
})

const event = (eventId: string): UsageEvent => ({
  eventId,
  tsMs: Date.UTC(2026, 10, 1),
  provider: 'openai',
  model: 'gpt-4o-mini',
  operation: 'chat',
  quantities: { input_tokens: 1, output_tokens: 1 },
  status: 'ok',
  streamed: false,
  estimated: false,
})

describe('delivery', () => {
  let directory: string
  let url: string
  /** Answers of the service, one per request; the last one stays. */
  let answers: { status: number; headers?: Record<string, string> }[]
  let refuses: (ids: readonly string[]) => boolean
  const received: string[] = []
  const errors: string[] = []
  const compressed: boolean[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const sent = Buffer.concat(chunks)
      const isCompressed = request.headers['content-encoding'] === 'gzip'
      compressed.push(isCompressed)
      const body = requestSchema.parse(JSON.parse((isCompressed ? gunzipSync(sent) : sent).toString()))
      const ids = body.resourceSpans[0]?.scopeSpans[0]?.spans.map(
        ({ attributes }) =>
          attributes.find(({ key }) => key === 'tokentally.event_id')?.value.stringValue ?? '',
      )
      const answer = refuses(ids ?? []) ? { status: 400 } : answers.length > 1 ? answers.shift() : answers[0]
      if (answer?.status === 200) received.push(...(ids ?? []))
      response.writeHead(answer?.status ?? 500, { 'content-type': 'application/json', ...answer?.headers })
      response.end('{}')
    })
  })

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'tokentally-'))
    received.length = 0
    errors.length = 0
    compressed.length = 0
    answers = [{ status: 200 }]
    refuses = () => false
    if (!server.listening) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  })
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true })
    server.closeIdleConnections()
  })

  const onError = (error: unknown) => errors.push(error instanceof Error ? error.message : String(error))
  const spoolAt = (path: string, name = 'test', bytesMax = 1e9) =>
    new Spool({ directory: path, bytesMax, name, onError })
  const deliver = (spool: Spool, to = url) =>
    new Delivery({ url: to, apiKey: 'key', spool, fetch, random: () => 0, version: '0', onError })

  it('carries every event to the service and forgets it then', async () => {
    const spool = spoolAt(directory)
    const delivery = deliver(spool)
    for (let index = 0; index < 1_200; index++) spool.append(event(`e${index}`))
    expect(await delivery.flush(10_000)).toBe(0)
    expect(received).toEqual(Array.from({ length: 1_200 }, (_, index) => `e${index}`))
    await delivery.stop(0)
    spool.close()
  })

  it('compresses what goes over a network', async () => {
    // Not spelled as the loopback interface, which it reaches all the same.
    const elsewhere = url.replace('127.0.0.1', '0.0.0.0')
    for (const to of [url, elsewhere]) {
      const spool = spoolAt(directory)
      const delivery = deliver(spool, to)
      spool.append(event(to))
      expect(await delivery.flush(10_000)).toBe(0)
      await delivery.stop(0)
      spool.close()
    }
    expect(received).toEqual([url, elsewhere])
    expect(compressed).toEqual([false, true])
  })

  it('tries again while the service answers 500 or 503, and loses nothing', async () => {
    answers = [
      { status: 500 },
      { status: 503, headers: { 'retry-after': '0' } },
      { status: 429 },
      { status: 200 },
    ]
    const spool = spoolAt(directory)
    const delivery = deliver(spool)
    spool.append(event('patient'))
    expect(await delivery.flush(20_000)).toBe(0)
    expect(received).toEqual(['patient'])
    // Said once, not once per attempt.
    expect(errors).toHaveLength(1)
    await delivery.stop(0)
    spool.close()
  })

  it('sets an event aside that is refused for good, and delivers its neighbours', async () => {
    refuses = (ids) => ids.includes('bad')
    const spool = spoolAt(directory)
    const delivery = deliver(spool)
    for (const id of ['a', 'b', 'bad', 'c', 'd']) spool.append(event(id))
    expect(await delivery.flush(10_000)).toBe(0)
    expect(received.toSorted()).toEqual(['a', 'b', 'c', 'd'])
    await delivery.stop(0)
    spool.close()
  })

  it('delivers what a dead process left', async () => {
    const dead = spoolAt(directory, 'dead')
    dead.append(event('left behind'))
    dead.close()
    const spool = spoolAt(directory, 'alive')
    const delivery = deliver(spool)
    expect(await delivery.flush(10_000)).toBe(0)
    expect(received).toEqual(['left behind'])
    await delivery.stop(0)
    spool.close()
  })

  it('sets a damaged line aside, and delivers its neighbours', async () => {
    const dead = spoolAt(directory, 'dead')
    dead.append(event('before'))
    dead.close()
    appendFileSync(join(directory, 'spool-dead.log'), 'no JSON\n{"eventId":5}\n')
    const spool = spoolAt(directory, 'alive')
    const delivery = deliver(spool)
    spool.append(event('after'))
    expect(await delivery.flush(10_000)).toBe(0)
    expect(received).toEqual(['before', 'after'])
    expect(errors.filter((error) => error.includes('set aside'))).toHaveLength(2)
    await delivery.stop(0)
    spool.close()
  })

  it('keeps events in memory where the disk cannot be written, and says so once', async () => {
    writeFileSync(join(directory, 'file'), '')
    const spool = spoolAt(join(directory, 'file', 'spool'))
    const delivery = deliver(spool)
    spool.append(event('in memory'))
    spool.append(event('in memory too'))
    expect(errors).toHaveLength(1)
    expect(errors[0]).toContain('memory only')
    expect(await delivery.flush(10_000)).toBe(0)
    expect(received).toEqual(['in memory', 'in memory too'])
    await delivery.stop(0)
    spool.close()
  })

  it('drops and counts at its limit, and says so', () => {
    const spool = spoolAt(directory, 'small', 500)
    for (let index = 0; index < 100; index++) spool.append(event(`e${index}`))
    expect(spool.dropped).toBeGreaterThan(0)
    expect(spool.waiting + spool.dropped).toBe(100)
    expect(errors[0]).toContain('full')
    spool.close()
  })
})
