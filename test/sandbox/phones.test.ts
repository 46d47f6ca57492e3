/** The pretend phone network: what its phones do by themselves, what they show, reading, and moving time. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { jpeg } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { openReceiver, subscribe } from '../support/receiver.ts'
import { advance, ok, receive, sandbox } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, eventually, lineOf, text, upload } from '../support/scene.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const other = await createPartner(server, '+12025550180')
const NOWHERE = '00000000-0000-4000-8000-000000000000'
await subscribe(client, receiver.url('/'), [
  'message.sent',
  'message.delivered',
  'message.read',
  'message.failed',
  'message.received',
])

async function send(to: string, value = 'Hello', more: object = {}) {
  const { chat } = await client.chats.create({ from: line, to: [to], message: { parts: [text(value)], ...more } })
  return { chat: chat.id, message: chat.message.id }
}

/** What was told of a message, in order: types, and the code where there is one. */
const toldOf = (message: string) =>
  receiver.deliveries
    .filter(({ event: { data } }) => data.id === message)
    .map(({ event }) => event.event_type.replace('message.', '') + (event.data.code ? ` ${event.data.code}` : ''))
const told = (message: string, count: number) =>
  eventually(
    async () => toldOf(message),
    (types) => types.length >= count,
  )
const statusOf = async (message: string) => (await client.messages.retrieve(message)).delivery_status

describe('magic recipients', { concurrency: true }, () => {
  for (const [number, events, status] of [
    ['+14155550199', ['sent', 'delivered'], 'delivered'],
    ['+14155550190', ['sent', 'delivered', 'read'], 'read'],
    ['+14155550191', ['sent', 'failed 4001'], 'failed'],
    ['+14155550192', ['failed 3007'], 'failed'],
    ['+14155550195', ['sent', 'failed 4001', 'delivered'], 'delivered'],
  ] as const)
    test(`${number}: ${events.join(', then ')}`, async () => {
      const { message } = await send(number)
      assert.deepEqual(await told(message, events.length), events)
      assert.equal(await statusOf(message), status)
    })

  test('+14155550193 is never reached, and +14155550194 only after 30 seconds', async () => {
    const never = await send('+14155550193')
    const late = await send('+14155550194')
    await Promise.all([told(never.message, 1), told(late.message, 1)])
    await advance(server, 28)
    const usual = await send('+14155550198')
    await told(usual.message, 2)
    assert.deepEqual(toldOf(late.message), ['sent'])
    await advance(server, 3)
    assert.deepEqual(await told(late.message, 2), ['sent', 'delivered'])
    assert.deepEqual(toldOf(never.message), ['sent'])
    assert.equal(await statusOf(never.message), 'sent')
  })

  test('+14155550196 answers with the same', async () => {
    const { chat, message } = await send('+14155550196', 'Echo?')
    const answer = await eventually(
      async () =>
        receiver.deliveries.find(({ event: { data, event_type } }) => {
          return event_type === 'message.received' && data.chat.id === chat
        }),
      (found) => found !== undefined,
    )
    assert.deepEqual(answer?.event.data.parts, [{ type: 'text', value: 'Echo?' }])
    assert.deepEqual(toldOf(message), ['sent', 'delivered'])
  })

  test('a message by SMS is told as sent and no more, even to who reads everything', async () => {
    const { message } = await send('+14155550189')
    await told(message, 2)
    const { message_id, chat_id } = await receive(server, {
      from: '+14155550188',
      to: line,
      text: 'By SMS',
      service: 'SMS',
    })
    await told(message_id, 1)
    const sent = await client.chats.messages.send(chat_id, { message: { parts: [text('Back')] } })
    await told(sent.message.id, 1)
    const usual = await send('+14155550187')
    await told(usual.message, 2)
    if (sent.message.service === 'SMS') assert.deepEqual(toldOf(sent.message.id), ['sent'])
  })
})

test('reading is told once, with the trace id of the send', async () => {
  const { message } = await send('+14155550171')
  await told(message, 2)
  for (let round = 0; round < 2; round++) {
    const answer = await sandbox(server, `/messages/${message}/read`, { method: 'POST' })
    assert.deepEqual([answer.status, await answer.text()], [204, ''])
  }
  assert.deepEqual(await told(message, 3), ['sent', 'delivered', 'read'])
  const { is_read, read_at, delivery_status } = await client.messages.retrieve(message)
  assert.deepEqual([is_read, delivery_status, typeof read_at], [true, 'read', 'string'])
  const traces = receiver.deliveries.filter(({ event }) => event.data.id === message).map(({ event }) => event.trace_id)
  assert.equal(new Set(traces).size, 1)
})

test('what a phone has not got cannot be read', async () => {
  const { message_id } = await receive(server, { from: '+14155550171', to: line, text: 'Mine' })
  const foreign = await other.client.chats.create({
    from: other.phoneNumber,
    to: ['+14155550171'],
    message: { parts: [text('Private')] },
  })
  const read = (id: string) => sandbox(server, `/messages/${id}/read`, { method: 'POST' })
  await assertRefused(read(message_id), { status: 409, code: 2015 })
  await assertRefused(read(foreign.chat.message.id), { status: 404, code: 2002 })
  await assertRefused(read(NOWHERE), { status: 404, code: 2002 })
  await assertRefused(read('no-id'), { status: 400, code: 1005 })
})

