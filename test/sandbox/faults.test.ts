/** Faults on demand: each kind strikes where it says it does, as often as it was armed, and nobody else. */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import LinqAPIV3 from '@linqapp/sdk'
import { jpeg } from '../fixtures/media/files.ts'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { openReceiver, subscribe } from '../support/receiver.ts'
import { advance, arm, ok, receive, sandbox } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, eventually, lineOf, openChat, text, upload } from '../support/scene.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const other = await createPartner(server, '+12025550181')
const chat = await openChat(server, '+14155550121')
await subscribe(client, receiver.url('/'), ['message.received', 'message.sent', 'message.delivered', 'message.failed'])

type Armed = { id: string; kind: string; remaining: number }
const armed = async () => (await ok<{ faults: Armed[] }>(sandbox(server, '/faults'))).faults
afterEach(async () => {
  const left = await armed()
  await sandbox(server, '/faults', { method: 'DELETE' })
  assert.deepEqual(left, [], 'every fault was used up')
})

const send = async (value: string, more: object = {}, to = chat) =>
  (await client.chats.messages.send(to, { message: { parts: [text(value)], ...more } })).message.id
const heard = (message: string) => receiver.deliveries.filter(({ event }) => event.data.id === message)
const typesOf = (message: string) => heard(message).map(({ event }) => event.event_type.replace('message.', ''))
const told = (message: string, count: number) =>
  eventually(
    async () => typesOf(message),
    (types) => types.length >= count,
  )
const bytes = jpeg()
const photo = () => upload(client, bytes, 'photo.jpg', 'image/jpeg')

test('error refuses the next call with the code that is asked for, and only that one', async () => {
  for (const [code, status] of [
    [1004, 400],
    [2003, 404],
    [2005, 403],
    [2009, 409],
    [3006, 500],
    [4004, 503],
    [5004, 400],
  ] as const) {
    await arm(server, { kind: 'error', code })
    await assertSdkRefused(client.chats.listChats(), { status, code })
    await client.chats.listChats()
  }
})

test('rate_limited is a 429 that says when to come back, and the SDK comes back by itself', async () => {
  await arm(server, { kind: 'rate_limited', retry_after: 7 })
  const answer = await server.call('/v3/chats')
  const body = (await answer.json()) as { error: { code: number; retry_after: number } }
  assert.deepEqual([answer.status, answer.headers.get('retry-after')], [429, '7'])
  assert.deepEqual([body.error.code, body.error.retry_after], [1007, 7])
  await arm(server, { kind: 'rate_limited', times: 2 })
  await server.client({ maxRetries: 2 }).chats.listChats()
})

test('send_ack_lost keeps the message and cuts the line, so that a retry with the same key gets the same message', async () => {
  await arm(server, { kind: 'send_ack_lost' })
  const message = { parts: [text('Did it arrive?')], idempotency_key: 'ack-1' }
  await assert.rejects(client.chats.messages.send(chat, { message }), LinqAPIV3.APIConnectionError)
  const again = await client.chats.messages.send(chat, { message })
  await told(again.message.id, 2)
  const { messages } = await client.chats.messages.list(chat)
  const same = messages.filter(({ parts }) => parts?.[0] && 'value' in parts[0] && parts[0].value === 'Did it arrive?')
  assert.deepEqual(
    same.map(({ id }) => id),
    [again.message.id],
  )
  assert.deepEqual(typesOf(again.message.id), ['sent', 'delivered'])
})

test('send_ack_lost strikes a new chat too, and the SDK survives it with a key', async () => {
  await arm(server, { kind: 'send_ack_lost' })
  const message = { parts: [text('New')], idempotency_key: 'ack-2' }
  const made = await server.client({ maxRetries: 2 }).chats.create({ from: line, to: ['+14155550122'], message })
  const { messages } = await client.chats.messages.list(made.chat.id)
  assert.equal(messages.length, 1)
})

