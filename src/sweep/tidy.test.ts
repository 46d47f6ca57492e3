/** Small objects are moved together while they are read, deleted and stored; nobody ever finds other bytes, or none. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, test } from 'node:test'
import { systemClock } from '../clock.ts'
import type { Opened } from '../db/schema.ts'
import { openSqlite } from '../db/sqlite.ts'
import { uuidv7 } from '../ids.ts'
import { type Disk, openDisk } from '../storage/disk.ts'
import { tidyStorage } from './tidy.ts'

const DAY = 86_400_000
const never = new AbortController().signal
const newId = uuidv7(systemClock)

let folder: string
let opened: Opened
let storage: Disk
let now: number
const bodies = new Map<string, Buffer>()
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-tidy-'))
  opened = await openSqlite(join(folder, 'satchel.sqlite'))
  now = Date.now()
  storage = await openDisk(join(folder, 'files'), { exclusive: true, now: () => now })
  bodies.clear()
  const partner = { id: 'p', name: 'p', created_at: 0 }
  await opened.db
    .insertInto('partners')
    .values(partner as never)
    .execute()
})
afterEach(async () => {
  await storage.small.close()
  await opened[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

async function add(id: string): Promise<void> {
  const body = randomBytes(3_000)
  const storage_key = await storage.small.append(body)
  bodies.set(id, body)
  const row = {
    id,
    partner_id: 'p',
    filename: 'a.jpg',
    declared_type: 'image/jpeg',
    content_type: 'image/jpeg',
    size_bytes: body.length,
    status: 'complete',
    source: 'upload',
    storage_key,
    sha256: id.padStart(64, '0'),
    created_at: 0,
    upload_expires_at: 0,
    completed_at: 0,
  }
  await opened.db
    .insertInto('attachments')
    .values(row as never)
    .execute()
}

async function keyOf(id: string): Promise<string | undefined> {
  const row = await opened.db.selectFrom('attachments').select('storage_key').where('id', '=', id).executeTakeFirst()
  return row?.storage_key ?? undefined
}

/** As a server does: once more with a fresh row when nothing is there. */
async function read(id: string): Promise<Buffer | undefined> {
  let last: string | undefined
  for (;;) {
    const key = await keyOf(id)
    if (key === undefined || key === last) return undefined
    const body = await storage.get(key)
    if (body) return await buffer(body)
    last = key
  }
}

async function remove(id: string): Promise<void> {
  const row = await opened.db.deleteFrom('attachments').where('id', '=', id).returning('storage_key').executeTakeFirst()
  bodies.delete(id)
  if (row?.storage_key) await storage.delete(row.storage_key)
}

/** Tidies up, and does what the jobs of it ask for. */
async function tidy(o: { storage?: Disk; signal?: AbortSignal } = {}): Promise<void> {
  const app = { db: opened.db, storage: o.storage ?? storage, clock: systemClock, newId }
  await tidyStorage(app, o.signal ?? never).finally(async () => {
    const jobs = await opened.db.deleteFrom('jobs').where('kind', '=', 'bytes.delete').returning('payload').execute()
    for (const { payload } of jobs) await storage.delete((JSON.parse(payload) as { storage_key: string }).storage_key)
  })
}

async function checkAll(): Promise<void> {
  for (const [id, body] of bodies) assert.ok((await read(id))?.equals(body), id)
  const listed = []
  for await (const { key } of storage.list()) listed.push(key)
  assert.deepEqual(listed, (await Promise.all([...bodies.keys()].map(keyOf))).sort())
}

const packs = () => readdir(join(folder, 'files/packs'))

/** Sixty objects of which twenty are left, a day later; and one in a file of now. */
async function sparse(): Promise<string[]> {
  const ids = Array.from({ length: 60 }, (_, n) => `a${n}`)
  for (const id of ids) await add(id)
  for (const id of ids.slice(20)) await remove(id)
  now += DAY + 1
  await add('new')
  assert.equal((await packs()).length, 2)
  return ids.slice(0, 20)
}

test('a file of which most is dead is given up, and what lived in it is found as before', async () => {
  await sparse()
  await tidy()
  assert.equal((await packs()).length, 1)
  await checkAll()
  await tidy()
  await checkAll()
})

test('readers find the true bytes all the while, and deletions at the same time delete', async () => {
  const ids = await sparse()
  let going = true
  let reads = 0
  const readers = Array.from({ length: 4 }, async (_, reader) => {
    for (let n = reader; going; n++) {
      const id = ids[n % ids.length] ?? ''
      const body = bodies.get(id)
      const found = await read(id)
      if (body && bodies.has(id)) assert.ok(found?.equals(body), id)
      reads++
    }
  })
  const deletions = (async () => {
    for (const id of ids.slice(0, 7)) await remove(id)
  })()
  await tidy()
  await deletions
  going = false
  await Promise.all(readers)
  assert.ok(reads > 0)
  await checkAll()
  await tidy()
  assert.equal((await packs()).length, 1)
})

test('a file with an object that no row has stays as it is', async () => {
  const ids = await sparse()
  await opened.db
    .deleteFrom('attachments')
    .where('id', '=', ids[3] ?? '')
    .execute()
  const before = await packs()
  await tidy()
  assert.deepEqual(await packs(), before)
  for (const [id, body] of bodies) if (id !== ids[3]) assert.ok((await read(id))?.equals(body))
})

test('told to stop, it leaves the rest for another time', async () => {
  await sparse()
  await tidy({ signal: AbortSignal.abort() })
  assert.equal((await packs()).length, 2)
  await checkAll()
})

test('stopped half way, what was moved is there once, and the rest where it was', async () => {
  await sparse()
  const controller = new AbortController()
  const small = {
    ...storage.small,
    append: async (body: Uint8Array) => {
      controller.abort()
      return await storage.small.append(body)
    },
  }
  await tidy({ storage: { ...storage, small }, signal: controller.signal })
  assert.equal((await packs()).length, 2)
  await checkAll()
  await tidy()
  assert.equal((await packs()).length, 1)
  await checkAll()
})

test('one that cannot be moved fails the hour, and leaves no copy that nobody knows of', async () => {
  const ids = await sparse()
  let appended = 0
  const small = {
    ...storage.small,
    append: async (body: Uint8Array) => {
      if (++appended === 5) throw new Error('the disk is full')
      return await storage.small.append(body)
    },
  }
  await assert.rejects(tidy({ storage: { ...storage, small } }), /disk is full/)
  await checkAll()
  await tidy()
  assert.equal((await packs()).length, 1)
  await checkAll()
  for (const id of ids) await remove(id)
  await checkAll()
})
