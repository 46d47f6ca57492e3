/** A query that is compiled once says the same as one that is built anew each time. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { prepared } from './prepared.ts'
import type { NewRow } from './schema.ts'
import { openSqlite } from './sqlite.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-prepared-'))
const opened = await openSqlite(join(folder, 'satchel.sqlite'))
after(async () => {
  await opened[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})
const { db } = opened

let built = 0
const insertion = prepared((db, { rows }: { rows: NewRow<'partners'>[] }) => db.insertInto('partners').values(rows))
const named = prepared((db, { ids, name }: { ids: readonly string[]; name: string }) => {
  built++
  return db.selectFrom('partners').select('id').where('id', 'in', ids).where('name', '=', name).orderBy('id')
})
const renaming = prepared((db, o: { id: string; change: { name?: string; ephemeral?: 0 | 1 } }) =>
  db.updateTable('partners').set(o.change).where('id', '=', o.id),
)
const idsOf = async (values: { ids: readonly string[]; name: string }) =>
  (await named.all(db, values)).map(({ id }) => id)
const partner = (id: string, name: string) => ({ id, name, created_at: 1 })

test('values go where they belong, whichever and however many there are', async () => {
  assert.equal(await insertion.write(db, { rows: [partner('a', 'x'), partner('b', 'y'), partner('c', 'x')] }), 3)
  assert.equal(await insertion.write(db, { rows: [{ ...partner('d', 'x'), ephemeral: 1 }] }), 1)
  assert.deepEqual(await idsOf({ ids: ['a', 'b', 'c'], name: 'x' }), ['a', 'c'])
  assert.deepEqual(await idsOf({ name: 'y', ids: ['c', 'b', 'a'] }), ['b'])
  assert.deepEqual(await idsOf({ ids: ['d'], name: 'x' }), ['d'])
  assert.equal(await named.first(db, { ids: ['d'], name: 'y' }), undefined)
  assert.equal(await renaming.write(db, { id: 'a', change: { name: 'z' } }), 1)
  assert.equal(await renaming.write(db, { id: 'b', change: { name: 'w', ephemeral: 1 } }), 1)
  const rows = await db.selectFrom('partners').select(['name', 'ephemeral']).orderBy('id').execute()
  const expected = [
    ['z', 0],
    ['w', 1],
    ['x', 0],
    ['x', 1],
  ]
  assert.deepEqual(
    rows.map(({ name, ephemeral }) => [name, ephemeral]),
    expected,
  )
})

test('it is built once for each shape, also for transactions, and anew for another database', async () => {
  const before = built
  for (const name of ['x', 'y', 'z']) await named.all(db, { ids: ['a', 'b'], name })
  await db.transaction().execute((tx) => named.all(tx, { ids: ['c', 'd'], name: 'x' }))
  assert.equal(built - before, 1)
  const other = await openSqlite(join(folder, 'other.sqlite'))
  assert.deepEqual(await named.all(other.db, { ids: ['a', 'b'], name: 'z' }), [])
  assert.equal(built - before, 2)
  await other[Symbol.asyncDispose]()
})
