/** What is forgotten, what is kept, and what is never given up. The rows are made old by hand; the hour comes by the clock. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { startServer } from '../support/satchel.ts'

const dataDir = await mkdtemp(join(tmpdir(), 'satchel-test-'))
const path = join(dataDir, 'satchel.sqlite')
const server = await startServer({
  dataDir,
  env: { SATCHEL_DATABASE_URL: `sqlite:${path}`, SATCHEL_EGRESS_ALLOW: 'localhost:1', SATCHEL_RETENTION_DAYS: '3' },
})
const database = new DatabaseSync(path)
after(async () => {
  database.close()
  await server.stop()
  await rm(dataDir, { recursive: true })
})
const client = server.client()
const DAY = 86_400_000
const count = (table: string, where = 'true') =>
  (database.prepare(`select count(*) as n from ${table} where ${where}`).get() as { n: number }).n

async function advance(seconds: number): Promise<void> {
  const headers = { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' }
  const body = JSON.stringify({ advance_seconds: seconds })
  assert.equal((await fetch(`${server.api}/sandbox/clock`, { method: 'POST', headers, body })).status, 200)
}

async function eventually(check: () => boolean): Promise<void> {
  for (let waited = 0; waited < 10_000 && !check(); waited += 50) await sleep(50)
  assert.ok(check())
}

function insertFailedJob(id: string, o: { kind: string; payload: unknown; failedAt: number }): void {
  database
    .prepare(`insert into jobs (id, kind, payload, run_at, attempt, leased_until, last_error, failed_at, created_at)
      values (?, ?, ?, 0, 12, 0, 'it did not work', ?, 0)`)
    .run(id, o.kind, JSON.stringify(o.payload), o.failedAt)
}

test('jobs that were given up stay for 30 days', async () => {
  const payload = { message_id: 'none' }
  insertFailedJob('young', { kind: 'message.send', payload, failedAt: Date.now() - 29 * DAY })
  insertFailedJob('old', { kind: 'message.send', payload, failedAt: Date.now() - 31 * DAY })
  await advance(3_600)
  await eventually(() => count('jobs', "id = 'old'") === 0)
  assert.equal(count('jobs', "id = 'young'"), 1)
})

test('a deletion that was given up is taken up again', async () => {
  const key = 'media/aa/01a20000-0000-7000-8000-0000000000aa'
  const file = join(dataDir, 'files', 'objects', key)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, 'left')
  insertFailedJob('left', { kind: 'bytes.delete', payload: { storage_key: key }, failedAt: Date.now() - 90 * DAY })
  await advance(3_600)
  await eventually(() => !existsSync(file))
  await eventually(() => count('jobs', "id = 'left'") === 0)
})

test('events and attempts go after SATCHEL_RETENTION_DAYS, idempotency keys and the audit stay', async () => {
  await client.webhookSubscriptions.create({ target_url: 'http://localhost:1/x', subscribed_events: ['message.sent'] })
  const file = jpeg()
  const slot = await client.attachments.create({
    filename: 'a.jpg',
    content_type: 'image/jpeg',
    size_bytes: file.length,
  })
  await fetch(slot.upload_url, { method: 'PUT', headers: slot.required_headers, body: file })
  const send = () =>
    client.chats.create({
      from: server.phoneNumbers[0] ?? '',
      to: ['+14155550100'],
      message: { parts: [{ type: 'text', value: 'Hello' }], idempotency_key: 'kept' },
    })
  const { chat } = await send()
  await client.attachments.delete(slot.attachment_id)
  await eventually(() => count('events', "type = 'message.delivered'") === 1 && count('webhook_attempts') > 0)
  await advance(2 * 86_400)
  await eventually(() => count('jobs', "kind = 'retention.sweep'") === 1)
  assert.ok(count('webhook_attempts') > 0)
  for (let tries = 0; tries < 40 && count('webhook_deliveries', "status = 'pending'") > 0; tries++) {
    await advance(600)
    await sleep(150)
  }
  await advance(86_400 + 3_600)
  await eventually(() => count('events') + count('webhook_deliveries') + count('webhook_attempts') === 0)
  assert.equal((await send()).chat.message.id, chat.message.id)
  assert.equal(count('attachment_deletions'), 1)
  assert.equal(count('idempotency_keys'), 1)
})