test('a fault with match strikes only what fits, by method, and by the path as the SDK writes it', async () => {
  await arm(server, { kind: 'error', code: 4004, match: { method: 'POST', path: `/v3/chats/${chat}/messages` } })
  await client.chats.listChats()
  await client.chats.messages.list(chat)
  await assertSdkRefused(client.chats.messages.send(chat, { message: { parts: [text('x')] } }), {
    status: 503,
    code: 4004,
  })
  await arm(server, { kind: 'error', code: 4004, match: { path: '/v3/chats' } })
  const bare = await fetch(`${server.api}/v3/chats`, { headers: { authorization: `Bearer ${server.apiKey}` } })
  await assertRefused(bare, { status: 503, code: 4004 })
  await arm(server, { kind: 'send_ack_lost', match: { method: 'POST', path: `/v3/chats/${chat}` } })
  await client.chats.create({ from: line, to: ['+14155550123'], message: { parts: [text('Elsewhere')] } })
  await assert.rejects(client.chats.messages.send(chat, { message: { parts: [text('Here')] } }))
})

test('a fault strikes as many times as it was armed, the oldest first', async () => {
  const first = await arm(server, { kind: 'error', code: 2005, times: 2 })
  const second = await arm(server, { kind: 'error', code: 2011 })
  assert.deepEqual(
    (await armed()).map(({ id, kind, remaining }) => [id, kind, remaining]),
    [
      [first.id, 'error', 2],
      [second.id, 'error', 1],
    ],
  )
  const codes: number[] = []
  for (let call = 0; call < 4; call++) {
    const body = (await (await server.call('/v3/chats')).json()) as { error?: { code: number } }
    codes.push(body.error?.code ?? 200)
  }
  assert.deepEqual(codes, [2005, 2005, 2011, 200])
})

test('DELETE disarms them all', async () => {
  await arm(server, { kind: 'error', code: 2005, times: 100 })
  await arm(server, { kind: 'cdn_slow' })
  assert.equal((await sandbox(server, '/faults', { method: 'DELETE' })).status, 204)
  assert.deepEqual(await armed(), [])
  await client.chats.listChats()
})

test('the faults of another partner do not strike, nor show, nor go with ours', async () => {
  const theirs = { apiKey: other.apiKey }
  const file = await photo()
  for (const fault of [
    { kind: 'error', code: 2005, times: 9 },
    { kind: 'rate_limited', times: 9 },
    { kind: 'cdn_not_found', times: 9 },
    { kind: 'delivery_failed', times: 9 },
    { kind: 'webhook_duplicated', times: 9 },
    { kind: 'upload_forbidden', times: 9 },
  ])
    await arm(server, fault, theirs)
  assert.deepEqual(await armed(), [])
  const message = await send('Untouched')
  assert.deepEqual(await told(message, 2), ['sent', 'delivered'])
  assert.equal((await fetch(file.download_url)).status, 200)
  await photo()
  await sandbox(server, '/faults', { method: 'DELETE' })
  const { faults } = await ok<{ faults: Armed[] }>(sandbox(server, '/faults', theirs))
  assert.equal(faults.length, 6)
  await sandbox(server, '/faults', { method: 'DELETE', ...theirs })
})

test('upload_forbidden refuses the PUT once as S3 would, and it can be repeated', async () => {
  const declared = { filename: 'p.jpg', content_type: 'image/jpeg', size_bytes: bytes.length } as const
  const [spared, struck] = [await client.attachments.create(declared), await client.attachments.create(declared)]
  const put = (made: typeof spared) =>
    fetch(made.upload_url, { method: 'PUT', headers: made.required_headers, body: bytes })
  await arm(server, { kind: 'upload_forbidden', match: { attachment_id: struck.attachment_id } })
  assert.equal((await put(spared)).status, 200)
  const refused = await put(struck)
  assert.equal(refused.status, 403)
  assert.match(await refused.text(), /<Code>AccessDenied<\/Code>/)
  assert.equal((await put(struck)).status, 200)
})

test('upload_not_ready leaves an uploaded file pending for as long as it says', async () => {
  await arm(server, { kind: 'upload_not_ready', seconds: 60 })
  const { attachment_id } = await photo()
  const message = { parts: [{ type: 'media' as const, attachment_id }] }
  assert.equal((await client.attachments.retrieve(attachment_id)).status, 'pending')
  await assertSdkRefused(client.chats.messages.send(chat, { message }), { status: 404, code: 2007 })
  const ready = await photo()
  assert.equal((await client.attachments.retrieve(ready.attachment_id)).status, 'complete')
  await sandbox(server, '/faults', { method: 'DELETE', apiKey: other.apiKey })
  assert.equal((await client.attachments.retrieve(attachment_id)).status, 'pending', "another's DELETE changes nothing")
  await advance(server, 61)
  assert.equal((await client.attachments.retrieve(attachment_id)).status, 'complete')
  await client.chats.messages.send(chat, { message })
})

