import { once } from 'node:events'
import pg, { type Client } from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { LEDGER_COLUMNS } from '../../apps/server/src/ledger/ledger-row.ts'

/**
 * The baseline of ingestion: the same rows by binary COPY into a staging table, then one insert with the
 * once-rule, on as many connections as the service has writers. No parsing, no rating, no HTTP.
 */

const COLUMNS = LEDGER_COLUMNS.join(', ')
const BATCH_ROWS = 5_000
const CONNECTIONS = 2

/** Rows of the ledger as bytes of COPY's binary format, a batch each. */
export async function takeRows(databaseUrl: string, batchIdAbove: bigint): Promise<readonly Buffer[]> {
  return withClient(databaseUrl, async (client) => {
    await client.query(
      `create temporary table taken as
       select row_number() over () as n, event_key.content_hash, ${LEDGER_COLUMNS.map((column) => `event.${column}`).join(', ')},
         event.batch_id, event.received_at
       from usage_event as event join event_key using (organization_id, event_id)
       where event.batch_id > ${batchIdAbove}`,
    )
    const count = await client.query<{ count: number }>('select count(*)::int as count from taken')
    const batches: Buffer[] = []
    for (let from = 0; from < (count.rows[0]?.count ?? 0); from += BATCH_ROWS) {
      const stream = client.query(
        copyTo(
          `copy (select content_hash, ${COLUMNS}, batch_id, received_at from taken
                 where n > ${from} and n <= ${from + BATCH_ROWS}) to stdout (format binary)`,
        ),
      )
      const chunks: Buffer[] = []
      for await (const chunk of stream) chunks.push(Buffer.from(chunk))
      batches.push(Buffer.concat(chunks))
    }
    return batches
  })
}

/** Writes the batches into tables like the ledger's. @returns seconds */
export async function copyRows(databaseUrl: string, batches: readonly Buffer[]): Promise<number> {
  await withClient(databaseUrl, (client) =>
    client.query(`
      drop table if exists bare_event, bare_key;
      create table bare_key (like event_key including indexes);
      create table bare_event (like usage_event including defaults including constraints including indexes)`),
  )
  let next = 0
  const clients = await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const client = new pg.Client({ connectionString: databaseUrl })
      await client.connect()
      await client.query(
        `create temporary table incoming on commit delete rows as
         select null::bytea as content_hash, ${COLUMNS}, batch_id, received_at from usage_event with no data`,
      )
      return client
    }),
  )
  const start = performance.now()
  await Promise.all(
    clients.map(async (client) => {
      for (let batch = batches[next++]; batch !== undefined; batch = batches[next++]) {
        await client.query('begin')
        const stream = client.query(
          copyFrom(
            `copy incoming (content_hash, ${COLUMNS}, batch_id, received_at) from stdin (format binary)`,
          ),
        )
        const finished = once(stream, 'finish')
        stream.end(batch)
        await finished
        await client.query(`
          with claimed as (
            insert into bare_key select organization_id, event_id, content_hash, ts, batch_id from incoming
            order by organization_id, event_id on conflict do nothing returning organization_id, event_id
          )
          insert into bare_event (${COLUMNS}, batch_id, received_at)
          select ${LEDGER_COLUMNS.map((column) => `incoming.${column}`).join(', ')}, batch_id, received_at
          from incoming join claimed using (organization_id, event_id)`)
        await client.query('commit')
      }
    }),
  )
  const seconds = (performance.now() - start) / 1000
  for (const client of clients) await client.end()
  return seconds
}

export async function withClient<T>(databaseUrl: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
