/** Messages to the gateway, what it answers and what it reports of them. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { jpeg } from '../fixtures/media/files.ts'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { ask } from '../support/database.ts'
import { openReceiver } from '../support/receiver.ts'
import { eventually, lineOf, text, upload } from '../support/scene.ts'
import { accept, answerWith, report, SECRET } from './double.ts'
import { openStage } from './stage.ts'

const stage = await openStage()
after(() => stage[Symbol.asyncDispose]())
const { gateway, server } = stage
const client = server.client()

const receiver = await openReceiver()
after(() => receiver[Symbol.asyncDispose]())
await client.webhookSubscriptions.create({
  target_url: receiver.url('/failures'),
  subscribed_events: ['message.failed'],
})

test('a message reaches the gateway signed, with media that it can download', async () => {
  const { attachment_id, download_url } = await upload(client, jpeg(), 'holiday photo.jpg', 'image/jpeg')
  const parts = [text('Look'), { type: 'media' as const, attachment_id }]
  const id = await stage.send('+14155550101', { parts })
  const message = await stage.taken(id)
  const size_bytes = jpeg().length
  assert.deepEqual(message, {
    id,
    from: lineOf(server),
    to: ['+14155550101'],
    service: 'iMessage',
    parts: [
      { type: 'text', text: 'Look' },
      { type: 'media', url: download_url, content_type: 'image/jpeg', filename: 'holiday photo.jpg', size_bytes },
    ],
  })
  const { headers, body } = gateway.posts.find((post) => post.message.id === id) ?? assert.fail()
  assert.deepEqual(new Webhook(SECRET).verify(body, headers), message)
  assert.equal(headers['idempotency-key'], id)
  const file = await fetch(download_url)
  assert.deepEqual(Buffer.from(await file.arrayBuffer()), jpeg())
})

test('a message whose attachments are all deleted before it is taken fails, and nothing empty reaches the gateway', async () => {
  gateway.answer = answerWith(503)
  const { attachment_id } = await upload(client, jpeg(), 'photo.jpg', 'image/jpeg')
  const id = await stage.send('+14155550110', { parts: [{ type: 'media', attachment_id }] })
  await eventually(
    async () => gateway.posts.some(({ message }) => message.id === id),
    (tried) => tried,
  )
  await client.attachments.delete(attachment_id)
  gateway.answer = accept
  const [data] = await failures(id)
  assert.deepEqual([data?.code, data?.reason], [4001, 'All of its attachments were deleted'])
  for (const { message } of gateway.posts) assert.notEqual(message.parts.length, 0)
})

test('a message that is deleted before the gateway takes it was accepted all the same, and reaches it', async () => {
  gateway.answer = answerWith(503)
  const id = await stage.send('+14155550121')
  await eventually(
    async () => gateway.posts.some(({ message }) => message.id === id),
    (tried) => tried,
  )
  await client.messages.delete(id)
  await assertSdkRefused(client.messages.retrieve(id), { status: 404, code: 2002 })
  gateway.answer = accept
  await stage.taken(id)
})

test('a link and all members of a group reach the gateway', async () => {
  const to = ['+14155550102', 'someone@example.com']
  const { chat } = await client.chats.create({ from: lineOf(server), to, message: { parts: [text('Hello')] } })
  const { message } = await client.chats.messages.send(chat.id, {
    message: { parts: [{ type: 'link', value: 'https://example.com/a?b=c' }] },
  })
  const { to: members, parts } = await stage.taken(message.id)
  assert.deepEqual(members, to)
  assert.deepEqual(parts, [{ type: 'link', url: 'https://example.com/a?b=c' }])
})

test('sent, delivered and read show in the message, with the times that the gateway gave', async () => {
  const id = await stage.send('+14155550103')
  await stage.taken(id)
  for (const [type, at] of [
    ['sent', '2026-02-16T12:31:01.1+01:00'],
    ['delivered', '2026-02-16T11:31:02Z'],
    ['read', undefined],
  ] as const) {
    assert.deepEqual(await stage.report({ type, message_id: id.toUpperCase(), at }), {})
    assert.equal(await stage.status(id), type)
  }
  const message = await client.messages.retrieve(id)
  assert.equal(message.sent_at, '2026-02-16T11:31:01.100Z')
  assert.equal(message.delivered_at, '2026-02-16T11:31:02.000Z')
  assert.ok(Math.abs(Date.parse(message.read_at ?? '') - Date.now()) < 10_000)
})

test('a report that repeats or comes late changes nothing and is told to nobody', async () => {
  const id = await stage.send('+14155550104')
  await stage.taken(id)
  const event = { type: 'delivered', message_id: id, at: '2026-02-16T11:31:02Z' }
  for (const signing of [{ id: 'one' }, { id: 'one' }, { id: 'two' }]) await stage.report(event, signing)
  await stage.report({ type: 'sent', message_id: id })
  await stage.report({ type: 'failed', message_id: id })
  assert.equal(await stage.status(id), 'delivered')
  const types = await ask<{ type: string }>(server, 'select type from events where message_id = $1', [id])
  assert.deepEqual(
    types.map((row) => row.type),
    ['message.delivered'],
  )
})

const failures = async (id: string) => {
  const told = await eventually(
    async () => receiver.at('/failures').filter(({ event }) => event.data.message_id === id),
    (found) => found.length > 0,
  )
  return told.map(({ event }) => event.data as unknown as { code: number; reason: string; failed_at: string })
}

test('failures are told to webhooks, with the code and reason that the gateway reported', async () => {
  const REPORTED = [
    [{}, 4001, 'Message delivery failed'],
    [{ code: 3007, reason: 'gave up' }, 3007, 'gave up'],
    [{ code: 4005 }, 4005, 'Message delivery failed'],
  ] as const
  for (const [given, code, reason] of REPORTED) {
    const id = await stage.send('+14155550105')
    await stage.taken(id)
    await stage.report({ type: 'failed', message_id: id, at: '2026-02-16T12:35:00Z', ...given })
    assert.equal(await stage.status(id), 'failed')
    const [data, ...more] = await failures(id)
    assert.deepEqual([data?.code, data?.reason, data?.failed_at], [code, reason, '2026-02-16T12:35:00.000Z'])
    assert.deepEqual(more, [])
  }
})

for (const [status, code] of [
  [400, 4001],
  [404, 4001],
  [422, 4005],
] as const) {
  test(`a message that the gateway answers with ${status} fails at once with ${code}`, async () => {
    gateway.answer = answerWith(status)
    const id = await stage.send('+14155550106')
    const [data] = await failures(id)
    gateway.answer = accept
    assert.equal(data?.code, code)
    assert.doesNotMatch(data?.reason ?? '', /explanation|\d/)
    assert.equal(await stage.status(id), 'failed')
    assert.equal(gateway.posts.filter(({ message }) => message.id === id).length, 1)
  })
}

test('a gateway that is busy gets the message again, the same to the letter under the same id', async () => {
  const answers = [answerWith(503), answerWith(429), accept]
  gateway.answer = (response, message) => (answers.shift() ?? accept)(response, message)
  const id = await stage.send('+14155550107')
  await stage.taken(id)
  const posts = gateway.posts.filter(({ message }) => message.id === id)
  assert.equal(posts.length, 3)
  assert.equal(new Set(posts.map(({ body, headers }) => `${headers['webhook-id']} ${body}`)).size, 1)
  for (const { body, headers } of posts) new Webhook(SECRET).verify(body, headers)
  assert.equal(await stage.status(id), 'queued')
})

test('a message that cannot be handed over for too long fails with 3007, and can be delivered after all', async () => {
  gateway.answer = answerWith(500)
  const id = await stage.send('+14155550108')
  const bringForward = "update jobs set attempt = 10, run_at = 0 where kind = 'message.send' and attempt > 0"
  await eventually(
    async () => (await ask(server, `${bringForward} and leased_until = 0 returning id`)).length,
    (changes) => changes === 1,
  )
  const [data] = await failures(id)
  gateway.answer = accept
  assert.deepEqual([data?.code, data?.reason], [3007, 'Maximum delivery attempts exceeded'])
  await stage.report({ type: 'delivered', message_id: id })
  assert.equal(await stage.status(id), 'delivered')
})

const REFUSED: [what: string, event: unknown, status: number, code: number, message: RegExp][] = [
  ['without type', { message_id: 'x' }, 400, 1001, /type$/],
  ['of an unknown type', { type: 'seen' }, 400, 1005, /^type must be one of sent, delivered, read, failed, received$/],
  ['whose type is a number', { type: 1 }, 400, 1005, /^type/],
  ['without message_id', { type: 'sent' }, 400, 1001, /message_id$/],
  ['whose message_id is no UUID', { type: 'sent', message_id: '1' }, 400, 1005, /^message_id must be a valid UUID/],
  ['on an unknown message', { type: 'sent', message_id: '0190b7c8-0000-7000-8000-000000000001' }, 404, 2002, /Message/],
  ['with a time in words', { ...message('sent'), at: 'yesterday' }, 400, 1005, /^at must be a valid date-time/],
  ['with a time that is a number', { ...message('sent'), at: 1771243200 }, 400, 1005, /^at must be a string/],
  ['with a leap second', { ...message('sent'), at: '2016-12-31T23:59:60Z' }, 400, 1005, /^at /],
  ['before 1970', { ...message('sent'), at: '1969-12-31T23:59:59Z' }, 400, 1005, /^at /],
  ['after 9999', { ...message('sent'), at: '9999-12-31T23:59:59-01:00' }, 400, 1005, /^at /],
  ['with another code', { ...message('failed'), code: 5001 }, 400, 1005, /^code must be one of 3007, 4001, 4005/],
  ['with an empty reason', { ...message('failed'), reason: '' }, 400, 1005, /^reason must not be empty/],
  ['with a long reason', { ...message('failed'), reason: 'x'.repeat(501) }, 400, 1005, /^reason must have at most 500/],
  ['that is no object', '[]', 400, 1003, /JSON object/],
  ['that is no JSON', '{"type":', 400, 1003, /JSON/],
  ['that is empty', '', 400, 1003, /JSON object/],
  ['with NUL', '{"type":"failed","reason":"\\u0000"}', 400, 1005, /^reason/],
]
function message(type: string) {
  return { type, message_id: '0190b7c8-0000-7000-8000-000000000001' }
}
for (const [what, event, status, code, message] of REFUSED) {
  test(`a signed report ${what} is refused with ${code}`, async () => {
    await assertRefused(report(server.api, event), { status, code, message })
  })
}

test('a message of our own that came in cannot be reported on', async () => {
  const event = { type: 'received', carrier_ref: 'in-1', from: '+14155550109', to: lineOf(server), text: 'Hi' }
  const { message_id } = await stage.report(event)
  await assertRefused(report(server.api, { type: 'delivered', message_id }), { status: 404, code: 2002 })
})

test('a message that was deleted cannot be reported on', async () => {
  const id = await stage.send('+14155550110')
  await stage.taken(id)
  await client.messages.delete(id)
  await assertRefused(report(server.api, { type: 'sent', message_id: id }), { status: 404, code: 2002 })
})

test('a line that talks SMS ends at sent, and later reports are taken without effect', async () => {
  const event = { type: 'received', carrier_ref: 'sms-1', from: '+14155550111', to: lineOf(server), text: 'Hi' }
  await stage.report({ ...event, service: 'SMS' })
  const id = await stage.send('+14155550111')
  assert.equal((await stage.taken(id)).service, 'SMS')
  for (const type of ['sent', 'delivered', 'read']) assert.deepEqual(await stage.report({ type, message_id: id }), {})
  assert.equal(await stage.status(id), 'sent')
})
