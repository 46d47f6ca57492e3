/** The suite of every database, on PostgreSQL, and what only a server can do: go away, come back, refuse and be slow. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { query, startPostgres } from '../../test/support/postgres.ts'
import { ConfigError } from '../config.ts'
import { Failure } from '../failure.ts'
import { openDatabase } from '../open.ts'
import { listPartners } from '../partners/rows.ts'
import { databaseConformance } from './conformance.ts'
import type { Opened } from './schema.ts'
import { CommitUnknown, GaveWay, inTransaction, persist } from './transaction.ts'

const postgres = await startPostgres()
after(() => postgres[Symbol.asyncDispose]())

databaseConformance(postgres.about, () => postgres.createDatabase())

const unavailable = (error: unknown) => error instanceof Failure && error.code === 3001 && error.status === 503
const pids = async (opened: Opened) =>
  (await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(opened.db)).rows[0]?.pid ?? 0

test('large tables are vacuumed at a hundredth of dead rows', async () => {
  await using opened = await openDatabase(await postgres.createDatabase())
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_class where 'autovacuum_vacuum_scale_factor=0.01' = any(reloptions)
    order by relname`.execute(opened.db)
  const names = rows.map(({ name }) => name).join(' ')
  assert.equal(names, 'attachments chats events jobs message_parts messages webhook_deliveries')
})

describe('errors of PostgreSQL', () => {
  test('a server that is restarted costs what is under way a 503 and nothing after it', async () => {
    await using opened = await openDatabase(await postgres.createDatabase())
    for (const mode of ['fast', 'immediate'] as const) {
      const slow = sql`select pg_sleep(10)`.execute(opened.db)
      const idle = Promise.all([listPartners(opened.db), listPartners(opened.db), listPartners(opened.db)])
      await idle
      await Promise.all([assert.rejects(slow, unavailable), sleep(100).then(() => postgres.stop(mode))])
      await assert.rejects(listPartners(opened.db), unavailable)
      await postgres.start()
      assert.deepEqual(await listPartners(opened.db), [])
    }
  })

  test('a connection that is cut off inside a transaction costs that one', async () => {
    const url = await postgres.createDatabase()
    await using opened = await openDatabase(url)
    const cut = inTransaction(opened.db, async (tx) => {
      await tx.insertInto('partners').values({ id: 'one', name: 'x', created_at: 1 }).execute()
      await query(url, `select pg_terminate_backend(${await pids({ ...opened, db: tx })})`)
      await tx.insertInto('partners').values({ id: 'two', name: 'x', created_at: 1 }).execute()
    })
    await assert.rejects(cut, (error) => unavailable(error) && !(error instanceof CommitUnknown))
    assert.deepEqual(await listPartners(opened.db), [])
  })

  test('a commit that is not confirmed is told from one that did not happen', async () => {
    const url = await postgres.createDatabase()
    await using opened = await openDatabase(url)
    await query(
      url,
      `create function linger() returns trigger language plpgsql as 'begin perform pg_sleep(5); return new; end'`,
    )
    await query(
      url,
      `create constraint trigger linger after insert on partners deferrable initially deferred
      for each row execute function linger()`,
    )
    const unsure = inTransaction(opened.db, async (tx) => {
      await tx.insertInto('partners').values({ id: 'one', name: 'x', created_at: 1 }).execute()
      const pid = await pids({ ...opened, db: tx })
      setTimeout(() => void query(url, `select pg_terminate_backend(${pid})`), 300)
    })
    await assert.rejects(unsure, CommitUnknown)
  })

  test('of two that wait for each other one gives way and is run again', async () => {
    await using opened = await openDatabase(await postgres.createDatabase())
    for (const id of ['a', 'b']) {
      await opened.db.insertInto('partners').values({ id, name: '', created_at: 0 }).execute()
    }
    let runs = 0
    const cross = (first: string, second: string) =>
      inTransaction(opened.db, async (tx) => {
        runs++
        for (const id of [first, second]) {
          await sql`update partners set created_at = created_at + 1 where id = ${id}`.execute(tx)
          await sleep(100)
        }
      })
    await Promise.all([cross('a', 'b'), cross('b', 'a')])
    assert.equal(runs, 3)
    assert.deepEqual(
      (await listPartners(opened.db)).map((row) => row.created_at),
      [2, 2],
    )
  })

  test('a transaction that has to give way each time is a 503 in the end', async () => {
    await using opened = await openDatabase(await postgres.createDatabase())
    let runs = 0
    const never = inTransaction(opened.db, async (tx) => {
      runs++
      await sql`do $$ begin raise exception 'x' using errcode = '40001'; end $$`.execute(tx)
    })
    await assert.rejects(never, (error) => error instanceof GaveWay && unavailable(error))
    assert.equal(runs, 3)
  })

  test('a statement that takes too long, and a server or a disk that is full, are 503', async () => {
    await using opened = await openDatabase(await postgres.createDatabase())
    const raise = (code: string) => sql`do $$ begin raise exception 'x' using errcode = '${sql.raw(code)}'; end $$`
    for (const code of ['57014', '53100', '53200', '53300', '08006', '57P03', '25006']) {
      await assert.rejects(raise(code).execute(opened.db), unavailable, code)
    }
    await assert.rejects(raise('XX001').execute(opened.db), { code: 3002 })
    await inTransaction(opened.db, async (tx) => {
      await sql`set local statement_timeout = 100`.execute(tx)
      await assert.rejects(sql`select pg_sleep(5)`.execute(tx), unavailable)
    }).catch(() => {})
  })

  test('when every connection is taken the next waits five seconds and is a 503', async () => {
    await using opened = await openDatabase(await postgres.createDatabase(), { poolSize: 2 })
    const taken = [1, 2].map(() => sql`select pg_sleep(8)`.execute(opened.db))
    const began = Date.now()
    await assert.rejects(listPartners(opened.db), unavailable)
    assert.ok(Math.abs(Date.now() - began - 5_000) < 1_500, `${Date.now() - began} ms`)
    await Promise.all(taken)
    assert.deepEqual(await listPartners(opened.db), [])
  })

  test('a server that has no connection left is a 503, and serves again when it has', async () => {
    const url = await postgres.createDatabase()
    const name = new URL(url).pathname.slice(1)
    await using opened = await openDatabase(url)
    await query(postgres.url(), `alter database ${name} connection limit 0`)
    await query(postgres.url(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`)
    // Its superuser is not bound by the limit, so this one is not.
    await query(postgres.url(), 'create role plain login')
    await query(url, 'grant all on all tables in schema public to plain')
    const plain = Object.assign(new URL(url), { username: 'plain' }).href
    await assert.rejects(openDatabase(plain), (error) => error instanceof ConfigError)
    assert.deepEqual(await listPartners(opened.db), [])
  })

  test('what has happened is written down once the database is back', async () => {
    await using opened = await openDatabase(await postgres.createDatabase())
    await postgres.stop('immediate')
    const insert = async () => {
      await opened.db.insertInto('partners').values({ id: 'one', name: 'x', created_at: 1 }).execute()
    }
    const written = persist(insert, AbortSignal.timeout(10_000))
    await sleep(700)
    await postgres.start()
    await written
    assert.equal((await listPartners(opened.db)).length, 1)
    await assert.rejects(
      persist(() => Promise.reject(new Failure('database_unavailable')), AbortSignal.timeout(300)),
      unavailable,
    )
  })

  test('a wrong name or address is one clear sentence at the start, without the password', async () => {
    const wrong = postgres.url('no_such_database').replace('satchel@', 'satchel:hidden@')
    const isClear = (error: unknown) =>
      error instanceof ConfigError &&
      /^SATCHEL_DATABASE_URL: .*no_such_database/.test(error.message) &&
      !/hidden/.test(error.message)
    await assert.rejects(openDatabase(wrong), isClear)
  })
})
