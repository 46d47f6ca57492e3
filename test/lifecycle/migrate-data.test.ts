/** `satchel migrate-data`: everything arrives, interruptions cost nothing, and what does not fit is refused or named. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { jpeg } from '../fixtures/media/files.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { runCli, type Server, startServer } from '../support/satchel.ts'

const BIN = fileURLToPath(new URL('../../bin/satchel.js', import.meta.url))
const folders: string[] = []
const newFolder = async () => {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-move-'))
  folders.push(folder)
  return folder
}
let postgres: Postgres | undefined
after(async () => {
  await postgres?.[Symbol.asyncDispose]()
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})

const bare = (env: Record<string, string>) =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !/PORT$/.test(name)))
const sqliteEnv = (folder: string) => ({
  SATCHEL_DATA_DIR: folder,
  SATCHEL_DATABASE_URL: `sqlite:${join(folder, 'satchel.sqlite')}`,
})
const fromFolder = (folder: string) => [
  'migrate-data',
  '--from-database',
  `sqlite:${join(folder, 'satchel.sqlite')}`,
  '--from-storage',
  `file:${join(folder, 'files')}`,
]

/** A used Satchel, stopped: files, messages, a webhook that is owed, an idempotency key. */
async function usedSatchel(files = 30) {
  const dataDir = await newFolder()
  const server = await startServer({ dataDir, env: { ...sqliteEnv(dataDir), SATCHEL_EGRESS_ALLOW: 'localhost:1' } })
  const client = server.client()
  await client.webhookSubscriptions.create({
    target_url: 'http://localhost:1/hook',
    subscribed_events: ['message.sent', 'message.delivered'],
  })
  const ids: string[] = []
  for (let n = 0; n < files; n++) {
    const file = Buffer.concat([jpeg(), Buffer.from(`file ${n}`)])
    const slot = await client.attachments.create({
      filename: `${n}.jpg`,
      content_type: 'image/jpeg',
      size_bytes: file.length,
    })
    assert.equal(
      (await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })).status,
      200,
    )
    ids.push(slot.attachment_id)
  }
  await client.attachments.delete(ids.pop() ?? '')
  await send(server, ids[0] ?? '')
  await sleep(1_000)
  await server.stop()
  return { dataDir, apiKey: server.apiKey, ids }
}

const send = (server: Server, attachment_id: string) =>
  server.client().chats.create({
    from: server.phoneNumbers[0] ?? '',
    to: ['+14155550100'],
    message: { parts: [{ type: 'media', attachment_id }], idempotency_key: 'once' },
  })

async function checkTarget(
  env: Record<string, string>,
  dataDir: string,
  used: Awaited<ReturnType<typeof usedSatchel>>,
) {
  await using target = await startServer({ dataDir, env: { ...env, SATCHEL_EGRESS_ALLOW: 'localhost:1' } })
  assert.equal(target.apiKey, used.apiKey)
  const client = target.client()
  for (const [n, id] of used.ids.entries()) {
    const { download_url = '' } = await client.attachments.retrieve(id)
    const answer = await fetch(download_url)
    assert.equal(answer.status, 200)
    assert.ok(
      Buffer.from(await answer.arrayBuffer())
        .toString('latin1')
        .endsWith(`file ${n}`),
    )
  }
  const before = await client.chats.listChats()
  const repeated = await send(target, used.ids[0] ?? '')
  assert.equal(repeated.chat.id, before.chats[0]?.id)
  assert.equal((await client.chats.messages.list(repeated.chat.id)).messages.length, 1)
  const { subscriptions } = await client.webhookSubscriptions.list()
  assert.equal(subscriptions.length, 1)
  assert.match((await runCli(['audit'], target.env)).stdout, /request/)
  assert.match((await runCli(['sweep'], target.env)).stdout, /Everything fits/)
}

test('SQLite and disk to SQLite and disk: all arrives; again: all is compared and nothing changes', async () => {
  const used = await usedSatchel()
  const dataDir = await newFolder()
  const env = sqliteEnv(dataDir)
  const moved = await runCli(fromFolder(used.dataDir), env)
  assert.equal(moved.code, 0, moved.stderr)
  assert.match(moved.stdout, /attachments: 29 rows\n/)
  assert.match(moved.stdout, /objects: 29, each with the SHA-256 of its row\n$/)
  const again = await runCli(fromFolder(used.dataDir), env)
  assert.equal(again.code, 0, again.stderr)
  assert.match(again.stdout, /attachments: 29 the same, 0 changed, 0 gone\n/)
  assert.match(again.stdout, /objects: 29 with the SHA-256 of their row\n$/)
  await checkTarget(env, dataDir, used)
})

