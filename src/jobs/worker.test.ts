/** The loop over the table: runs, retries, gives up, and stops when it may. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import type { Opened } from '../db/schema.ts'
import { openSqlite } from '../db/sqlite.ts'
import { openLog } from '../log.ts'
import { enqueue } from './jobs.ts'
import type { Loop } from './loop.ts'
import { type Handlers, startWorker } from './worker.ts'

const folder = await mkdtemp(join(tmpdir(), 'satchel-worker-'))
after(() => rm(folder, { recursive: true }))

/** Stands still until it is moved. */
class HeldClock implements Clock {
  time = 1_000_000
  now = () => this.time
  sleep = () => Promise.reject(new Error('nobody sleeps by this clock'))
}

let opened: Opened
let clock: HeldClock
let worker: Loop
let files = 0
beforeEach(async () => {
  opened = await openSqlite(join(folder, `${++files}.sqlite`))
  clock = new HeldClock()
})
afterEach(async () => {
  await worker.stop()
  await opened[Symbol.asyncDispose]()
})

function start(onDelete: Handlers['bytes.delete']): void {
  const unexpected = () => Promise.reject(new Error('not in this test'))
  const handlers: Handlers = {
    'message.send': unexpected,
    'sandbox.report': unexpected,
    'retention.sweep': unexpected,
    'upload.settle': unexpected,
    'cdn.purge': unexpected,
    'attachment.vanish': unexpected,
    'bytes.delete': onDelete,
  }
  worker = startWorker({ opened, node: 'a', clock, log: openLog('silent') }, handlers)
}

const add = (id: string, runAt = clock.time) =>
  enqueue(opened.db, { id, kind: 'bytes.delete', payload: { storage_key: id }, runAt })

const rows = () => opened.db.selectFrom('jobs').selectAll().orderBy('id').execute()

async function until(isSo: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !(await isSo()); await sleep(10)) assert.ok(Date.now() < end, 'not in time')
}

test('runs what is due and removes it, and leaves what is not', async () => {
  const ran: string[] = []
  start(async ({ storage_key }) => void ran.push(storage_key))
  await add('now')
  await add('later', clock.time + 1)
  await until(async () => (await rows()).length === 1)
  await sleep(250)
  assert.deepEqual(ran, ['now'])
  clock.time += 1
  await until(async () => (await rows()).length === 0)
  assert.deepEqual(ran, ['now', 'later'])
})

test('pauses half a second after a failure, then twice as long each time, at most ten minutes; gives up after twelve', async () => {
  const attempts: number[] = []
  start(async (_, attempt) => {
    attempts.push(attempt)
    throw new Error('no luck')
  })
  await add('a')
  const pauses: number[] = []
  for (let attempt = 1; attempt <= 12; attempt++) {
    await until(async () => attempts.length === attempt && (await rows())[0]?.leased_until === 0)
    const [row] = await rows()
    assert.ok(row)
    assert.equal(row.last_error, 'no luck')
    assert.equal(row.failed_at, attempt === 12 ? clock.time : null)
    if (attempt < 12) pauses.push(row.run_at - clock.time)
    clock.time = Math.max(clock.time, row.run_at)
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000, 512000])
  clock.time += 10_000_000
  await sleep(300)
  assert.equal(attempts.length, 12)
})

test('a job that fails does not hold up the others', async () => {
  const ran: string[] = []
  start(async ({ storage_key }) => {
    if (storage_key === 'bad') throw new Error('no')
    ran.push(storage_key)
  })
  await add('bad')
  for (let i = 0; i < 100; i++) await add(`good-${i}`)
  await until(() => ran.length === 100)
})

test('runs many side by side, but not more than it can hold', async () => {
  let underWay = 0
  let most = 0
  let done = 0
  start(async () => {
    most = Math.max(most, ++underWay)
    await sleep(30)
    underWay--
    done++
  })
  for (let i = 0; i < 100; i++) await add(`${i}`)
  await until(() => done === 100)
  assert.ok(most > 8 && most <= 32, `${most} at once`)
})

test('stop waits for what runs, and takes nothing more', async () => {
  const began: string[] = []
  const ended: string[] = []
  start(async ({ storage_key }) => {
    began.push(storage_key)
    await sleep(300)
    ended.push(storage_key)
  })
  await add('running')
  await until(() => began.length === 1)
  const stopped = worker.stop()
  await add('too late')
  await stopped
  assert.deepEqual(ended, ['running'])
  assert.deepEqual(
    (await rows()).map(({ id }) => id),
    ['too late'],
  )
  await sleep(250)
  assert.deepEqual(began, ['running'])
})

test('stop is quick when nothing runs, and may be called twice', async () => {
  start(async () => {})
  await sleep(20)
  const began = Date.now()
  await Promise.all([worker.stop(), worker.stop()])
  assert.ok(Date.now() - began < 500)
})
