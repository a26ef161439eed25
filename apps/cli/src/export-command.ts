import { createWriteStream } from 'node:fs'
import { realpath, rename, rm } from 'node:fs/promises'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { usageEventSchema } from '@tokentally/core'
import { csvLine } from './csv.ts'
import { type Terminal, WrongUsage } from './terminal.ts'
import type { EventQuery, ExportedEvent, UsageSource } from './usage-source.ts'

export const EXPORT_FORMATS = ['csv', 'json'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

export interface ExportRequest extends EventQuery {
  readonly format: ExportFormat
  readonly output: string | undefined
}

/** Fields of the event in their documented order, then its rating. */
const COLUMNS: readonly string[] = [...Object.keys(usageEventSchema.shape), 'list_cost_usd', 'rating_status']
/** Written at once: fewer, larger writes. */
const CHUNK_CHARACTERS = 64 * 1024

/**
 * Writes all events of a range, one a line, as they are read. A file appears under its name once it is whole.
 *
 * @throws WrongUsage when the output would overwrite the usage file
 */
export async function exportEvents(
  source: UsageSource,
  request: ExportRequest,
  terminal: Terminal,
): Promise<void> {
  const { format, output, ...range } = request
  let events = 0
  const counted = async function* () {
    for await (const event of source.events(range)) {
      events += 1
      yield event
    }
  }
  const lines = format === 'csv' ? csvLines(counted()) : jsonLines(counted())
  if (output === undefined) {
    await writeTo(lines, terminal.stdout, false)
    return
  }
  await refuseSource(source.name, output)
  const unfinished = `${output}.unfinished`
  try {
    await writeTo(lines, createWriteStream(unfinished), true)
    await rename(unfinished, output)
  } catch (error) {
    await rm(unfinished, { force: true })
    throw error
  }
  terminal.stderr.write(`${events} events written to ${output}\n`)
}

function writeTo(lines: AsyncIterable<string>, target: Writable, end: boolean): Promise<void> {
  return pipeline(Readable.from(chunks(lines)), target, { end })
}

async function* chunks(lines: AsyncIterable<string>): AsyncGenerator<string> {
  let chunk = ''
  for await (const line of lines) {
    chunk += line
    if (chunk.length < CHUNK_CHARACTERS) continue
    yield chunk
    chunk = ''
  }
  if (chunk !== '') yield chunk
}

async function* csvLines(events: AsyncIterable<ExportedEvent>): AsyncGenerator<string> {
  yield csvLine(COLUMNS)
  for await (const event of events) yield csvLine(COLUMNS.map((name) => event[name]))
}

/** One JSON array, one event a line: a JSON reader takes it whole, a line reader piece by piece. */
async function* jsonLines(events: AsyncIterable<ExportedEvent>): AsyncGenerator<string> {
  let separator = '[\n'
  for await (const event of events) {
    yield separator + JSON.stringify(event)
    separator = ',\n'
  }
  yield separator === '[\n' ? '[]\n' : '\n]\n'
}

async function refuseSource(source: string, output: string): Promise<void> {
  const [from, to] = await Promise.all([source, output].map((path) => realpath(path).catch(() => undefined)))
  if (from !== undefined && from === to) {
    throw new WrongUsage('--output would overwrite the usage file; name another one')
  }
}
