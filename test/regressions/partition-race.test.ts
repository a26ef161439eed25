import { expect, it } from 'vitest'
import { createTestDatabase } from '../harness/index.ts'

it('lets many replicas ask for the same new partition at once', async () => {
  const database = await createTestDatabase()
  try {
    const asks = Array.from({ length: 12 }, (_, month) => `2025-${String(month + 1).padStart(2, '0')}-15`)
    for (const at of asks) {
      const answers = await Promise.allSettled(
        Array.from({ length: 6 }, () => database.pool.query('select ensure_usage_partition($1)', [at])),
      )
      expect(answers.filter((answer) => answer.status === 'rejected')).toEqual([])
    }
    const partitions = await database.pool.query(
      `select count(*)::int as count from pg_inherits where inhparent = 'usage_event'::regclass`,
    )
    expect(partitions.rows).toEqual([{ count: asks.length }])
  } finally {
    await database.drop()
  }
})