test('media_download_slow and media_download_failed strike media by URL', async () => {
  await arm(server, { kind: 'media_download_slow', seconds: 1 })
  await arm(server, { kind: 'media_download_failed' })
  const began = Date.now()
  const parts = [{ type: 'media' as const, url: 'https://example.com/photo.jpg' }]
  await assertSdkRefused(client.chats.messages.send(chat, { message: { parts } }), { status: 500, code: 5002 })
  assert.ok(Date.now() - began >= 1_000)
})

test('delivery_failed fails the next message, with the code that is asked for', async () => {
  for (const code of [4001, 3007]) {
    await arm(server, { kind: 'delivery_failed', code, match: { to: '+14155550121' } })
    const elsewhere = await openChat(server, '+14155550124')
    const spared = await send('Spared', {}, elsewhere)
    const struck = await send('Struck')
    assert.deepEqual(await told(struck, 2), ['sent', 'failed'])
    assert.equal(heard(struck)[1]?.event.data.code, code)
    assert.deepEqual(await told(spared, 2), ['sent', 'delivered'])
  }
})

test('webhook_delayed holds the next webhook back, in the time of the sandbox', async () => {
  await arm(server, { kind: 'webhook_delayed', seconds: 600, match: { event_type: 'message.received' } })
  const from = '+14155550125'
  const { message_id } = await receive(server, { from, to: line, text: 'Late' })
  const next = await receive(server, { from: '+14155550126', to: line, text: 'Prompt' })
  await told(next.message_id, 1)
  assert.deepEqual(heard(message_id), [])
  await advance(server, 599)
  const after = await receive(server, { from: '+14155550126', to: line, text: 'Prompt' })
  await told(after.message_id, 1)
  assert.deepEqual(heard(message_id), [])
  await advance(server, 2)
  await told(message_id, 1)
})

test('webhook_duplicated delivers the next webhook twice under one id', async () => {
  await arm(server, { kind: 'webhook_duplicated' })
  const { message_id } = await receive(server, { from: '+14155550127', to: line, text: 'Twice' })
  await told(message_id, 2)
  const next = await receive(server, { from: '+14155550127', to: line, text: 'Once' })
  await told(next.message_id, 1)
  const [first, second, ...more] = heard(message_id)
  assert.equal(first?.headers['webhook-id'], second?.headers['webhook-id'])
  assert.equal(first?.body, second?.body)
  assert.deepEqual(more, [])
  assert.equal(heard(next.message_id).length, 1)
})

test('webhook_reordered lets what comes later go first', async () => {
  await arm(server, { kind: 'webhook_reordered', match: { event_type: 'message.sent' } })
  const message = await send('Backwards')
  assert.deepEqual(await told(message, 2), ['delivered', 'sent'])
  assert.deepEqual(await told(await send('Forwards'), 2), ['sent', 'delivered'])
})

test('the CDN faults strike the file that is named', async () => {
  const [spared, struck] = [await photo(), await photo()]
  const match = { attachment_id: struck.attachment_id }
  for (const [kind, status] of [
    ['cdn_forbidden', 403],
    ['cdn_not_found', 404],
  ] as const) {
    await arm(server, { kind, match })
    assert.equal((await fetch(spared.download_url)).status, 200)
    assert.equal((await fetch(struck.download_url)).status, status)
    assert.equal((await fetch(struck.download_url)).status, 200)
  }
  await arm(server, { kind: 'cdn_slow', seconds: 1, match })
  const began = Date.now()
  assert.equal((await fetch(spared.download_url)).status, 200)
  assert.ok(Date.now() - began < 900)
  assert.equal((await fetch(struck.download_url)).status, 200)
  assert.ok(Date.now() - began >= 1_000)
})

for (const fault of [
  {},
  { kind: 'earthquake' },
  { kind: 'error' },
  { kind: 'error', code: 9999 },
  { kind: 'delivery_failed', code: 2003 },
  { kind: 'cdn_slow', seconds: -1 },
  { kind: 'cdn_slow', seconds: 'long' },
  { kind: 'cdn_slow', times: 0 },
  { kind: 'cdn_slow', times: 1.5 },
  { kind: 'cdn_slow', match: { attachment_id: 'none' } },
])
  test(`${JSON.stringify(fault)} is no fault`, async () => {
    const answer = await sandbox(server, '/faults', { json: fault })
    assert.equal(answer.status, 400, await answer.text())
  })
