/** `POST /sandbox/reset`: back to the state after start, for this partner and no other. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { jpeg } from '../fixtures/media/files.ts'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { ask, countRows } from '../support/database.ts'
import { openReceiver, subscribe } from '../support/receiver.ts'
import { advance, arm, listDeliveries, ok, receive, sandbox } from '../support/sandbox.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { createPartner, eventually, keptBy, lineOf, text, upload } from '../support/scene.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const reset = (apiKey = server.apiKey) => sandbox(server, '/reset', { method: 'POST', apiKey })

/** How many rows each table has, but for the job that is always there. */
async function rowsOf(of: Server): Promise<Record<string, number>> {
  const [plan] = await ask<{ n: number }>(of, "select count(*) as n from jobs where kind = 'retention.sweep'")
  const counts = await countRows(of)
  return { ...counts, jobs: (counts.jobs ?? 0) - (plan?.n ?? 0) }
}

const atStart = await rowsOf(server)

async function fill(): Promise<{ attachment: string; url: string; chat: string; message: string; upload: string }> {
  await subscribe(client, receiver.url(), ['message.sent', 'message.delivered', 'message.received', 'chat.created'])
  const bytes = jpeg()
  const { attachment_id, download_url } = await upload(client, bytes, 'photo.jpg', 'image/jpeg')
  const parts = [text('Look'), { type: 'media' as const, attachment_id }]
  const { chat } = await client.chats.create({
    from: line,
    to: ['+14155550133'],
    message: { parts, idempotency_key: 'key-1' },
  })
  await receive(server, { from: '+14155550134', to: line, text: 'In', media: [{ bytes, filename: 'in.jpg' }] })
  const { upload_url } = await client.attachments.create({
    filename: 'never.jpg',
    content_type: 'image/jpeg',
    size_bytes: bytes.length,
  })
  const ids = { attachment: attachment_id, chat: chat.id, message: chat.message.id }
  return { ...ids, url: download_url, upload: upload_url }
}

test('a reset takes everything back to the state after start, but key and lines stay', async () => {
  const before = await fill()
  await eventually(
    () => listDeliveries(server),
    (found) => found.length === 5 && found.every(({ status }) => status === 'delivered'),
  )
  await arm(server, { kind: 'error', code: 2005, times: 5 })
  await arm(server, { kind: 'cdn_slow', times: 5 })
  await advance(server, 3_600)

  const began = performance.now()
  const answer = await reset()
  console.log(`  reset took ${Math.round(performance.now() - began)} ms`)
  assert.deepEqual([answer.status, await answer.text()], [204, ''])

  assert.deepEqual((await client.chats.listChats()).chats, [])
  await assertSdkRefused(client.chats.retrieve(before.chat), { status: 404, code: 2001 })
  await assertSdkRefused(client.messages.retrieve(before.message), { status: 404, code: 2002 })
  await assertSdkRefused(client.attachments.retrieve(before.attachment), { status: 404, code: 2003 })
  assert.equal((await fetch(before.url)).status, 404)
  assert.deepEqual((await client.webhookSubscriptions.list()).subscriptions, [])
  assert.deepEqual(await listDeliveries(server), [])
  assert.deepEqual(await ok(sandbox(server, '/phones')), { phones: [] })
  assert.deepEqual(await ok(sandbox(server, '/faults')), { faults: [] })
  const put = await fetch(before.upload, { method: 'PUT', headers: { 'content-type': 'image/jpeg' }, body: jpeg() })
  assert.equal(put.status, 404)
  const clock = await ok<{ offset_seconds: number }>(sandbox(server, '/clock', { json: { advance_seconds: 0 } }))
  assert.equal(clock.offset_seconds, 0)

  const kept = await eventually(
    () => keptBy(server),
    ({ files }) => files.length === 0,
  )
  assert.deepEqual(kept.files, [])
  assert.deepEqual(
    await eventually(
      async () => rowsOf(server),
      ({ jobs }) => jobs === 0,
    ),
    atStart,
  )

  const { phone_numbers } = await client.phoneNumbers.list()
  assert.deepEqual(
    phone_numbers.map(({ phone_number }) => phone_number),
    [...server.phoneNumbers],
  )
  const again = await fill()
  assert.notEqual(again.message, before.message, 'the idempotency key is forgotten')
  await eventually(
    () => listDeliveries(server),
    (found) => found.length === 5 && found.every(({ status }) => status === 'delivered'),
  )
})

test('a reset in the middle of everything leaves nothing of it behind', async () => {
  await reset()
  const held: (() => void)[] = []
  receiver.answer = (response) => void held.push(() => response.writeHead(500).end())
  await fill()
  await eventually(
    async () => held.length,
    (count) => count >= 2,
  )
  assert.equal((await reset()).status, 204)
  for (const release of held.splice(0)) release()
  await sleep(1_500)
  receiver.answer = (response) => void response.writeHead(200).end()
  assert.deepEqual(
    await eventually(
      async () => rowsOf(server),
      ({ jobs }) => jobs === 0,
    ),
    atStart,
  )
  assert.deepEqual((await keptBy(server)).files, [])
})

test('a reset leaves other partners alone', async () => {
  const other = await createPartner(server, '+12025550184')
  const { attachment_id, download_url } = await upload(other.client, jpeg(), 'theirs.jpg', 'image/jpeg')
  const { chat } = await other.client.chats.create({
    from: other.phoneNumber,
    to: ['+14155550133'],
    message: { parts: [{ type: 'media', attachment_id }] },
  })
  const { id } = await subscribe(other.client, receiver.url('/theirs'), ['message.delivered'])
  await arm(server, { kind: 'cdn_slow', match: { attachment_id: '00000000-0000-4000-8000-000000000000' } }, other)
  assert.equal((await reset()).status, 204)
  assert.equal((await other.client.chats.retrieve(chat.id)).id, chat.id)
  assert.equal((await fetch(download_url)).status, 200)
  assert.equal((await other.client.webhookSubscriptions.retrieve(id)).is_active, true)
  const { faults } = await ok<{ faults: unknown[] }>(sandbox(server, '/faults', { apiKey: other.apiKey }))
  assert.equal(faults.length, 1)
})

test('a reset of what is a thousand messages is quick', async () => {
  for (let round = 0; round < 50; round++) {
    const some = Array.from({ length: 20 }, (_, at) => `+1415557${String(round * 20 + at).padStart(4, '0')}`)
    await Promise.all(some.map((from) => receive(server, { from, to: line, text: 'One of many' })))
  }
  const began = performance.now()
  assert.equal((await reset()).status, 204)
  const ms = Math.round(performance.now() - began)
  console.log(`  reset of 1,000 chats took ${ms} ms`)
  assert.ok(ms < 5_000)
})

test('a reset needs a key and only POST does it', async () => {
  await assertRefused(reset('wrong'), { status: 401, code: 2004 })
  await assertRefused(sandbox(server, '/reset'), { status: 405, code: 1005 })
})
