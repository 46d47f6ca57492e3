/** `satchel sweep` beside a running server: what it finds, what it leaves alone, what it deletes. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { jpeg } from '../fixtures/media/files.ts'
import { ask } from '../support/database.ts'
import { packedIn } from '../support/packs.ts'
import { runCli, startServer } from '../support/satchel.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const objects = join(server.dataDir, 'files', 'objects')
const HOUR = 3_600_000

const sweep = (...args: string[]) => runCli(['sweep', ...args], server.env)

async function sweepJson(...args: string[]) {
  const { code, stdout, stderr } = await sweep('--json', ...args)
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  return { code, stderr, findings: lines.slice(0, -1), totals: lines.at(-1) }
}

/** One of its own in the storage, or one of many in a file. */
const LARGE = Buffer.concat([jpeg(), Buffer.alloc(140_000)])

async function upload(file: Uint8Array<ArrayBuffer> = jpeg()) {
  const slot = await client.attachments.create({
    filename: 'a.jpg',
    content_type: 'image/jpeg',
    size_bytes: file.length,
  })
  await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })
  return slot
}

async function put(key: string, ageMs: number, bytes = 'orphan'): Promise<string> {
  const path = join(objects, key)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, bytes)
  const at = new Date(Date.now() - ageMs)
  await utimes(path, at, at)
  return path
}

async function pathOfOnly(before: Set<string>): Promise<string> {
  const now = await readdir(objects, { recursive: true })
  const [added] = now.filter((name) => !before.has(name) && name.split('/').length === 3)
  assert.ok(added)
  return join(objects, added)
}

const listed = async () => new Set(await readdir(objects, { recursive: true }))

test('a storage that fits is clean: exit code 0', async () => {
  await upload()
  const { code, stdout } = await sweep()
  assert.equal(code, 0, stdout)
  assert.match(stdout, /^1 objects with \d+ B, 1 complete attachments\.\nEverything fits\.\n$/)
})

test('a database that never had an attachment is not believed when it comes to deleting', async () => {
  const empty = await startServer()
  const path = join(empty.dataDir, 'files', 'objects', 'media/aa/stranger')
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, 'x')
  await utimes(path, 0, 0)
  const { code, stderr } = await runCli(['sweep', '--delete'], empty.env)
  assert.equal(code, 1)
  assert.match(stderr, /never had an attachment/)
  assert.ok(existsSync(path))
  await empty[Symbol.asyncDispose]()
})

test('objects without a row are told, and only the old ones', async () => {
  const orphan = '01a20000-0000-7000-8000-000000000001'
  await put(`media/01/${orphan}`, 25 * HOUR)
  await put('media/02/01a20000-0000-7000-8000-000000000002', 2 * HOUR)
  await put('somebody/elses', 1000 * HOUR)
  const { code, findings, totals } = await sweepJson()
  assert.equal(code, 1)
  assert.deepEqual(
    findings.map(({ modified: _, ...finding }) => finding),
    [{ finding: 'no_row', key: `media/01/${orphan}`, size_bytes: 6, deleted: false }],
  )
  assert.deepEqual(
    [totals.objects, totals.rows, totals.young, totals.foreign, totals.left, totals.deleted.objects],
    [4, 1, 1, 1, 1, 0],
  )
})

test('deletes what is old enough and has no row, and nothing else', async () => {
  const first = await sweepJson('--delete')
  assert.deepEqual([first.code, first.totals.deleted, first.totals.left], [0, { objects: 1, bytes: 6 }, 0])
  const second = await sweepJson('--delete', '--older-than', '90m')
  assert.deepEqual([second.code, second.totals.deleted.objects, second.totals.foreign], [0, 1, 1])
  assert.ok(existsSync(join(objects, 'somebody/elses')))
  assert.deepEqual((await sweepJson()).findings, [])
})

test('refuses an age below an hour, since uploads may be under way', async () => {
  for (const age of ['59m', '0h', '24', 'x', '-1d']) {
    const { code, stderr } = await sweep('--delete', `--older-than=${age}`)
    assert.equal(code, 2, age)
    assert.match(stderr, /at least 1h/)
  }
})

