/**
 * What every database has to pass; a backend's test calls it in three lines. Each test has a database of its own, opened
 * twice: what SQLite's single connection would hide shows between the two.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import { insertAttachment, setComplete } from '../attachments/rows.ts'
import { systemClock } from '../clock.ts'
import { Failure } from '../failure.ts'
import { uuidv7 } from '../ids.ts'
import { openDatabase } from '../open.ts'
import { ensureLines, ensurePartner, newApiKey } from '../partners/create.ts'
import { findApiKey, insertPartner, insertPhoneNumber, listPartners } from '../partners/rows.ts'
import { secretsInDatabase } from '../secrets.ts'
import { jobConformance } from './conformance-jobs.ts'
import { planConformance } from './conformance-plans.ts'
import { raceConformance } from './conformance-races.ts'
import { webhookConformance } from './conformance-webhooks.ts'
import { isUniqueViolation, type NewRow, type Opened } from './schema.ts'
import { inTransaction } from './transaction.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))
const newId = uuidv7(systemClock)

/** The same database, opened by two. */
export type Pair = { a: Opened; b: Opened; [Symbol.asyncDispose](): Promise<void> }

async function openTwice(url: string): Promise<Pair> {
  const a = await openDatabase(url)
  const b = await openDatabase(url)
  return {
    a,
    b,
    async [Symbol.asyncDispose]() {
      await a[Symbol.asyncDispose]()
      await b[Symbol.asyncDispose]()
    },
  }
}

