/** Messages that came in through the gateway, with and without media. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { jpeg, png } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { makeCertificates } from '../support/certificates.ts'
import { eventually, keptBy, lineOf, text } from '../support/scene.ts'
import { openGatewayDouble, report } from './double.ts'
import { openStage } from './stage.ts'

const stage = await openStage()
after(() => stage[Symbol.asyncDispose]())
const { gateway, server } = stage
const client = server.client()
const to = lineOf(server)

let count = 0
const received = (more: object = {}) => ({
  type: 'received',
  carrier_ref: `ref-${++count}`,
  from: `+1415555${1000 + count}`,
  to,
  text: 'Hi there',
  ...more,
})
const media = (name: string, bytes: Buffer) => {
  gateway.files.set(encodeURIComponent(name), bytes)
  return { url: new URL(`/media/${encodeURIComponent(name)}`, gateway.url).href }
}

test('a text becomes a message of a new chat, and a second one goes into the same chat', async () => {
  const first = received({ at: '2026-02-16T12:40:00Z' })
  const { chat_id, message_id } = await stage.report(first)
  assert.ok(chat_id && message_id)
  const message = await client.messages.retrieve(message_id)
  assert.deepEqual(
    [message.chat_id, message.delivery_status, message.is_from_me, message.sent_at, message.from, message.service],
    [chat_id, 'received', false, '2026-02-16T12:40:00.000Z', first.from, 'iMessage'],
  )
  assert.deepEqual(
    message.parts?.map((part) => 'value' in part && part.value),
    ['Hi there'],
  )
  const second = await stage.report(received({ from: first.from }))
  assert.equal(second.chat_id, chat_id)
  assert.notEqual(second.message_id, message_id)
})

test('media are downloaded from the gateway, served by the CDN, and can be sent again by their id', async () => {
  const files = [
    media('IMG 1.jpg', jpeg()),
    { ...media('x', png()), filename: 'Bild ü.png' },
    media('odd', Buffer.of(0, 1)),
  ]
  const { message_id } = await stage.report(received({ text: undefined, media: files }))
  const { parts } = await client.messages.retrieve(message_id ?? '')
  const got = (parts ?? []).flatMap((part) => (part.type === 'media' ? [part] : []))
  assert.deepEqual(
    got.map((part) => [part.filename, part.mime_type, part.size_bytes]),
    [
      ['IMG 1.jpg', 'image/jpeg', jpeg().length],
      ['Bild ü.png', 'image/png', png().length],
      ['odd', 'application/octet-stream', 2],
    ],
  )
  for (const [index, bytes] of [jpeg(), png(), Buffer.of(0, 1)].entries()) {
    const file = await fetch(got[index]?.url ?? '')
    assert.deepEqual([file.status, Buffer.from(await file.arrayBuffer())], [200, bytes])
  }
  const attachment_id = got[0]?.id ?? ''
  assert.equal((await client.attachments.retrieve(attachment_id)).status, 'complete')
  const id = await stage.send('+14155550190', { parts: [text('Look'), { type: 'media', attachment_id }] })
  const [, sent] = (await stage.taken(id)).parts
  assert.equal(sent?.type === 'media' && sent.url, got[0]?.url)
})

test('the files of one message are downloaded side by side', async () => {
  const names = ['a', 'b', 'c', 'd']
  let waiting: (() => void)[] = []
  const together = (go: () => void) => {
    waiting.push(go)
    if (waiting.length === names.length) for (const each of waiting.splice(0)) each()
  }
  gateway.hold = together
  const { message_id } = await stage.report(received({ media: names.map((name) => media(name, jpeg())) }))
  gateway.hold = (go) => go()
  waiting = []
  assert.equal((await client.messages.retrieve(message_id ?? '')).parts?.length, 5)
})

test('what was sent to a group comes into the chat of the group', async () => {
  const event = received({ others: ['someone@example.com', to] })
  const { chat_id } = await stage.report(event)
  const chat = await client.chats.retrieve(chat_id ?? '')
  assert.equal(chat.is_group, true)
  assert.deepEqual(
    chat.handles.map((handle) => handle.handle),
    [to, event.from, 'someone@example.com'],
  )
})

test('the same event or the same reference again gets the same answer and stores nothing', async () => {
  const event = received({ media: [media('once.jpg', jpeg())] })
  const first = await stage.report(event, { id: 'event-1' })
  const kept = await keptBy(server)
  assert.deepEqual(await stage.report(event, { id: 'event-1' }), first)
  assert.deepEqual(await stage.report(event, { id: 'event-2' }), first)
  assert.deepEqual(await stage.report({ ...event, carrier_ref: 'another' }, { id: 'event-1' }), first)
  assert.deepEqual({ ...(await keptBy(server)), keys: 0 }, { ...kept, keys: 0 })
})

test('many tries at once make one message, and download its media once', async () => {
  let asked = 0
  gateway.hold = (go) => {
    asked++
    setTimeout(go, 200)
  }
  const event = received({ media: [media('at-once.jpg', jpeg())] })
  const before = await keptBy(server)
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => stage.report(event, { id: `at-once-${index}` })),
  )
  gateway.hold = (go) => go()
  assert.equal(new Set(answers.map(({ message_id }) => message_id)).size, 1)
  const after = await keptBy(server)
  assert.deepEqual([after.messages - before.messages, after.files.length - before.files.length, asked], [1, 1, 1])
})

test('a message that was deleted does not come back with a late repetition', async () => {
  const event = received()
  const first = await stage.report(event, { id: 'late' })
  await client.messages.delete(first.message_id ?? '')
  assert.deepEqual(await stage.report(event, { id: 'late' }), first)
  assert.deepEqual(await stage.report(event, { id: 'later' }), first)
  await assert.rejects(client.messages.retrieve(first.message_id ?? ''), { status: 404 })
})

test('a reference that is the id of a message of ours is not taken for that message', async () => {
  const id = await stage.send('+14155550191')
  await stage.taken(id)
  await eventually(
    () => stage.status(id),
    (status) => status === 'queued',
  )
  const { message_id } = await stage.report(received({ carrier_ref: id }))
  assert.notEqual(message_id, id)
  assert.equal(await stage.status(id), 'queued')
})

const REFUSED: [what: string, more: object, status: number, code: number, message: RegExp][] = [
  ['without carrier_ref', { carrier_ref: undefined }, 400, 1001, /carrier_ref$/],
  ['with an empty carrier_ref', { carrier_ref: '' }, 400, 1005, /^carrier_ref must not be empty/],
  ['without from', { from: undefined }, 400, 1001, /from$/],
  ['without to', { to: undefined }, 400, 1001, /to$/],
  ['from nobody', { from: 'nobody' }, 400, 1002, /^from must be/],
  ['from the line itself', { from: to }, 400, 1005, /from/],
  ['to what is no number', { to: 'someone@example.com' }, 400, 1002, /^to must be/],
  ['to a line of nobody', { to: '+12025550199' }, 403, 2006, /line/],
  ['with a wrong member', { others: ['+14155550101', '12'] }, 400, 1002, /^others\[1\] must be/],
  ['with too many members', { others: Array(31).fill('+14155550101') }, 400, 1005, /^others must have at most 30/],
  ['by pigeon', { service: 'pigeon' }, 400, 1005, /^service must be one of iMessage, SMS, RCS/],
  ['with neither text nor media', { text: undefined }, 400, 1004, /text or media/],
  ['with an empty text', { text: '' }, 400, 1004, /text or media/],
  ['with media that is no list', { media: {} }, 400, 1005, /^media must be an array/],
  ['with media without url', { media: [{}] }, 400, 1001, /media\[0\]\.url$/],
  [
    'with media by http',
    { media: [{ url: 'http://example.com/a.jpg' }] },
    400,
    1005,
    /^media\[0\]\.url must be an https/,
  ],
  ['with media by file', { media: [{ url: 'file:///etc/passwd' }] }, 400, 1005, /^media\[0\]\.url must be an https/],
  [
    'with media inside',
    { media: [{ url: 'https://169.254.169.254/' }] },
    400,
    1005,
    /^media\[0\]\.url must lead to a public/,
  ],
  ['with media that is not there', { media: [media('ok', jpeg()), gone()] }, 500, 5002, /^media\[1\]\.url could not/],
  [
    'with a file of 100 MB and a byte',
    { media: [media('large', Buffer.alloc(104_857_601))] },
    400,
    5005,
    /^media\[0\]\.url/,
  ],
  ['with an empty file', { media: [media('empty', Buffer.alloc(0))] }, 400, 1005, /is empty$/],
  [
    'with a folder for a name',
    { media: [{ ...media('ok', jpeg()), filename: '..' }] },
    400,
    1005,
    /^media\[0\]\.filename/,
  ],
  ['with too many files', { media: Array(21).fill(media('ok', jpeg())) }, 400, 1005, /^media must have at most 20/],
]
function gone() {
  return { url: new URL('/media/gone.jpg', gateway.url).href }
}
for (const [what, more, status, code, message] of REFUSED) {
  test(`a message ${what} is refused with ${code} and leaves nothing`, async () => {
    const before = await keptBy(server)
    await assertRefused(report(server.api, received(more)), { status, code, message })
    assert.deepEqual(await keptBy(server), before)
  })
}

test('being the host of the gateway opens no other port of that host', async () => {
  const other = await openGatewayDouble({ certificates: await makeCertificates() })
  const url = new URL('/media/a.jpg', other.url).href
  await assertRefused(report(server.api, received({ media: [{ url }] })), {
    status: 400,
    code: 1005,
    message: /public/,
  })
  await other[Symbol.asyncDispose]()
})

test('what was refused for its media can be sent again when they are there', async () => {
  const event = received({ media: [{ url: new URL('/media/later.jpg', gateway.url).href }] })
  await assertRefused(report(server.api, event, { id: 'again' }), { status: 500, code: 5002 })
  media('later.jpg', jpeg())
  const { message_id } = await stage.report(event, { id: 'again' })
  assert.equal((await client.messages.retrieve(message_id ?? '')).parts?.length, 2)
})
