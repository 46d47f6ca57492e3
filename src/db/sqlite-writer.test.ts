/** Group commit, on a real file: what is shared, what others see and when, and how a group fails. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { CompiledQuery } from 'kysely'
import { Failure } from '../failure.ts'
import { Statements } from './sqlite-statements.ts'
import { Writer } from './sqlite-writer.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-writer-'))
after(() => rm(folder, { recursive: true, force: true }))

let path: string
let database: DatabaseSync
let writer: Writer
/** What another process sees. */
let other: DatabaseSync
let files = 0
beforeEach(() => {
  path = join(folder, `${++files}.sqlite`)
  database = new DatabaseSync(path)
  database.exec('pragma journal_mode = wal; pragma synchronous = full; create table t (id text primary key, body text)')
  writer = new Writer(new Statements(database))
  other = new DatabaseSync(path, { readOnly: true })
})
afterEach(async () => {
  await writer.close()
  other.close()
})

const insert = (id: string, body = '') => CompiledQuery.raw('insert into t values (?, ?)', [id, body])
const seen = () =>
  other
    .prepare('select id from t order by id')
    .all()
    .map(({ id }) => id)

/** One change of one row; `afterwards` may still undo it. */
async function change(id: string, o: { body?: string; afterwards?: () => Promise<void> } = {}): Promise<void> {
  const turn = await writer.begin()
  try {
    writer.execute(turn, insert(id, o.body))
    await o.afterwards?.()
  } catch (error) {
    await writer.rollback(turn)
    throw error
  }
  await writer.commit(turn)
}

const fails = async () => {
  throw new Error('no')
}
const reasonOf = (result: PromiseSettledResult<void> | undefined): unknown =>
  result?.status === 'rejected' ? result.reason : undefined

test('a change is seen by others once its commit has resolved, and not before', async () => {
  const turn = await writer.begin()
  writer.execute(turn, insert('a'))
  const committed = writer.commit(turn)
  assert.deepEqual(seen(), [])
  await committed
  assert.deepEqual(seen(), ['a'])
})

test('changes that come together are written to the log once', async () => {
  const frames = async () => (await stat(`${path}-wal`)).size / 4120
  const before = await frames()
  for (let n = 0; n < 50; n++) await change(`alone-${n}`)
  const alone = (await frames()) - before
  await Promise.all(Array.from({ length: 50 }, (_, n) => change(`together-${n}`)))
  const together = (await frames()) - before - alone
  assert.ok(alone >= 50, `${alone} frames for 50 changes one after the other`)
  assert.ok(together < 10, `${together} frames for 50 changes together`)
  assert.equal(seen().length, 100)
})

test('one that is taken back takes nothing of the others with it', async () => {
  const results = await Promise.allSettled([change('a'), change('b', { afterwards: fails }), change('c')])
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.deepEqual(seen(), ['a', 'c'])
})

test('who was refused because of a row can see that row', async () => {
  const first = change('a')
  await assert.rejects(change('a'), /UNIQUE/)
  assert.deepEqual(seen(), ['a'])
  await first
})

test('a statement that is wrong fails its change alone', async () => {
  const wrong = async () => {
    const turn = await writer.begin()
    try {
      writer.execute(turn, CompiledQuery.raw('insert into nowhere values (1)'))
    } catch (error) {
      await writer.rollback(turn)
      throw error
    }
  }
  const results = await Promise.allSettled([change('a'), wrong(), change('b')])
  assert.match(String(reasonOf(results[1])), /no such table/)
  assert.deepEqual(seen(), ['a', 'b'])
})

test('a change that takes its time holds up those behind it, and all of them are kept', async () => {
  const results: string[] = []
  await Promise.all([
    change('slow', { afterwards: () => sleep(50) }).then(() => results.push('slow')),
    change('quick').then(() => results.push('quick')),
  ])
  assert.deepEqual(results, ['slow', 'quick'])
  assert.deepEqual(seen(), ['quick', 'slow'])
})

test('a full disk fails all who were to share the commit, keeps nothing of them, and is over when there is room', async () => {
  await change('before')
  const pages = Number(Object.values(database.prepare('pragma page_count').get() ?? {})[0])
  database.exec(`pragma max_page_count = ${pages + 2}`)
  const results = await Promise.allSettled([
    change('small'),
    change('large', { body: 'x'.repeat(100_000) }),
    change('after'),
  ])
  for (const result of results.slice(0, 2)) {
    const reason = reasonOf(result)
    assert.ok(reason instanceof Failure && reason.failure === 'database_unavailable', String(reason))
  }
  assert.equal(results[2]?.status, 'fulfilled', 'the next group has nothing to do with it')
  assert.deepEqual(seen(), ['after', 'before'])
  database.exec('pragma max_page_count = 100000')
  await change('large', { body: 'x'.repeat(100_000) })
  assert.deepEqual(seen(), ['after', 'before', 'large'])
})

test('a change whose group was given up does nothing more and fails too', async () => {
  const pages = Number(Object.values(database.prepare('pragma page_count').get() ?? {})[0])
  database.exec(`pragma max_page_count = ${pages + 2}`)
  const turn = await writer.begin()
  assert.throws(() => writer.execute(turn, insert('large', 'x'.repeat(100_000))), /disk is full/)
  assert.throws(() => writer.execute(turn, insert('more')), /disk is full/)
  await assert.rejects(writer.commit(turn), /disk is full/)
  assert.deepEqual(seen(), [])
})

test('a change that SQLite took back behind our back fails, and the next is served', async () => {
  const turn = await writer.begin()
  writer.execute(turn, insert('a'))
  database.exec('rollback')
  await assert.rejects(writer.commit(turn), /no such savepoint/)
  await change('b')
  assert.deepEqual(seen(), ['b'])
})

test('more than a group holds are all kept', async () => {
  await Promise.all(Array.from({ length: 1_000 }, (_, n) => change(`${n}`)))
  assert.equal(seen().length, 1_000)
})

test('closing keeps what was being committed', async () => {
  const turn = await writer.begin()
  writer.execute(turn, insert('a'))
  const committed = writer.commit(turn)
  await writer.close()
  await committed
  assert.deepEqual(seen(), ['a'])
  database = new DatabaseSync(path)
  writer = new Writer(new Statements(database))
})