test('uploads that were left behind are told when their attachment is finished or unknown', async () => {
  const done = await upload()
  const pending = await client.attachments.create({ filename: 'b.jpg', content_type: 'image/jpeg', size_bytes: 9 })
  const keyOf = (id: string) => `staging/${id.slice(-2)}/${id}`
  const unknown = '01a20000-0000-7000-8000-0000000000ff'
  for (const id of [done.attachment_id, pending.attachment_id, unknown]) await put(keyOf(id), 25 * HOUR)
  const { code, findings } = await sweepJson('--delete')
  assert.equal(code, 0)
  assert.deepEqual(
    new Set(findings.map(({ finding, key }) => `${finding} ${key}`)),
    new Set([`staged ${keyOf(done.attachment_id)}`, `staged ${keyOf(unknown)}`]),
  )
  assert.ok(existsSync(join(objects, keyOf(pending.attachment_id))))
})

test('an attachment whose object is gone or was cut off is told and never touched', async () => {
  const before = await listed()
  const lost = await upload(LARGE)
  const lostPath = await pathOfOnly(before)
  const between = await listed()
  const cut = await upload(LARGE)
  const cutPath = await pathOfOnly(between)
  await rm(lostPath)
  await truncate(cutPath, 5)
  const { code, findings } = await sweepJson('--delete', '--older-than', '1h')
  assert.equal(code, 1)
  const keyOf = (path: string) => path.slice(objects.length + 1)
  const size_bytes = LARGE.length
  assert.deepEqual(
    new Map(findings.map((finding) => [finding.finding, finding])),
    new Map([
      [
        'no_object',
        { finding: 'no_object', key: keyOf(lostPath), attachment_id: lost.attachment_id, size_bytes, deleted: false },
      ],
      [
        'wrong_size',
        {
          finding: 'wrong_size',
          key: keyOf(cutPath),
          attachment_id: cut.attachment_id,
          size_bytes,
          found_bytes: 5,
          deleted: false,
        },
      ],
    ]),
  )
  assert.equal((await client.attachments.retrieve(lost.attachment_id)).status, 'complete')
  for (const { attachment_id } of [lost, cut]) await client.attachments.delete(attachment_id)
})

test('small objects, many to a file: one without a row is told and deleted, one that is lost is told', async () => {
  const [orphan, kept, torn] = [await upload(), await upload(), await upload()]
  const keyOf = async ({ attachment_id }: typeof orphan) => {
    const sql = 'select storage_key from attachments where id = $1'
    return (await ask<{ storage_key: string }>(server, sql, [attachment_id]))[0]?.storage_key
  }
  const [orphanKey, tornKey] = [await keyOf(orphan), await keyOf(torn)]
  await ask(server, 'delete from attachments where id = $1 returning id', [orphan.attachment_id])
  assert.deepEqual((await sweepJson()).findings, [], 'it is too young')
  const records = await packedIn(server.dataDir)
  const name = records[0]?.name ?? ''
  const pack = join(server.dataDir, 'files', 'packs', name)
  const bytes = await readFile(pack)
  for (const { at } of records) bytes.writeDoubleLE(Date.now() - 25 * HOUR, at + 12)
  await writeFile(pack, bytes)
  await truncate(pack, (records.find(({ key }) => key === tornKey)?.at ?? 0) + 30)
  const { code, findings } = await sweepJson('--delete')
  assert.equal(code, 1)
  assert.deepEqual(
    findings.map(({ finding, key, deleted }) => [finding, key, deleted]),
    [
      ['no_object', tornKey, false],
      ['no_row', orphanKey, true],
    ],
  )
  const left = await packedIn(server.dataDir)
  assert.deepEqual(
    left.filter(({ key, isLive }) => key === orphanKey && isLive),
    [],
  )
  assert.equal((await fetch(kept.download_url)).status, 200)
  await client.attachments.delete(torn.attachment_id)
})

test('several thousand objects and uploads at the same time', async () => {
  const many = Array.from({ length: 3_000 }, (_, n) => `01a20000-0000-7000-8000-${String(n).padStart(12, '0')}`)
  for (const id of many) await put(`media/${id.slice(-2)}/${id}`, 25 * HOUR)
  let going = true
  const uploads = (async () => {
    const slots = []
    while (going) slots.push(await upload())
    return slots
  })()
  const { code, totals } = await sweepJson('--delete')
  going = false
  const slots = await uploads
  assert.equal(code, 0)
  assert.deepEqual([totals.findings.no_row, totals.deleted.objects, totals.findings.no_object], [3_000, 3_000, 0])
  assert.ok(slots.length > 0)
  for (const { download_url } of slots) assert.equal((await fetch(download_url, { method: 'HEAD' })).status, 200)
  assert.equal((await sweepJson()).code, 0)
})
