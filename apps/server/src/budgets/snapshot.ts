import type { Pool, PoolClient } from 'pg'

/**
 * Reads several things as they are at one moment: an amount that moves from a hold into the ledger meanwhile is in
 * one of them, not in both or neither.
 */
export async function inSnapshot<T>(pool: Pool, read: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  try {
    await client.query('begin isolation level repeatable read read only')
    const result = await read(client)
    await client.query('commit')
    client.release()
    return result
  } catch (error) {
    client.release(true)
    throw error
  }
}
