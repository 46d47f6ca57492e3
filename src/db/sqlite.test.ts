/** The suite of every database, on SQLite; and what is its own: one connection, its file, and locks of other processes. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { Failure } from '../failure.ts'
import { databaseConformance } from './conformance.ts'
import { isUniqueViolation, type Opened } from './schema.ts'
import { lockFile, openSqlite } from './sqlite.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-sqlite-'))
after(() => rm(folder, { recursive: true, force: true }))

let count = 0
databaseConformance('SQLite', async () => `sqlite:${join(folder, `suite-${++count}.sqlite`)}`)

let path: string
let opened: Opened
let files = 0
beforeEach(async () => {
  path = join(folder, `${++files}`, 'test.sqlite')
  opened = await openSqlite(path)
})
afterEach(() => opened[Symbol.asyncDispose]())

const add = (id: string, db = opened.db) => db.insertInto('partners').values({ id, name: id, created_at: 1 }).execute()
const names = async () =>
  (await opened.db.selectFrom('partners').select('id').orderBy('id').execute()).map(({ id }) => id)

test('a column that another process adds meanwhile is there, under its name', async () => {
  await add('one')
  const read = () => opened.db.selectFrom('partners').selectAll().execute()
  const before = await read()
  const other = new DatabaseSync(path)
  other.exec("alter table partners add column colour text not null default 'blue'")
  other.close()
  assert.deepEqual(await read(), [{ ...before[0], colour: 'blue' }])
})

describe('opening', () => {
  test('syncs the names of the folders that it makes, from the inside out', async (t) => {
    const synced: string[] = []
    t.mock.method(fs, 'fsyncSync', (descriptor: number) => synced.push(fs.readlinkSync(`/proc/self/fd/${descriptor}`)))
    syncBuiltinESMExports()
    const above = join(folder, 'above')
    lockFile(join(above, 'data', 'satchel.lock'))?.[Symbol.dispose]()
    assert.deepEqual(synced, [above, folder])
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })

  test('makes folder and file for this user alone, migrated, durable and with foreign keys', async () => {
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    assert.equal((await stat(join(path, '..'))).mode & 0o777, 0o700)
    assert.equal(opened.migrated.length > 0, true)
    const pragma = async (name: string) =>
      Object.values((await sql.raw<Record<string, unknown>>(`pragma ${name}`).execute(opened.db)).rows[0] ?? {})[0]
    assert.equal(await pragma('journal_mode'), 'wal')
    assert.equal(await pragma('synchronous'), 2)
    assert.equal(await pragma('foreign_keys'), 1)
    await assert.rejects(
      opened.db.insertInto('api_keys').values({ key_hash: 'h', partner_id: 'nobody', created_at: 1 }).execute(),
      /FOREIGN KEY/,
    )
  })

  test('again migrates nothing and finds what was kept', async () => {
    await add('a')
    await using again = await openSqlite(path)
    assert.deepEqual(again.migrated, [])
    assert.equal((await again.db.selectFrom('partners').selectAll().execute()).length, 1)
  })

  test('five at once on a new file all succeed, and one of them migrated', async () => {
    const fresh = join(folder, 'fresh', 'test.sqlite')
    const all = await Promise.all(Array.from({ length: 5 }, () => openSqlite(fresh)))
    assert.equal(all.filter(({ migrated }) => migrated.length > 0).length, 1)
    for (const one of all) await one[Symbol.asyncDispose]()
  })

  test('a file that is no database is refused and left as it is', async () => {
    const file = join(folder, 'text')
    await writeFile(file, 'hello '.repeat(1000))
    await assert.rejects(openSqlite(file), /not a database/)
    assert.equal(await readFile(file, 'utf8'), 'hello '.repeat(1000))
  })
})

describe('transactions', () => {
  test('what others write meanwhile is not rolled back with one', async () => {
    const rolledBack = opened.db.transaction().execute(async (tx) => {
      await add('inside', tx)
      await sleep(30)
      throw new Error('no')
    })
    const others = Promise.all([add('x'), add('y')])
    await assert.rejects(rolledBack, /^Error: no$/)
    await others
    assert.deepEqual(await names(), ['x', 'y'])
  })

  test('side by side they run one after the other', async () => {
    await add('counter')
    await Promise.all(
      Array.from({ length: 20 }, () =>
        opened.db.transaction().execute(async (tx) => {
          const row = await tx
            .selectFrom('partners')
            .select('created_at')
            .where('id', '=', 'counter')
            .executeTakeFirstOrThrow()
          await sleep(1)
          await tx
            .updateTable('partners')
            .set({ created_at: row.created_at + 1 })
            .where('id', '=', 'counter')
            .execute()
        }),
      ),
    )
    const row = await opened.db.selectFrom('partners').selectAll().where('id', '=', 'counter').executeTakeFirst()
    assert.equal(row?.created_at, 21)
  })

  test('after a failure the connection is good for the next', async () => {
    await add('a')
    const twice = add('a')
    await assert.rejects(twice, (error) => isUniqueViolation(error))
    await assert.rejects(
      opened.db.transaction().execute((tx) => add('a', tx)),
      (error) => isUniqueViolation(error),
    )
    await opened.db.transaction().execute((tx) => add('b', tx))
    assert.deepEqual(await names(), ['a', 'b'])
  })

  test('numbers beyond 32 bits, empty texts and every character come back as they were', async () => {
    const name = 'Zoë 🎉 \u2028 "\' \\ % _'
    await opened.db.insertInto('partners').values({ id: '', name, created_at: 1_771_245_900_123 }).execute()
    const row = await opened.db.selectFrom('partners').selectAll().executeTakeFirst()
    assert.deepEqual({ ...row }, { id: '', name, created_at: 1_771_245_900_123, ephemeral: 0 })
  })

  test('many different statements do not use up memory or mix up', async () => {
    for (let i = 0; i < 1_200; i++) {
      const { rows } = await sql.raw<{ n: number }>(`select ${i} as n`).execute(opened.db)
      assert.equal(rows[0]?.n, i)
    }
  })
})

describe('a lock of another process', () => {
  function hold(): DatabaseSync {
    const other = new DatabaseSync(path)
    other.exec('begin exclusive')
    return other
  }

  test('for a moment is waited for without blocking, and reads go on before the first write waits', async () => {
    const other = hold()
    assert.deepEqual(await names(), [])
    let ticks = 0
    const ticking = setInterval(() => ticks++, 10)
    const writing = add('a')
    await sleep(200)
    clearInterval(ticking)
    assert.ok(ticks > 5, 'the event loop went on')
    other.close()
    await writing
    assert.deepEqual(await names(), ['a'])
  })

  test('for long is given up after five seconds, by all who wait together, and forgotten afterwards', async () => {
    const other = hold()
    const began = Date.now()
    const results = await Promise.allSettled(['a', 'b', 'c', 'd'].map((id) => add(id)))
    const took = Date.now() - began
    for (const result of results) {
      assert.ok(result.status === 'rejected' && result.reason instanceof Failure)
      assert.equal(result.reason.failure, 'database_unavailable')
    }
    assert.ok(took >= 5_000 && took < 20_000, `${took} ms`)
    other.close()
    await add('e')
    const again = hold()
    const patient = add('f')
    await sleep(300)
    again.close()
    await patient
    assert.deepEqual(await names(), ['e', 'f'])
  })
})

describe('lockFile', () => {
  test('gives a file to one at a time', () => {
    const own = join(folder, 'locked')
    const lock = lockFile(own)
    assert.ok(lock)
    assert.equal(lockFile(own), undefined)
    lock[Symbol.dispose]()
    const next = lockFile(own)
    assert.ok(next)
    next[Symbol.dispose]()
  })

  test('throws the reason when its folder cannot be', async () => {
    await writeFile(join(folder, 'file'), '')
    assert.throws(() => lockFile(join(folder, 'file', 'below', 'lock')), { code: 'ENOTDIR' })
  })
})
