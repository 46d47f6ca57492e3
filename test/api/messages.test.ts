/** Contract 4.3 to 4.5 and 4.7: sending, retrieving, listing and deleting messages, and what becomes of them. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { jpeg } from '../fixtures/media/files.ts'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { eventually, lineOf, openChat, postJson, text, upload } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const say = async (chat: string, value: string) =>
  (await client.chats.messages.send(chat, { message: { parts: [text(value)] } })).message.id
const words = (messages: LinqAPIV3.Message[]) =>
  messages.map(({ parts }) => (parts?.[0] && 'value' in parts[0] ? parts[0].value : ''))
const numbers = (from: number, to: number) =>
  Array.from({ length: Math.abs(to - from) + 1 }, (_, index) => `No. ${from + Math.sign(to - from) * index}`)

test('a sent message is answered whole, as pending', async () => {
  const chat = await openChat(server, '+14155550100')
  const made = await upload(client, jpeg(), 'photo.jpg', 'image/jpeg')
  const media = { type: 'media', attachment_id: made.attachment_id }
  const answer = await postJson(server, `/v3/chats/${chat}/messages`, { message: { parts: [text('Look!'), media] } })
  const body = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
  assert.equal(answer.status, 202)
  const { id, created_at, from_handle } = body.message
  assert.match(id, UUID)
  assert.match(created_at, TIME)
  const [mine] = (await client.chats.retrieve(chat)).handles
  assert.deepEqual(from_handle, mine)
  assert.deepEqual(body, {
    chat_id: chat,
    message: {
      id,
      created_at,
      delivery_status: 'pending',
      is_read: false,
      sent_at: null,
      delivered_at: null,
      parts: [
        { type: 'text', value: 'Look!', text_decorations: null, reactions: [] },
        {
          type: 'media',
          id: made.attachment_id,
          url: made.download_url,
          filename: 'photo.jpg',
          mime_type: 'image/jpeg',
          size_bytes: jpeg().length,
          reactions: [],
        },
      ],
      effect: null,
      reply_to: null,
      from_handle,
      preferred_service: null,
      service: 'iMessage',
    },
  })
})

test('a message is delivered within moments, and is retrieved whole', async () => {
  const chat = await openChat(server, '+14155550101')
  const id = await say(chat, 'On its way')
  const states = new Set<string>()
  await eventually(
    () => client.messages.retrieve(id),
    ({ delivery_status, sent_at, delivered_at, is_delivered }) => {
      states.add(delivery_status)
      const sent = ['sent', 'delivered'].includes(delivery_status)
      assert.equal(sent_at !== null, sent, delivery_status)
      assert.equal(delivered_at !== null, delivery_status === 'delivered', delivery_status)
      assert.equal(is_delivered, delivery_status === 'delivered')
      return delivery_status === 'delivered'
    },
  )
  for (const state of states) assert.ok(['pending', 'queued', 'sent', 'delivered'].includes(state), state)
  const answer = await server.call(`/v3/messages/${id.toUpperCase()}`)
  const body = (await answer.json()) as LinqAPIV3.Message
  const { created_at, sent_at, delivered_at } = body
  for (const time of [created_at, sent_at, delivered_at]) assert.match(String(time), TIME)
  assert.ok(created_at <= String(sent_at) && String(sent_at) <= String(delivered_at), JSON.stringify(body))
  const [mine] = (await client.chats.retrieve(chat)).handles
  assert.equal(answer.status, 200)
  assert.deepEqual(body, {
    id,
    chat_id: chat,
    created_at,
    updated_at: created_at,
    delivery_status: 'delivered',
    is_from_me: true,
    is_delivered: true,
    is_read: false,
    sent_at,
    delivered_at,
    read_at: null,
    from: lineOf(server),
    from_handle: mine,
    parts: [{ type: 'text', value: 'On its way', text_decorations: null, reactions: [] }],
    effect: null,
    reply_to: null,
    preferred_service: null,
    service: 'iMessage',
  })
})

test('a list shows the messages as they are retrieved, newest first', async () => {
  const chat = await openChat(server, '+14155550102')
  const ids = [await say(chat, 'second'), await say(chat, 'third')]
  await eventually(
    () => client.chats.messages.list(chat),
    ({ messages }) => messages.every((message) => message.delivery_status === 'delivered'),
  )
  const answer = await server.call(`/v3/chats/${chat}/messages`)
  const body = (await answer.json()) as { messages: LinqAPIV3.Message[]; next_cursor: string | null }
  assert.equal(answer.status, 200)
  assert.deepEqual(Object.keys(body), ['messages', 'next_cursor'])
  assert.equal(body.next_cursor, null)
  assert.deepEqual(words(body.messages), ['third', 'second', 'Hello'])
  assert.deepEqual(body.messages.map(({ id }) => id).slice(0, 2), ids.reverse())
  for (const message of body.messages) assert.deepEqual(message, await client.messages.retrieve(message.id))
})

test('pages hold as many as asked for, 50 by default and 100 at most, and the SDK walks through them', async () => {
  const chat = await openChat(server, '+14155550103')
  for (const value of numbers(1, 60)) await say(chat, value)
  const all = [...numbers(60, 1), 'Hello']
  const byDefault = await client.chats.messages.list(chat)
  assert.deepEqual([words(byDefault.messages), byDefault.next_cursor !== null], [all.slice(0, 50), true])
  for (const limit of [1, 7, 11, 50, 100]) {
    const found: LinqAPIV3.Message[] = []
    let pages = 0
    for await (const page of (await client.chats.messages.list(chat, { limit })).iterPages()) {
      pages++
      found.push(...page.messages)
    }
    assert.deepEqual(words(found), all, `limit ${limit}`)
    assert.equal(pages, Math.ceil(61 / limit))
  }
})

test('paging goes on where it was while messages arrive and go', async () => {
  const chat = await openChat(server, '+14155550104')
  const ids: string[] = []
  for (const value of numbers(1, 12)) ids.push(await say(chat, value))
  const found: LinqAPIV3.Message[] = []
  for await (const message of client.chats.messages.list(chat, { limit: 3 })) {
    found.push(message)
    await say(chat, `Later ${found.length}`)
    if (found.length === 3) {
      await client.messages.delete(message.id)
      await client.messages.delete(ids[4] ?? '')
    }
  }
  assert.deepEqual(words(found), [...numbers(12, 6), ...numbers(4, 1), 'Hello'])
})

for (const [query, names] of [
  ['limit=0', /limit/],
  ['limit=101', /limit/],
  ['limit=abc', /limit/],
  ['limit=2.5', /limit/],
  ['limit=%20', /limit/],
  ['limit=1&limit=1', /limit must be given once/],
  ['cursor=', /cursor/],
  ['cursor=50', /cursor/],
  ['cursor=%F0%9F%8C%8D', /cursor/],
  [`cursor=${'A'.repeat(5000)}`, /cursor/],
] as const) {
  test(`messages?${query.slice(0, 40)} is refused with 1005`, async () => {
    const chat = await openChat(server, '+14155550105')
    await assertRefused(server.call(`/v3/chats/${chat}/messages?${query}`), { status: 400, code: 1005, message: names })
  })
}

test('a deleted message is gone everywhere, and its attachment stays', async () => {
  const chat = await openChat(server, '+14155550106')
  const made = await upload(client, jpeg(), 'photo.jpg', 'image/jpeg')
  const parts = [{ type: 'media' as const, attachment_id: made.attachment_id }]
  const sent = await client.chats.messages.send(chat, { message: { parts, idempotency_key: 'to be deleted' } })
  const { id } = sent.message
  assert.equal(await client.messages.delete(id), null)
  const gone = { status: 404, code: 2002 }
  await assertSdkRefused(client.messages.retrieve(id), gone)
  await assertSdkRefused(client.messages.delete(id), gone)
  const { messages } = await client.chats.messages.list(chat)
  assert.deepEqual(words(messages), ['Hello'])
  const reply = { parts: [text('Yes')], reply_to: { message_id: id } }
  await assertSdkRefused(client.chats.messages.send(chat, { message: reply }), gone)
  const again = { parts: [text('Again')], idempotency_key: 'to be deleted' }
  await assertSdkRefused(client.chats.messages.send(chat, { message: again }), gone)
  assert.equal((await client.chats.messages.list(chat)).messages.length, 1)
  assert.equal((await client.attachments.retrieve(made.attachment_id)).status, 'complete')
  assert.equal((await fetch(made.download_url)).status, 200)
})

test('a message that is deleted on its way leaves no failing job behind', async () => {
  const chat = await openChat(server, '+14155550107')
  const id = await say(chat, 'Never mind')
  await eventually(
    () => client.messages.retrieve(id),
    (message) => message.delivery_status !== 'pending',
  )
  await client.messages.delete(id)
  const later = await say(chat, 'But this')
  await eventually(
    () => client.messages.retrieve(later),
    (message) => message.delivery_status === 'delivered',
  )
  assert.equal(server.log().includes('"msg":"job failed"'), false)
})

test('an unknown message is 2002, and an id that is none 1005', async () => {
  await assertSdkRefused(client.messages.retrieve(NOWHERE), { status: 404, code: 2002 })
  await assertSdkRefused(client.messages.delete(NOWHERE), { status: 404, code: 2002 })
  for (const id of ['x', `${NOWHERE}0`, '%00']) {
    const bad = { status: 400, code: 1005, message: /messageId/ }
    await assertRefused(server.call(`/v3/messages/${id}`), bad)
    await assertRefused(server.call(`/v3/messages/${id}`, { method: 'DELETE' }), bad)
  }
})

test('a message keeps its place when its attachment is deleted, with strings that are empty', async () => {
  const chat = await openChat(server, '+14155550108')
  const made = await upload(client, jpeg(), 'photo.jpg', 'image/jpeg')
  const parts = [text('See'), { type: 'media' as const, attachment_id: made.attachment_id }, text('and weep')]
  const { message } = await client.chats.messages.send(chat, { message: { parts } })
  await client.attachments.delete(made.attachment_id)
  const gone = { id: '', url: '', filename: '', mime_type: 'application/octet-stream', size_bytes: 0, reactions: [] }
  const found = await client.messages.retrieve(message.id)
  assert.deepEqual(found.parts, [message.parts[0], { type: 'media', ...gone }, message.parts[2]])
  assert.deepEqual((await client.chats.messages.list(chat)).messages[0]?.parts, found.parts)
})
