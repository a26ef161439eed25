import type { Pool, PoolClient } from 'pg'

/** Runs work in one transaction: all of it or nothing. */
export function inTransaction<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  return within(pool, 'begin', work)
}

/**
 * Runs several reads that belong together: all of them see what was committed at one moment. Given a connection,
 * they see what its transaction does.
 */
export function inOneSnapshot<T>(
  database: Pool | PoolClient,
  read: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return 'release' in database
    ? read(database)
    : within(database, 'begin isolation level repeatable read read only', read)
}

async function within<T>(pool: Pool, begin: string, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let failure: Error | undefined
  try {
    await client.query(begin)
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch((cause: unknown) => {
      failure = new Error('rollback failed', { cause })
    })
    throw error
  } finally {
    // A connection that cannot even roll back is thrown away, not handed to the next one.
    client.release(failure)
  }
}
