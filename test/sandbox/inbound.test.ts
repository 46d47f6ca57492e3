/** `POST /sandbox/messages`: what a phone sends to a line, and what becomes of its files. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { exeLike, jpeg, mp3, png, svg } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { openReceiver, subscribe } from '../support/receiver.ts'
import { ok, type PhoneMessage, receive, sandbox, writeIn } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, eventually, keptBy, lineOf, text, upload } from '../support/scene.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const [, secondLine = ''] = server.phoneNumbers
const PHONE = '+14155550142'
await subscribe(client, receiver.url('/in'), ['message.received', 'chat.created'])

/** The event of a message that came in. */
async function told(messageId: string) {
  const of = () => receiver.deliveries.filter(({ event }) => event.data.id === messageId)
  const [delivery] = await eventually(
    async () => of(),
    (found) => found.length > 0,
  )
  assert.ok(delivery)
  return delivery
}

test('a photo sent with curl is told with a CDN address that works already, and its id can be sent on', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-curl-'))
  try {
    const photo = jpeg()
    await writeFile(join(folder, 'photo.jpg'), photo)
    const form = [`from=${PHONE}`, `to=${line}`, `media=@${join(folder, 'photo.jpg')}`].flatMap((field) => [
      '-F',
      field,
    ])
    const auth = ['-H', `Authorization: Bearer ${server.apiKey}`]
    const { stdout } = await promisify(execFile)('curl', ['-sS', ...auth, ...form, `${server.api}/sandbox/messages`])
    const { chat_id, message_id } = JSON.parse(stdout) as { chat_id: string; message_id: string }
    const { event } = await told(message_id)
    assert.equal(event.event_type, 'message.received')
    const [part] = event.data.parts
    assert.ok(part)
    assert.deepEqual([part.type, part.filename, part.mime_type], ['media', 'photo.jpg', 'image/jpeg'])
    assert.ok(part.url.startsWith(`${server.cdn}/attachments/partners/`))

    const served = await fetch(part.url)
    assert.deepEqual([served.status, served.headers.get('content-type')], [200, 'image/jpeg'])
    assert.deepEqual(Buffer.from(await served.arrayBuffer()), photo)
    const attachment = await client.attachments.retrieve(part.id)
    assert.deepEqual([attachment.status, attachment.size_bytes], ['complete', photo.length])
    assert.equal(attachment.download_url, part.url)

    const sent = await client.chats.messages.send(chat_id, {
      message: { parts: [{ type: 'media', attachment_id: part.id }] },
    })
    const [again] = sent.message.parts
    assert.ok(again && 'url' in again)
    assert.equal(again.url, part.url)
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('the CDN address in a webhook works from the first moment', async () => {
  const statuses: number[] = []
  const usual = receiver.answer
  receiver.answer = (response, { event }) => {
    void Promise.all((event.data.parts ?? []).filter(({ url }) => url).map(({ url }) => fetch(url))).then((answers) => {
      statuses.push(...answers.map(({ status }) => status))
      response.writeHead(200).end()
    })
  }
  const media = [{ bytes: png(), filename: 'a.png' }]
  for (let round = 0; round < 10; round++) await receive(server, { from: PHONE, to: line, media })
  await eventually(
    async () => statuses.length,
    (count) => count === 10,
  )
  receiver.answer = usual
  assert.deepEqual(statuses, Array(10).fill(200))
})

test('several files and a text are one message, text first and files in their order', async () => {
  const media = [
    { bytes: jpeg(), filename: 'one.jpg' },
    { bytes: mp3(), filename: 'two.mp3' },
    { bytes: png(), filename: 'Grüße 三.png' },
  ]
  const { message_id, chat_id } = await receive(server, { from: PHONE, to: line, text: 'Look', media })
  const { event } = await told(message_id)
  assert.deepEqual(
    event.data.parts.map((part) => part.value ?? `${part.filename} ${part.mime_type}`),
    ['Look', 'one.jpg image/jpeg', 'two.mp3 audio/mpeg', 'Grüße 三.png image/png'],
  )
  for (const [index, { bytes }] of media.entries()) {
    const served = await fetch(event.data.parts[index + 1]?.url ?? '')
    assert.deepEqual(Buffer.from(await served.arrayBuffer()), Buffer.from(bytes))
  }
  const message = await client.messages.retrieve(message_id)
  assert.deepEqual(
    [message.chat_id, message.delivery_status, message.is_from_me, message.parts?.length],
    [chat_id, 'received', false, 4],
  )
})

test('the last field named media counts as well as the first, wherever the other fields are', async () => {
  const form = new FormData()
  form.append('media', new Blob([jpeg()]), 'first.jpg')
  for (const [name, value] of Object.entries({ to: line, text: 'between', from: PHONE })) form.append(name, value)
  form.append('media', new Blob([png()]), 'last.png')
  const { message_id } = await ok<{ message_id: string }>(
    sandbox(server, '/messages', { method: 'POST', body: form }),
    201,
  )
  const { event } = await told(message_id)
  assert.deepEqual(
    event.data.parts.map((part) => part.value ?? part.filename),
    ['between', 'first.jpg', 'last.png'],
  )
})

test('a text alone is a message', async () => {
  const { message_id } = await receive(server, { from: PHONE, to: line, text: 'Only words' })
  const { event } = await told(message_id)
  assert.deepEqual(event.data.parts, [{ type: 'text', value: 'Only words' }])
})

test('the service is the one that is named', async () => {
  const { message_id } = await receive(server, { from: '+14155550149', to: line, text: 'Hi', service: 'SMS' })
  assert.equal((await client.messages.retrieve(message_id)).service, 'SMS')
})

test('a file of a type nobody knows, or that we would refuse, comes in as what can be said of it', async () => {
  const media = [
    { bytes: Buffer.from([0, 1, 2, 3, 250, 251, 252, 7, 0, 9]), filename: 'thing.xyz' },
    { bytes: exeLike, filename: 'setup.exe' },
    { bytes: Buffer.from(svg), filename: 'drawing.svg' },
  ]
  const { message_id } = await receive(server, { from: PHONE, to: line, media })
  const { event } = await told(message_id)
  for (const [index, { bytes }] of media.entries()) {
    const part = event.data.parts[index]
    assert.ok(part)
    assert.equal(part.mime_type, 'application/octet-stream', part.filename)
    const served = await fetch(part.url)
    assert.equal(served.headers.get('content-type'), 'application/octet-stream')
    assert.match(served.headers.get('content-disposition') ?? '', /^attachment/)
    assert.deepEqual(Buffer.from(await served.arrayBuffer()), Buffer.from(bytes))
  }
})

test('the chat with this phone is used again, from either side; another line has another', async () => {
  const number = '+14155550143'
  const first = await receive(server, { from: number, to: line, text: 'One' })
  const second = await receive(server, { from: number, to: line, text: 'Two' })
  assert.equal(second.chat_id, first.chat_id)
  const { chat } = await client.chats.create({ from: line, to: [number], message: { parts: [text('Three')] } })
  assert.equal(chat.id, first.chat_id)
  const elsewhere = await receive(server, { from: number, to: secondLine, text: 'Four' })
  assert.notEqual(elsewhere.chat_id, first.chat_id)
  const created = () =>
    receiver.deliveries.filter(({ event }) => event.event_type === 'chat.created' && event.data.id === first.chat_id)
  await told(elsewhere.message_id)
  assert.equal(created().length, 1)
})

test('an e-mail address can be the sender, and its case does not matter', async () => {
  const first = await receive(server, { from: 'anna@example.com', to: line, text: 'One' })
  const second = await receive(server, { from: 'Anna@Example.com', to: line, text: 'Two' })
  assert.equal(second.chat_id, first.chat_id)
})

const good = { from: PHONE, to: line, text: 'Hello' }
const photo = { media: [{ bytes: jpeg(), filename: 'photo.jpg' }] }
const other = await createPartner(server, '+12025550179')

/** What is refused leaves no row and no file behind. */
async function assertLeavesNothing(refused: () => Promise<unknown>): Promise<void> {
  const before = await keptBy(server)
  await refused()
  assert.deepEqual(
    await eventually(
      () => keptBy(server),
      (kept) => kept.files.length === before.files.length,
    ),
    before,
  )
}

const { from: _, ...noSender } = good
const { to: __, ...noLine } = good
for (const [what, message, status, code] of [
  ['a line of another partner', { ...good, ...photo, to: other.phoneNumber }, 403, 2006],
  ['a number that is no line', { ...good, ...photo, to: '+12025550999' }, 403, 2006],
  ['no text and no file', { from: PHONE, to: line }, 400, 1004],
  ['an empty text', { ...good, text: '' }, 400, 1004],
  ['a text of 10,001 characters', { ...good, ...photo, text: 'x'.repeat(10_001) }, 400, 1004],
  ['no sender', { ...noSender, ...photo }, 400, 1001],
  ['no line', { ...noLine, ...photo }, 400, 1001],
  ['a sender that is neither number nor address', { ...good, ...photo, from: '555-0100' }, 400, 1002],
  ['a line that is no number', { ...good, ...photo, to: 'me@example.com' }, 400, 1002],
  ['the line itself as sender', { ...good, ...photo, from: line }, 400, 1005],
  ['an unknown service', { ...good, ...photo, service: 'pigeon' }, 400, 1005],
  ['a field that does not exist', { ...good, ...photo, colour: 'red' }, 400, 1005],
  ['a NUL in the text', { ...good, ...photo, text: 'a\0b' }, 400, 1005],
  ['an empty file', { ...good, media: [{ bytes: Buffer.alloc(0), filename: 'empty.jpg' }] }, 400, 1005],
  ['a control character in a name', { ...good, media: [{ bytes: jpeg(), filename: 'a\u0001b.jpg' }] }, 400, 1005],
] as const)
  test(`${what} is refused with ${code} and leaves nothing`, async () => {
    await assertLeavesNothing(() =>
      assertRefused(writeIn(server, message as unknown as PhoneMessage), { status, code }),
    )
  })

test('a file in another field is refused, and the one before it is taken back', async () => {
  await assertLeavesNothing(async () => {
    const form = new FormData()
    for (const [name, value] of Object.entries(good)) form.append(name, value)
    form.append('media', new Blob([jpeg()]), 'photo.jpg')
    form.append('picture', new Blob([jpeg()]), 'photo.jpg')
    await assertRefused(sandbox(server, '/messages', { method: 'POST', body: form }), { status: 400, code: 1005 })
  })
})

test('the 21st file is refused, and the 20 before it are taken back', async () => {
  await assertLeavesNothing(async () => {
    const media = Array.from({ length: 21 }, (_, index) => ({ bytes: jpeg(), filename: `${index}.jpg` }))
    await assertRefused(writeIn(server, { ...good, media }), { status: 400, code: 1003 })
  })
})

test('a file of 100 MB comes in, one byte more does not and leaves nothing', async () => {
  const most = Buffer.alloc(100 * 1024 * 1024)
  const before = (await keptBy(server)).files.length
  const { message_id } = await receive(server, { ...good, media: [{ bytes: most, filename: 'most.bin' }] })
  const [, part] = (await told(message_id)).event.data.parts
  await client.attachments.delete(part?.id ?? '')
  await eventually(
    async () => (await keptBy(server)).files.length,
    (count) => count === before,
  )
  await assertLeavesNothing(async () => {
    const media = [{ bytes: Buffer.alloc(most.length + 1), filename: 'more.bin' }]
    await assertRefused(writeIn(server, { ...good, media }), { status: 400, code: 5005 })
  })
})

for (const [what, type, body] of [
  ['JSON', 'application/json', JSON.stringify(good)],
  ['nothing', 'application/json', ''],
  ['a form without boundary', 'multipart/form-data', 'x'],
  ['a form that is none', 'multipart/form-data; boundary=cut', 'no boundary in here'],
  [
    'a form that breaks off in a file',
    'multipart/form-data; boundary=cut',
    '--cut\r\nContent-Disposition: form-data; name="media"; filename="a.jpg"\r\n\r\nhalf',
  ],
] as const)
  test(`${what} is refused with 1003 and leaves nothing`, async () => {
    await assertLeavesNothing(() => {
      const init = { method: 'POST', headers: { 'content-type': type }, body }
      return assertRefused(sandbox(server, '/messages', init), { status: 400, code: 1003 })
    })
  })

test('a phone that hangs up in the middle of a file leaves nothing', async () => {
  await assertLeavesNothing(async () => {
    const { hostname, port } = new URL(server.api)
    const socket = connect(Number(port), hostname)
    const head = `--cut\r\nContent-Disposition: form-data; name="media"; filename="a.jpg"\r\n\r\n`
    socket.write(
      `POST /sandbox/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.apiKey}\r\n` +
        `Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: 1000000\r\n\r\n${head}`,
    )
    socket.write(Buffer.alloc(300_000))
    await eventually(
      async () => (await keptBy(server)).files.some((file) => file.includes('spool')),
      (found) => found,
    )
    socket.destroy()
    await eventually(
      async () => (await keptBy(server)).files.some((file) => file.includes('spool')),
      (found) => !found,
    )
  })
})

test('without a valid key nothing comes in', async () => {
  await assertRefused(writeIn(server, good, { apiKey: 'wrong' }), { status: 401, code: 2004 })
})

test('an uploaded file and a received one are alike to those who ask', async () => {
  const made = await upload(client, jpeg(), 'photo.jpg', 'image/jpeg')
  const { message_id } = await receive(server, { ...good, ...photo })
  const part = (await told(message_id)).event.data.parts[1]
  const own = await client.attachments.retrieve(made.attachment_id)
  const received = await client.attachments.retrieve(part?.id ?? '')
  assert.deepEqual(Object.keys(received), Object.keys(own))
  assert.equal((await server.call(`/v3/attachments/${part?.id}`, { method: 'DELETE' })).status, 204)
  assert.equal((await fetch(part?.url ?? '')).status, 404)
})
