import type { Pool, PoolClient } from 'pg'

/**
 * Runs several reads that belong together: all of them see what was committed at one moment. Given a connection,
 * they see what its transaction does.
 */
export async function inOneSnapshot<T>(
  database: Pool | PoolClient,
  read: (client: PoolClient) => Promise<T>,
): Promise<T> {
  if ('release' in database) return read(database)
  const client = await database.connect()
  let failure: Error | undefined
  try {
    await client.query('begin isolation level repeatable read read only')
    const result = await read(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch((cause: unknown) => {
      failure = new Error('rollback failed', { cause })
    })
    throw error
  } finally {
    client.release(failure)
  }
}
