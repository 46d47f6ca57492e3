/** Contract 1.8 and 0.5: what belongs to another partner looks exactly like what does not exist. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { png, wav } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, keptBy, lineOf, openChat, postJson, text, upload } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const UNKNOWN = '00000000-0000-7000-8000-000000000000'
const partner = await createPartner(server, '+12025550188')
const client = server.client()
const chat = await openChat(server, '+14155550100')
const other = await partner.client.chats.create({
  from: partner.phoneNumber,
  to: ['+14155550100'],
  message: { parts: [text('Hello')] },
})
const theirChat = other.chat.id
const theirs = {
  chat,
  message: (await client.chats.messages.list(chat)).messages[0]?.id ?? '',
  complete: (await upload(client, wav(), 'memo.wav', 'audio/x-wav')).attachment_id,
  failed: (await upload(client, png(), 'memo.wav', 'audio/x-wav')).attachment_id,
  pending: (await client.attachments.create({ filename: 'a.wav', content_type: 'audio/x-wav', size_bytes: 1 }))
    .attachment_id,
}
const owned = await client.attachments.retrieve(theirs.complete)
/** The stranger knows the address as well, since whoever receives a message sees it. */
const address = owned.download_url ?? ''

type Call = (id: string) => Promise<Response>
const as = (path: string, init: RequestInit = {}) => server.call(path, { apiKey: partner.apiKey, ...init })
const post = (path: string, body: unknown) => postJson(server, path, body, { apiKey: partner.apiKey })
const message = { parts: [text('Hi')] }
const media = (attachment_id: string) => ({ parts: [text('Look'), { type: 'media', attachment_id }] })
const cdn = (id: string) => address.replace(theirs.complete, id)

const onAttachments: [string, Call][] = [
  ['retrieve', (id) => as(`/v3/attachments/${id}`)],
  ['delete', (id) => as(`/v3/attachments/${id}`, { method: 'DELETE' })],
  ['send by id', (id) => post(`/v3/chats/${theirChat}/messages`, { message: media(id) })],
  [
    'begin a chat by id',
    (id) => post('/v3/chats', { from: partner.phoneNumber, to: ['+14155550101'], message: media(id) }),
  ],
  ['send a voice memo by id', (id) => post(`/v3/chats/${theirChat}/voicememo`, { attachment_id: id })],
  [
    'send by CDN address',
    (id) => post(`/v3/chats/${theirChat}/messages`, { message: { parts: [{ type: 'media', url: cdn(id) }] } }),
  ],
  ['send a voice memo by CDN address', (id) => post(`/v3/chats/${theirChat}/voicememo`, { voice_memo_url: cdn(id) })],
]
const onChats: [string, Call][] = [
  ['retrieve', (id) => as(`/v3/chats/${id}`)],
  ['list the messages of', (id) => as(`/v3/chats/${id}/messages`)],
  ['send to', (id) => post(`/v3/chats/${id}/messages`, { message })],
  [
    'send a bad message to',
    (id) => post(`/v3/chats/${id}/messages`, { message: { parts: [message.parts[0], message.parts[0]] } }),
  ],
  ['send a voice memo to', (id) => post(`/v3/chats/${id}/voicememo`, { attachment_id: theirs.complete })],
]
const onMessages: [string, Call][] = [
  ['retrieve', (id) => as(`/v3/messages/${id}`)],
  ['delete', (id) => as(`/v3/messages/${id}`, { method: 'DELETE' })],
  [
    'answer',
    (id) => post(`/v3/chats/${theirChat}/messages`, { message: { ...message, reply_to: { message_id: id } } }),
  ],
]

for (const [kind, code, calls, ids] of [
  ['attachment', 2003, onAttachments, [theirs.complete, theirs.failed, theirs.pending]],
  ['chat', 2001, onChats, [theirs.chat]],
  ['message', 2002, onMessages, [theirs.message]],
] as const) {
  for (const [what, call] of calls) {
    test(`${what}: another partner's ${kind} is refused exactly as an unknown one`, async () => {
      const before = await keptBy(server)
      const unknown = await assertRefused(call(UNKNOWN), { status: 404, code })
      for (const id of ids) {
        const foreign = await assertRefused(call(id), { status: 404, code })
        assert.deepEqual({ ...foreign, trace_id: '' }, { ...unknown, trace_id: '' })
        const headers = (answer: Response) =>
          [...answer.headers].filter(([name]) => !['date', 'x-trace-id'].includes(name))
        assert.deepEqual(headers(await call(id)), headers(await call(UNKNOWN)))
      }
      assert.deepEqual(await keptBy(server), before)
    })
  }
}

test("another partner's line cannot send, whether it exists or not", async () => {
  const from = (line: string) => post('/v3/chats', { from: line, to: ['+14155550102'], message })
  const foreign = await assertRefused(from(lineOf(server)), { status: 403, code: 2006 })
  const unknown = await assertRefused(from('+12025550199'), { status: 403, code: 2006 })
  const blank = (text: string) => text.replace(/\+\d+/, '')
  assert.equal(blank(foreign.error.message), blank(unknown.error.message))
})

test('lists show only what is their own', async () => {
  const chats = (await (await as('/v3/chats')).json()) as { chats: { id: string }[] }
  assert.deepEqual(
    chats.chats.map(({ id }) => id),
    [theirChat],
  )
  const byLine = await as(`/v3/chats?from=${encodeURIComponent(lineOf(server))}`)
  assert.deepEqual(await byLine.json(), { chats: [], next_cursor: null })
  const lines = (await partner.client.phoneNumbers.list()).phone_numbers
  assert.deepEqual(
    lines.map((line) => line.phone_number),
    [partner.phoneNumber],
  )
  assert.equal((await partner.client.phonenumbers.list()).phone_numbers.length, 1)
})

test('the same person is a different chat for each partner', async () => {
  assert.notEqual(theirChat, chat)
  const message = { parts: [text('Again')] }
  const again = await partner.client.chats.create({ from: partner.phoneNumber, to: ['+14155550100'], message })
  assert.equal(again.chat.id, theirChat)
})

test("a cursor from another partner's list opens nothing", async () => {
  await client.chats.messages.send(chat, { message: { parts: [text('One more')] } })
  await openChat(server, '+14155550103')
  const page = await client.chats.listChats({ limit: 1 })
  assert.ok(page.next_cursor)
  const found = (await (await as(`/v3/chats?cursor=${page.next_cursor}`)).json()) as { chats: { id: string }[] }
  for (const { id } of found.chats) assert.equal(id, theirChat)
})

test('after all this everything is still there and as it was', async () => {
  assert.deepEqual(await client.attachments.retrieve(theirs.complete), owned)
  assert.equal((await client.attachments.retrieve(theirs.pending)).status, 'pending')
  assert.equal((await client.messages.retrieve(theirs.message)).id, theirs.message)
  assert.equal((await client.chats.messages.list(chat)).messages.length, 2)
  assert.equal((await fetch(address)).status, 200)
})
