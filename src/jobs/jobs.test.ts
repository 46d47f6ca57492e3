/** The job table on a real SQLite file, with time held in hand. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import type { Opened } from '../db/schema.ts'
import { openSqlite } from '../db/sqlite.ts'
import { claim, countJobs, enqueue, finish, releaseJobs, retryAt } from './jobs.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-jobs-'))
after(() => rm(folder, { recursive: true }))

let opened: Opened
let files = 0
beforeEach(async () => {
  await opened?.[Symbol.asyncDispose]()
  opened = await openSqlite(join(folder, `${++files}.sqlite`))
})
after(() => opened[Symbol.asyncDispose]())

const LEASE_MS = 1_000
const due = (now: number, limit = 100) =>
  claim(opened.db, { now, realNow: now, limit, leaseMs: LEASE_MS, node: 'a', skipLocked: opened.skipLocked })
const add = (id: string, runAt: number) =>
  enqueue(opened.db, { id, kind: 'bytes.delete', payload: { storage_key: `key-${id}` }, runAt })
const ids = (jobs: readonly { id: string }[]) => jobs.map(({ id }) => id)

test('a job is claimed when it is due, with its payload and its first attempt', async () => {
  await add('a', 100)
  assert.deepEqual(await due(99), [])
  assert.deepEqual(await due(100), [{ id: 'a', kind: 'bytes.delete', payload: { storage_key: 'key-a' }, attempt: 1 }])
})

test('the oldest come first, and no more than asked for', async () => {
  for (const [id, runAt] of [
    ['c', 3],
    ['a', 1],
    ['d', 3],
    ['b', 2],
  ] as const)
    await add(id, runAt)
  assert.deepEqual(ids(await due(10, 3)), ['a', 'b', 'c'])
  assert.deepEqual(ids(await due(10, 3)), ['d'])
})

test('one that is enqueued twice under one id is one job', async () => {
  await add('a', 1)
  await add('a', 2)
  assert.equal((await due(10)).length, 1)
})

test('no two claimers get the same job, however many ask at once', async () => {
  for (let i = 0; i < 200; i++) await add(`${i}`, i)
  const path = join(folder, `${files}.sqlite`)
  const others = await Promise.all([openSqlite(path), openSqlite(path), openSqlite(path)])
  const claimers = [opened, ...others]
  const claimed = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      claim((claimers[i % claimers.length] ?? opened).db, {
        now: 1_000,
        realNow: 1_000,
        limit: 7,
        leaseMs: LEASE_MS,
        node: 'a',
        skipLocked: false,
      }),
    ),
  )
  for (const other of others) await other[Symbol.asyncDispose]()
  const all = claimed.flatMap(ids)
  assert.equal(all.length, 200)
  assert.equal(new Set(all).size, 200)
})

test('a claimed job is nobody else’s until its lease is over; then its attempt counts on', async () => {
  await add('a', 0)
  assert.equal((await due(0)).length, 1)
  assert.deepEqual(await due(LEASE_MS - 1), [])
  assert.deepEqual((await due(LEASE_MS))[0]?.attempt, 2)
})

test('who lost a job to another worker does not finish it for that one', async () => {
  await add('a', 1)
  const [lost] = await due(10)
  const [taken] = await due(10 + LEASE_MS)
  assert.ok(lost && taken)
  await finish(opened.db, lost)
  assert.deepEqual(await countJobs(opened.db), { waiting: 1, failed: 0 })
  await finish(opened.db, taken)
  assert.deepEqual(await countJobs(opened.db), { waiting: 0, failed: 0 })
})

test('a finished job is gone', async () => {
  await add('a', 0)
  const [job] = await due(0)
  assert.ok(job)
  await finish(opened.db, job)
  assert.deepEqual(await due(1_000_000), [])
  assert.deepEqual(await countJobs(opened.db), { waiting: 0, failed: 0 })
})

test('a job that is given back runs at the time it was given back for, not before', async () => {
  await add('a', 0)
  const [job] = await due(0)
  assert.ok(job)
  await retryAt(opened.db, job, 500, 10, 'not yet')
  assert.deepEqual(await due(499), [])
  assert.deepEqual((await due(500))[0]?.attempt, 2)
})

test('a job that is given up is kept, counted, and never claimed again', async () => {
  await add('a', 0)
  await add('b', 0)
  const [job] = await due(0)
  assert.ok(job)
  await retryAt(opened.db, job, 'never', 10, 'x'.repeat(1000))
  await releaseJobs(opened.db, 'any')
  assert.deepEqual(ids(await due(1_000_000)), ['b'])
  assert.deepEqual(await countJobs(opened.db), { waiting: 1, failed: 1 })
  const row = await opened.db.selectFrom('jobs').selectAll().where('id', '=', 'a').executeTakeFirst()
  assert.equal(row?.failed_at, 10)
  assert.equal(row?.last_error?.length, 500)
})

test('a start frees what a process that is gone had claimed', async () => {
  await add('a', 0)
  await due(0)
  await releaseJobs(opened.db, 'b')
  assert.deepEqual(await due(1), [])
  await releaseJobs(opened.db, 'a')
  assert.deepEqual((await due(1))[0]?.attempt, 2)
})

test('or whatever any process had claimed, where there can be no other', async () => {
  await add('a', 0)
  await due(0)
  await releaseJobs(opened.db, 'any')
  assert.deepEqual((await due(1))[0]?.attempt, 2)
})

test('a job of a transaction that is rolled back was never there', async () => {
  const rolled = opened.db.transaction().execute(async (tx) => {
    await enqueue(tx, { id: 'a', kind: 'bytes.delete', payload: { storage_key: 'k' }, runAt: 0 })
    throw new Error('no')
  })
  await assert.rejects(rolled, /no/)
  assert.deepEqual(await due(10), [])
})