test('a phone shows what reached it and what it sent, newest last, and what failed not at all', async () => {
  const phone = '+14155550172'
  const { chat, message } = await send(phone, 'One')
  await told(message, 2)
  const back = await receive(server, { from: phone, to: line, text: 'Two' })
  const last = await client.chats.messages.send(chat, { message: { parts: [text('Three')] } })
  await told(last.message.id, 2)
  const shown = async (handle: string, apiKey?: string) =>
    (
      await ok<{ messages: LinqAPIV3.Message[] }>(
        sandbox(server, `/phones/${encodeURIComponent(handle)}/messages`, apiKey === undefined ? {} : { apiKey }),
      )
    ).messages
  const messages = await shown(phone)
  assert.deepEqual(
    messages.map(({ id }) => id),
    [message, back.message_id, last.message.id],
  )
  assert.deepEqual(messages[0], await client.messages.retrieve(message))
  const failed = await send('+14155550192', 'Never there')
  await told(failed.message, 1)
  assert.ok(!(await shown('+14155550192')).some(({ id }) => id === failed.message))
  assert.deepEqual(await shown('+14155559999'), [])
  assert.deepEqual(await shown(phone, other.apiKey), [])
})

test('the phones are those that were written with, the latest first', async () => {
  await receive(server, { from: 'Phone@Example.com', to: line, text: 'One' })
  await receive(server, { from: 'phone@example.com', to: line, text: 'Two' })
  const list = async (apiKey = server.apiKey) =>
    (
      await ok<{ phones: { handle: string; messages: number; last_message_at: string }[] }>(
        sandbox(server, '/phones', { apiKey }),
      )
    ).phones
  const [latest] = await list()
  assert.deepEqual([latest?.handle, latest?.messages], ['Phone@Example.com', 2])
  assert.match(latest?.last_message_at ?? '', /^\d{4}-.*Z$/)
  assert.ok((await list()).some(({ handle }) => handle === '+14155550190'))
  assert.ok(!(await list()).some(({ handle }) => handle === line))
  assert.ok(!(await list(other.apiKey)).some(({ handle }) => handle === 'Phone@Example.com'))
})

test('an upload URL is dead when 15 minutes have been let pass, and time can be put back', async () => {
  type Moved = { now: string; offset_seconds: number }
  await ok(sandbox(server, '/clock', { json: { reset: true } }))
  const bytes = jpeg()
  const declared = { filename: 'late.jpg', content_type: 'image/jpeg', size_bytes: bytes.length } as const
  const put = ({ upload_url, required_headers }: LinqAPIV3.AttachmentCreateResponse) =>
    fetch(upload_url, { method: 'PUT', headers: required_headers, body: bytes })
  const inTime = await client.attachments.create(declared)
  const late = await client.attachments.create(declared)
  await advance(server, 14 * 60)
  assert.equal((await put(inTime)).status, 200)
  const moved = await ok<Moved>(sandbox(server, '/clock', { json: { advance_seconds: 61.5 } }))
  assert.equal(moved.offset_seconds, 14 * 60 + 61.5)
  assert.ok(Math.abs(Date.parse(moved.now) - Date.now() - moved.offset_seconds * 1000) < 2_000)
  const refused = await put(late)
  assert.equal(refused.status, 403)
  assert.match(await refused.text(), /<Code>AccessDenied<\/Code>/)
  assert.equal((await client.attachments.retrieve(late.attachment_id)).status, 'pending')
  const fresh = await upload(client, bytes, 'fresh.jpg', 'image/jpeg')
  assert.ok(Date.parse(fresh.expires_at) > Date.parse(moved.now))
  assert.equal((await ok<Moved>(sandbox(server, '/clock', { json: { reset: true } }))).offset_seconds, 0)
  assert.equal((await upload(client, bytes, 'now.jpg', 'image/jpeg')).http_method, 'PUT')
})

for (const body of [
  {},
  { reset: false },
  { reset: true, advance_seconds: 5 },
  { advance_seconds: -1 },
  { advance_seconds: '5' },
  { advance_seconds: 1e12 },
])
  test(`the clock is not moved by ${JSON.stringify(body)}`, async () => {
    const answer = await sandbox(server, '/clock', { json: body })
    assert.equal(answer.status, 400)
    const { offset_seconds } = await ok<{ offset_seconds: number }>(
      sandbox(server, '/clock', { json: { advance_seconds: 0 } }),
    )
    assert.equal(offset_seconds, 0)
  })

test('nothing of the sandbox is under the API, and nothing of it shows in the API', async () => {
  for (const path of ['/api/partner/v3/sandbox/faults', '/v3/sandbox/faults', '/api/partner/sandbox/faults']) {
    const answer = await fetch(`${server.api}${path}`, { headers: { authorization: `Bearer ${server.apiKey}` } })
    assert.equal(answer.status, 404, path)
  }
  const { message } = await send('+14155550174')
  await told(message, 2)
  const keys = Object.keys(await client.messages.retrieve(message)).sort()
  assert.deepEqual(
    keys,
    [
      'id',
      'chat_id',
      'created_at',
      'updated_at',
      'delivery_status',
      'is_from_me',
      'is_delivered',
      'is_read',
      'sent_at',
      'delivered_at',
      'read_at',
      'from',
      'from_handle',
      'parts',
      'effect',
      'reply_to',
      'preferred_service',
      'service',
    ].sort(),
  )
})

for (const [method, path] of [
  ['GET', '/phones'],
  ['GET', '/phones/+14155550172/messages'],
  ['POST', `/messages/${NOWHERE}/read`],
  ['POST', '/clock'],
  ['POST', '/faults'],
  ['GET', '/faults'],
  ['DELETE', '/faults'],
  ['POST', '/reset'],
  ['GET', '/webhook-deliveries'],
  ['POST', `/webhook-deliveries/${NOWHERE}/replay`],
  ['GET', '/events'],
] as const)
  test(`${method} ${path} needs a key`, async () => {
    await assertRefused(sandbox(server, path, { method, apiKey: 'wrong' }), { status: 401, code: 2004 })
  })
