/** What is forgotten, what is kept, and what is never given up. The rows are made old by hand; the hour comes by the clock. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { ask } from '../support/database.ts'
import { advance } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { until } from '../support/wire.ts'

const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: 'localhost:1', SATCHEL_RETENTION_DAYS: '3' } })
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const DAY = 86_400_000
async function count(table: string, where = 'true'): Promise<number> {
  const [row] = await ask<{ n: number }>(server, `select count(*) as n from ${table} where ${where}`)
  return row?.n ?? 0
}

async function insertFailedJob(id: string, o: { kind: string; payload: unknown; failedAt: number }): Promise<void> {
  await ask(
    server,
    `insert into jobs (id, kind, payload, run_at, attempt, leased_until, last_error, failed_at, created_at)
      values ($1, $2, $3, 0, 12, 0, 'it did not work', $4, 0)`,
    [id, o.kind, JSON.stringify(o.payload), o.failedAt],
  )
}

test('jobs that were given up stay for 30 days', async () => {
  const payload = { message_id: 'none' }
  await insertFailedJob('young', { kind: 'message.send', payload, failedAt: Date.now() - 29 * DAY })
  await insertFailedJob('old', { kind: 'message.send', payload, failedAt: Date.now() - 31 * DAY })
  await advance(server, 3_600)
  await until('the old job is gone', async () => (await count('jobs', "id = 'old'")) === 0)
  assert.equal(await count('jobs', "id = 'young'"), 1)
})

test('a deletion that was given up is taken up again', async () => {
  const key = 'media/aa/01a20000-0000-7000-8000-0000000000aa'
  const file = join(server.dataDir, 'files', 'objects', key)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, 'left')
  await insertFailedJob('left', {
    kind: 'bytes.delete',
    payload: { storage_key: key },
    failedAt: Date.now() - 90 * DAY,
  })
  await advance(server, 3_600)
  await until('the file is gone', () => !existsSync(file))
  await until('its job is gone', async () => (await count('jobs', "id = 'left'")) === 0)
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
  await until('it is delivered, and told in vain', async () => {
    return (await count('events', "type = 'message.delivered'")) === 1 && (await count('webhook_attempts')) > 0
  })
  await advance(server, 2 * 86_400)
  await until('the next sweep is planned', async () => (await count('jobs', "kind = 'retention.sweep'")) === 1)
  assert.ok((await count('webhook_attempts')) > 0)
  for (let tries = 0; tries < 40 && (await count('webhook_deliveries', "status = 'pending'")) > 0; tries++) {
    await advance(server, 600)
    await sleep(150)
  }
  await advance(server, 86_400 + 3_600)
  for (const table of ['events', 'webhook_deliveries', 'webhook_attempts'])
    await until(`${table} is empty`, async () => (await count(table)) === 0)
  assert.equal((await send()).chat.message.id, chat.message.id)
  assert.equal(await count('attachment_deletions'), 1)
  assert.equal(await count('idempotency_keys'), 1)
})
