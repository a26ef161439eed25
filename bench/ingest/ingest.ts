import { type SpawnedService, spawnService } from '../../test/harness/service.ts'
import { startBenchDatabase } from '../database.ts'
import { type BenchOptions, type Comparison, compare } from '../figures.ts'
import { load, requestBytes } from '../load.ts'
import { copyRows, takeRows, withClient } from './bare-copy.ts'
import { newEvent } from './events.ts'

interface Shape {
  readonly name: string
  readonly eventsPerRequest: number
  readonly connections: number
  readonly requests: number
  readonly bar?: string
  readonly aim?: string
}

const SHAPES: readonly Shape[] = [
  {
    name: 'Ingestion, 1,000 events a request',
    eventsPerRequest: 1_000,
    connections: 8,
    requests: 100,
    bar: '15,000/s',
    aim: '40,000/s, ratio 0.5',
  },
  { name: 'Ingestion, 100 events a request', eventsPerRequest: 100, connections: 16, requests: 600 },
  {
    name: 'Ingestion, 1 event a request, 64 connections',
    eventsPerRequest: 1,
    connections: 64,
    requests: 20_000,
    bar: '3,000/s',
    aim: '8,000/s',
  },
]

/**
 * Events per second over HTTP as JSON, from the first byte sent to the last answer, with the once-rule,
 * rating and durable commits; service, database and client share the machine. After each round the very rows
 * that it stored are written once more by bare COPY.
 */
export async function ingestBench({ isQuick, progress }: BenchOptions): Promise<readonly Comparison[]> {
  const database = await startBenchDatabase()
  const service = await spawnService({ databaseUrl: database.url })
  try {
    const comparisons: Comparison[] = []
    for (const shape of SHAPES) {
      const pairs: { ours: number; rival: number }[] = []
      const requests = isQuick ? Math.ceil(shape.requests / 10) : shape.requests
      for (let round = -1; round < (isQuick ? 1 : 5); round++) {
        const pair = await measure(service, database.url, { ...shape, requests })
        // The first one warms up.
        if (round >= 0) pairs.push(pair)
        progress(
          `${shape.name}: ${Math.round(pair.ours)} events/s, bare COPY ${Math.round(pair.rival)} rows/s`,
        )
      }
      const { name, bar, aim } = shape
      comparisons.push(
        compare(
          {
            name,
            unit: 'events/s',
            rivalName: 'binary COPY with dedupe of the same rows',
            ...(bar !== undefined && { bar }),
            ...(aim !== undefined && { aim }),
          },
          pairs,
        ),
      )
    }
    return comparisons
  } finally {
    await service.stop()
    await database.stop()
  }
}

async function measure(service: SpawnedService, databaseUrl: string, shape: Shape) {
  const events = shape.requests * shape.eventsPerRequest
  const lastBatch = await withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      'select coalesce(max(batch_id), 0)::text as id from ledger_batch',
    )
    return BigInt(rows[0]?.id ?? 0)
  })
  const bodies = Array.from({ length: shape.requests }, (_, request) => {
    const list = Array.from({ length: shape.eventsPerRequest }, (_, index) =>
      newEvent(request * shape.eventsPerRequest + index, Date.now()),
    )
    return requestBytes(
      'POST',
      '/api/v1/usage',
      { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
      Buffer.from(JSON.stringify(shape.eventsPerRequest === 1 ? list[0] : list)),
    )
  })
  const { seconds, statuses } = await load(service.url, bodies, shape.connections)
  const answered = statuses.get(200) ?? 0
  if (answered !== shape.requests) {
    throw new Error(`of ${shape.requests} requests ${answered} were answered 200: ${[...statuses]}`)
  }
  // The rollups of this round would otherwise be paid for by the baseline.
  await rolledUp(databaseUrl)
  const rows = await takeRows(databaseUrl, lastBatch)
  const copySeconds = await copyRows(databaseUrl, rows)
  const copied = await withClient(databaseUrl, (client) =>
    client.query<{ count: number }>('select count(*)::int as count from bare_event'),
  )
  if (copied.rows[0]?.count !== events) {
    throw new Error(`${events} events were sent and ${copied.rows[0]?.count} are in the ledger`)
  }
  return { ours: events / seconds, rival: events / copySeconds }
}

async function rolledUp(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    for (;;) {
      const { rows } = await client.query<{ open: number }>(
        'select count(*)::int as open from ledger_batch where rolled_up_at is null',
      )
      if (rows[0]?.open === 0) return
      await client.query('select pg_sleep(0.1)')
    }
  })
}
