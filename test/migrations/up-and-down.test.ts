import { afterAll, beforeAll, expect, it } from 'vitest'
import { migrate, rollbackAll } from '../../apps/server/src/database/migrate.ts'
import { createEmptyDatabase, type TestDatabase } from '../harness/index.ts'

/** Every migration can be taken back, and leaves nothing that stands in the way of the next time. */

let database: TestDatabase

beforeAll(async () => {
  database = await createEmptyDatabase()
})
afterAll(() => database.drop())

/** What the migrations made: columns, constraints, indexes, triggers, views and functions. */
async function schema(): Promise<readonly string[]> {
  const { rows } = await database.pool.query<{ thing: string }>(`
    select format('column %s.%s %s %s', table_name, column_name, data_type, is_nullable) as thing
    from information_schema.columns where table_schema = 'public'
    union all
    select format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid))
    from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select indexdef from pg_indexes where schemaname = 'public'
    union all
    select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    union all
    select format('view %s %s', viewname, definition) from pg_views where schemaname = 'public'
    union all
    select format('function %s', proname) from pg_proc
    where pronamespace = 'public'::regnamespace
      and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
    order by thing`)
  return rows.map(({ thing }) => thing)
}

const OWN = /^(?:column|constraint|CREATE (?:UNIQUE )?INDEX \S+ ON public\.)\s*schema_migration/

it('up, all the way down, and up again makes the same schema', async () => {
  await migrate(database.url)
  const made = await schema()
  expect(made.length).toBeGreaterThan(300)

  await rollbackAll(database.url)
  expect((await schema()).filter((thing) => !OWN.test(thing))).toEqual([])

  await migrate(database.url)
  expect(await schema()).toEqual(made)
})
