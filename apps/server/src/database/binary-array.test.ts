import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/harness/index.ts'
import { byteaArray, textArray, timestamptzArray, uuidArray } from './binary-array.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

it('is read by PostgreSQL as what was written', async () => {
  const row = fc.record({
    uuid: fc.uuid(),
    text: fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '')),
    bytes: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    date: fc.date({ min: new Date('1970-01-01'), max: new Date('2999-12-31'), noInvalidDate: true }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 20 }), async (rows) => {
      const { rows: read } = await database.pool.query(
        'select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::timestamptz[]) as row (uuid, text, bytes, date)',
        [
          uuidArray(rows.map(({ uuid }) => uuid)),
          textArray(rows.map(({ text }) => text)),
          byteaArray(rows.map(({ bytes }) => bytes)),
          timestamptzArray(rows.map(({ date }) => date.getTime())),
        ],
      )
      expect(read).toEqual(rows)
    }),
  )
})
