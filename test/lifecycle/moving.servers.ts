/** `satchel migrate-data` with the backends that need servers: PostgreSQL, and a bucket on both S3 servers. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { startPostgres } from '../support/postgres.ts'
import { S3_KINDS, startS3 } from '../support/s3.ts'
import { runCli, startServer } from '../support/satchel.ts'
import { checkTarget, fromFolder, newFolder, sqliteEnv, usedSatchel } from './used.ts'

const postgres = await startPostgres()
after(() => postgres[Symbol.asyncDispose]())

test('SQLite to PostgreSQL, and back to SQLite, comes out as it went in', async () => {
  const used = await usedSatchel(12)
  const there = { SATCHEL_DATA_DIR: await newFolder(), SATCHEL_DATABASE_URL: await postgres.createDatabase() }
  const moved = await runCli(fromFolder(used.dataDir), there)
  assert.equal(moved.code, 0, moved.stderr)
  assert.equal((await runCli(fromFolder(used.dataDir), there)).code, 0)
  const dataDir = await newFolder()
  const back = sqliteEnv(dataDir)
  const from = [
    'migrate-data',
    '--from-database',
    there.SATCHEL_DATABASE_URL,
    '--from-storage',
    `file:${join(there.SATCHEL_DATA_DIR, 'files')}`,
  ]
  const returned = await runCli(from, back)
  assert.equal(returned.code, 0, returned.stderr)
  assert.equal((await runCli(from, back)).code, 0)
  const dump = (folder: string, table: string) =>
    new DatabaseSync(join(folder, 'satchel.sqlite')).prepare(`select * from ${table} order by 1, 2`).all()
  for (const table of [
    'partners',
    'attachments',
    'messages',
    'message_parts',
    'jobs',
    'webhook_deliveries',
    'idempotency_keys',
  ]) {
    assert.deepEqual(dump(dataDir, table), dump(used.dataDir, table), table)
  }
  await checkTarget(there, there.SATCHEL_DATA_DIR, used)
})

for (const kind of S3_KINDS) {
  test(`SQLite and disk to PostgreSQL and a bucket of ${kind}: all arrives, and the sweep finds it so`, async () => {
    const s3 = await startS3(kind)
    const used = await usedSatchel(20)
    const folder = await newFolder()
    const database = await postgres.createDatabase()
    const there: Record<string, string> = { ...s3.env(), SATCHEL_DATA_DIR: folder, SATCHEL_DATABASE_URL: database }
    const moved = await runCli(fromFolder(used.dataDir), there)
    assert.equal(moved.code, 0, moved.stderr)
    const again = await runCli(fromFolder(used.dataDir), there)
    assert.equal(again.code, 0, again.stderr)
    assert.match(again.stdout, /objects: 19 with the SHA-256 of their row/)
    await checkTarget(there, folder, used)

    const dataDir = await newFolder()
    const back = ['migrate-data', '--from-database', database, '--from-storage', s3.url()]
    const { SATCHEL_S3_ACCESS_KEY_ID = '', SATCHEL_S3_SECRET_ACCESS_KEY = '' } = there
    const returned = await runCli(back, {
      ...sqliteEnv(dataDir),
      SATCHEL_S3_ACCESS_KEY_ID,
      SATCHEL_S3_SECRET_ACCESS_KEY,
    })
    assert.equal(returned.code, 0, returned.stderr)
    await checkTarget(sqliteEnv(dataDir), dataDir, used)
    await s3[Symbol.asyncDispose]()
  })

  test(`sweep with a bucket of ${kind} and PostgreSQL sees every object and its row`, async () => {
    const s3 = await startS3(kind)
    const env = {
      SATCHEL_DATABASE_URL: await postgres.createDatabase(),
      SATCHEL_UPLOADS: 'proxy',
      ...s3.env(),
    }
    await using server = await startServer({ env })
    const client = server.client()
    const file = Buffer.from('Hello')
    const slots = []
    for (let n = 0; n < 30; n++) {
      const slot = await client.attachments.create({ filename: 'a.txt', content_type: 'text/plain', size_bytes: 5 })
      await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })
      slots.push(slot)
    }
    const clean = await runCli(['sweep', '--json'], server.env)
    assert.equal(clean.code, 0, clean.stdout)
    const { objects, rows } = JSON.parse(clean.stdout)
    assert.deepEqual([objects, rows], [30, 30])
    await s3[Symbol.asyncDispose]()
  })
}