/** `make` gives the URL of a database that is new and empty, each time another one. */
export function databaseConformance(name: string, make: () => Promise<string>): void {
  const open = async () => await openTwice(await make())

  describe(name, () => {
    test('ten processes that migrate at once all succeed, and one of them does it', async () => {
      const env = { PATH: process.env.PATH, SATCHEL_DATABASE_URL: await make() }
      const runs = await Promise.all(
        Array.from({ length: 10 }, () => promisify(execFile)(process.execPath, [BIN, 'migrate'], { env })),
      )
      const said = runs.map(({ stdout }) => stdout)
      assert.equal(said.filter((text) => text.startsWith('Migrated: 0001-')).length, 1, said.join(''))
      assert.equal(said.filter((text) => text === 'The schema is up to date.\n').length, 9, said.join(''))
    })

    test('opening it again migrates nothing', async () => {
      await using pair = await open()
      assert.ok(pair.a.migrated.includes('0003-nodes'))
      assert.deepEqual(pair.b.migrated, [])
    })

    test('integers up to 2^53 - 1 come back as the numbers they were', async () => {
      await using pair = await open()
      for (const value of [0, 1, 2 ** 31, 2 ** 40 + 1, Number.MAX_SAFE_INTEGER]) {
        const row = await newAttachment(pair.a, { size_bytes: value, created_at: value })
        const [found] = await pair.b.db.selectFrom('attachments').selectAll().where('id', '=', row.id).execute()
        assert.equal(found?.size_bytes, value)
        assert.equal(found.created_at, value)
      }
      const { rows } = await sql<{ n: unknown; top: unknown }>`
        select count(*) as n, max(size_bytes) as top from attachments`.execute(pair.a.db)
      assert.deepEqual({ ...rows[0] }, { n: 5, top: Number.MAX_SAFE_INTEGER })
    })

    test('text comes back letter for letter, and its case matters', async () => {
      await using pair = await open()
      const texts = [
        '',
        ' a ',
        "o'neill\\n",
        'é',
        'e\u0301',
        '😀👩‍👩‍👧',
        'שלום',
        '\u202egnp.exe',
        '\r\n\t\u0001',
        'ß'.repeat(5_000),
      ]
      for (const filename of texts) {
        const { id } = await newAttachment(pair.a, { filename })
        const found = await pair.b.db
          .selectFrom('attachments')
          .select('id')
          .where('filename', '=', filename)
          .where('id', '=', id)
          .executeTakeFirst()
        assert.equal(found?.id, id, JSON.stringify(filename))
      }
      await newAttachment(pair.a, { filename: 'A.PNG' })
      const lower = pair.b.db.selectFrom('attachments').select('id').where('filename', '=', 'a.png')
      assert.deepEqual(await lower.execute(), [])
    })

    test('text with a NUL character is refused with 1005, and the database goes on', async () => {
      await using pair = await open()
      const refused = (error: unknown) => error instanceof Failure && error.code === 1005
      await assert.rejects(newAttachment(pair.a, { filename: 'a\0b' }), refused)
      const query = pair.a.db.selectFrom('attachments').selectAll().where('filename', '=', '\0')
      await assert.rejects(query.execute(), refused)
      assert.deepEqual(await pair.a.db.selectFrom('attachments').select('filename').execute(), [])
    })

    test('ids sort as their text does', async () => {
      await using pair = await open()
      const ids = ['a', '0', 'f', '9-', '90', 'b0', 'b-'].map((id) => `${id}-x`)
      for (const id of ids) await pair.a.db.insertInto('partners').values({ id, name: 'x', created_at: 1 }).execute()
      const uuids = Array.from({ length: 50 }, newId)
      for (const id of uuids.toReversed()) {
        await pair.a.db.insertInto('partners').values({ id, name: 'u', created_at: 1 }).execute()
      }
      const found = await pair.b.db.selectFrom('partners').select('id').where('name', '=', 'u').orderBy('id').execute()
      assert.deepEqual(
        found.map((row) => row.id),
        uuids,
      )
      const [last] = uuids.slice(-1)
      const behind = pair.b.db
        .selectFrom('partners')
        .select('id')
        .where('id', '>', last ?? '')
        .where('name', '=', 'u')
      assert.deepEqual(await behind.execute(), [])
    })

    test('a broken unique or primary key is told from every other error', async () => {
      await using pair = await open()
      const { db } = pair.a
      const partner = { id: newId(), name: 'x', created_at: 1 }
      await insertPartner(db, partner, 'hash')
      const caught = async (work: Promise<unknown>) =>
        await work.then(
          () => undefined,
          (error: unknown) => error,
        )
      assert.ok(isUniqueViolation(await caught(db.insertInto('partners').values(partner).execute())))
      const line = (id: string) => ({ id, partner_id: partner.id, phone_number: '+12025550100', created_at: 1 })
      await insertPhoneNumber(db, line('one'))
      assert.ok(isUniqueViolation(await caught(insertPhoneNumber(db, line('two')))))
      const foreign = await caught(
        insertPhoneNumber(db, { ...line('three'), partner_id: 'nobody', phone_number: '+1' }),
      )
      assert.ok(foreign instanceof Error && !isUniqueViolation(foreign), 'a foreign key')
      const { id } = await newAttachment(pair.a, {})
      const half = db.updateTable('attachments').set({ status: 'complete' }).where('id', '=', id)
      const check = await caught(half.execute())
      assert.ok(check instanceof Error && !isUniqueViolation(check), 'a check')
    })

    test('a transaction that throws leaves nothing, and one that is done shows to others', async () => {
      await using pair = await open()
      const row = { id: newId(), name: 'x', created_at: 1 }
      const boom = new Error('boom')
      const failing = inTransaction(pair.a.db, async (tx) => {
        await insertPartner(tx, row, 'hash')
        throw boom
      })
      await assert.rejects(failing, boom)
      assert.deepEqual(await listPartners(pair.b.db), [])
      await inTransaction(pair.a.db, (tx) => insertPartner(tx, row, 'hash'))
      assert.equal((await findApiKey(pair.b.db, 'hash'))?.partner_id, row.id)
    })

    test('of two uploads that complete at once one wins', async () => {
      await using pair = await open()
      for (let round = 0; round < 10; round++) {
        const { id } = await newAttachment(pair.a, {})
        const found = (key: string) => ({ content_type: 'image/png', storage_key: key, sha256: key, completed_at: 1 })
        const won = await Promise.all([
          setComplete(pair.a.db, id, found('one')),
          setComplete(pair.b.db, id, found('two')),
        ])
        assert.deepEqual(won.toSorted(), [false, true])
        const row = await pair.a.db
          .selectFrom('attachments')
          .select('storage_key')
          .where('id', '=', id)
          .executeTakeFirst()
        assert.equal(row?.storage_key, won[0] ? 'one' : 'two')
      }
    })

    test('ten nodes that start at once agree on secrets, on the first partner and on its lines', async () => {
      await using pair = await open()
      const nodes = Array.from({ length: 10 }, (_, index) => (index % 2 ? pair.a : pair.b))
      const made = await Promise.all(
        nodes.map(async ({ db }) => {
          const apiKey = await secretsInDatabase(db, systemClock)('sandbox-api-key', newApiKey)
          const app = { db, clock: systemClock, newId }
          const id = await ensurePartner(app, { name: 'sandbox', apiKey, phoneNumbers: [] })
          return { apiKey, id, lines: await ensureLines(app, id) }
        }),
      )
      for (const one of made) assert.deepEqual(one, made[0])
      assert.equal(made[0]?.lines.length, 2)
      assert.equal((await listPartners(pair.a.db)).length, 1)
    })

    jobConformance(open)
    raceConformance(open)
    webhookConformance(open)
    planConformance(open)
  })
}

async function newAttachment({ db }: Opened, some: Partial<NewRow<'attachments'>>) {
  const partner = { id: newId(), name: 'x', created_at: 1 }
  await insertPartner(db, partner, newId())
  const row = {
    id: newId(),
    partner_id: partner.id,
    filename: 'a.png',
    declared_type: 'image/png',
    content_type: 'image/png',
    size_bytes: 1,
    status: 'pending' as const,
    source: 'upload' as const,
    created_at: 1,
    upload_expires_at: 2,
    ...some,
  }
  await insertAttachment(db, row)
  return row
}