test('SQLite to PostgreSQL, and back to SQLite, comes out as it went in', async () => {
  postgres ??= await startPostgres()
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

type Moved = { tables: number; objects: number }

function howFar(folder: string): Moved {
  try {
    const database = new DatabaseSync(join(folder, 'satchel.sqlite'), { readOnly: true })
    const sql = `select count(finished_at) as tables, max(case when step = 'objects' then copied end) as objects from migrated_data`
    const row = database.prepare(sql).get() as Moved
    database.close()
    return { tables: row.tables, objects: row.objects ?? 0 }
  } catch {
    return { tables: 0, objects: 0 }
  }
}

test('killed at any moment and started again, it ends with the same', async () => {
  const used = await usedSatchel(60)
  const dataDir = await newFolder()
  const env = sqliteEnv(dataDir)
  const seen = new Set<number>()
  const moments = [
    (o: Moved) => o.tables > 0,
    (o: Moved) => o.tables > 4,
    ...[8, 24, 40].map((n) => (o: Moved) => o.objects >= n),
  ]
  for (const isTime of moments) {
    const child = spawn(process.execPath, [BIN, ...fromFolder(used.dataDir)], {
      env: { PATH: process.env.PATH, ...env },
      stdio: 'ignore',
    })
    const exited = once(child, 'exit')
    while (child.exitCode === null && !isTime(howFar(dataDir))) await sleep(1)
    child.kill('SIGKILL')
    await exited
    seen.add(howFar(dataDir).objects)
  }
  assert.ok(
    [...seen].some((objects) => objects > 0 && objects < 59),
    `killed with ${[...seen]} objects copied`,
  )
  const last = await runCli(fromFolder(used.dataDir), env)
  assert.equal(last.code, 0, last.stderr)
  const verified = await runCli(fromFolder(used.dataDir), env)
  assert.equal(verified.code, 0, verified.stderr)
  assert.match(verified.stdout, /attachments: 59 the same, 0 changed, 0 gone[\s\S]*objects: 59 /)
  await checkTarget(env, dataDir, used)
})

test('bytes that are not what their row says are named and do not arrive', async () => {
  const used = await usedSatchel(3)
  const objects = join(used.dataDir, 'files', 'objects')
  const files = (await readdir(objects, { recursive: true })).filter((name) => name.split('/').length === 3)
  assert.equal(files.length, 2)
  await writeFile(join(objects, files[0] ?? ''), 'something else')
  await rm(join(objects, files[1] ?? ''))
  const dataDir = await newFolder()
  for (const said of [/other bytes in the source[\s\S]*/, /not in the target/]) {
    const { code, stderr } = await runCli(fromFolder(used.dataDir), sqliteEnv(dataDir))
    assert.equal(code, 1)
    assert.match(stderr, said)
    for (const file of files) assert.ok(stderr.includes(file))
  }
  const arrived = await readdir(join(dataDir, 'files', 'objects'), { recursive: true })
  assert.deepEqual(
    arrived.filter((name) => name.split('/').length === 3),
    [],
  )
})

test('refuses a target with data of its own, a second source, a missing source, the target itself', async () => {
  const used = await usedSatchel(2)
  const other = await newFolder()
  const running = await startServer({ dataDir: other, env: sqliteEnv(other) })
  const refused = async (args: string[], folder: string, why: RegExp) => {
    const { code, stderr } = await runCli(args, sqliteEnv(folder))
    assert.equal(code, 1)
    assert.match(stderr, why)
  }
  await refused(fromFolder(used.dataDir), other, /a server is running on .*stop it first/)
  await refused(fromFolder(other), await newFolder(), /a server is running on .*stop it first/)
  await running.stop()
  await refused(fromFolder(used.dataDir), other, /the target is not empty: it has partners/)
  const target = await newFolder()
  assert.equal((await runCli(fromFolder(used.dataDir), sqliteEnv(target))).code, 0)
  await refused(fromFolder(other), target, /was filled from .*cannot take another source/)
  await refused(fromFolder('/nowhere/at/all'), await newFolder(), /does not exist/)
  await refused(fromFolder(used.dataDir), used.dataDir, /the same database/)
  const cloud = ['migrate-data', '--from-database', 'mysql://x', '--from-storage', 'file:/tmp']
  await refused(cloud, await newFolder(), /a database is named by sqlite:PATH/)
  assert.equal((await runCli(['migrate-data'], bare(running.env))).code, 2)
})
