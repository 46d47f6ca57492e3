/** Contract 5.3 to 5.8: what is sent to subscribers, field by field, and that every reader of signatures accepts it. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { jpeg, png } from '../fixtures/media/files.ts'
import { assertSigned, type Delivery, openReceiver, subscribe } from '../support/receiver.ts'
import { receive, writeIn } from '../support/sandbox.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, eventually, lineOf, postJson, text, upload } from '../support/scene.ts'
import { assertShape, TIME, TRACE, UUID } from '../support/shape.ts'

const receiver = await openReceiver()
const server = await startServer({ env: { SATCHEL_EGRESS_ALLOW: `127.0.0.1:${receiver.port}` } })
after(async () => {
  await server[Symbol.asyncDispose]()
  await receiver[Symbol.asyncDispose]()
})
const client = server.client()
const line = lineOf(server)
const [, secondLine = ''] = server.phoneNumbers

const READER = '+14155550190'
const UNREACHABLE = '+14155550191'
const ALL: LinqAPIV3.WebhookEventType[] = [
  'message.sent',
  'message.received',
  'message.delivered',
  'message.read',
  'message.failed',
  'chat.created',
]
const newest = await subscribe(client, receiver.url('/newest?tenant=7'), ALL)
const oldest = await subscribe(client, receiver.url('/2025?version=2025-01-01'), ALL)

const handle = (number: string, is_me: boolean, service = 'iMessage') => ({
  id: UUID,
  handle: number,
  service,
  status: 'active',
  joined_at: TIME,
  left_at: null,
  is_me,
})
const health = {
  status: 'HEALTHY',
  doc_url: 'https://docs.linqapp.com/guides/chats/chat-health#healthy',
  updated_at: TIME,
}
const envelope = (event_type: string, trace_id: string | RegExp, data: object, webhook_version = '2026-02-03') => ({
  api_version: 'v3',
  webhook_version,
  event_type,
  event_id: UUID,
  created_at: TIME,
  trace_id,
  partner_id: UUID,
  data,
})
const mediaPart = (id: string, filename: string, mime_type: string, size_bytes: number) => ({
  type: 'media',
  id,
  url: new RegExp(`^${server.cdn}/attachments/partners/[0-9a-f-]{36}/${id}/${filename.replaceAll('.', '\\.')}$`),
  filename,
  mime_type,
  size_bytes,
})

type Sent = { chat: string; message: string; trace: string }

/** A first message with a text, a photo, an effect and a key, to somebody who reads everything. */
async function sendFirst(): Promise<Sent & { attachment: string; size: number }> {
  const bytes = jpeg()
  const { attachment_id } = await upload(client, bytes, 'photo.jpg', 'image/jpeg')
  const parts = [text('Check out this photo!'), { type: 'media', attachment_id }]
  const message = { parts, effect: { type: 'screen', name: 'confetti' }, idempotency_key: 'order-7' }
  const answer = await postJson(server, '/v3/chats', { from: line, to: [READER], message })
  const { chat } = (await answer.json()) as LinqAPIV3.ChatCreateResponse
  assert.equal(answer.status, 201)
  const trace = answer.headers.get('x-trace-id') ?? ''
  return { chat: chat.id, message: chat.message.id, trace, attachment: attachment_id, size: bytes.length }
}

async function send(chat: string, message: object): Promise<Sent> {
  const answer = await postJson(server, `/v3/chats/${chat}/messages`, { message })
  assert.equal(answer.status, 202)
  const body = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
  return { chat, message: body.message.id, trace: answer.headers.get('x-trace-id') ?? '' }
}

const about = ({ event: { data } }: Delivery, message: string) =>
  [data.message_id, data.id, data.message?.id].includes(message)

/** What came for a message on a path, by type, once the last type has come. */
async function told(path: string, message: string, last: string): Promise<Record<string, Delivery>> {
  const found = () => receiver.at(path).filter((delivery) => about(delivery, message))
  await eventually(
    async () => found().map(({ event }) => event.event_type),
    (types) => types.includes(last),
  )
  return Object.fromEntries(found().map((delivery) => [delivery.event.event_type, delivery]))
}

const pick = (deliveries: Record<string, Delivery>, type: string): Delivery => {
  const delivery = deliveries[type]
  assert.ok(delivery, `${type} was not delivered`)
  return delivery
}

let first: Awaited<ReturnType<typeof sendFirst>>
before(async () => {
  first = await sendFirst()
  await Promise.all([told('/newest', first.message, 'message.read'), told('/2025', first.message, 'message.read')])
})

const chatData = (is_group = false) => ({
  id: first.chat,
  is_group,
  owner_handle: handle(line, true),
  health_status: health,
})
const firstData = (times: { sent_at: unknown; delivered_at: unknown; read_at: unknown }) => ({
  id: first.message,
  direction: 'outbound',
  chat: chatData(),
  sender_handle: handle(line, true),
  parts: [
    { type: 'text', value: 'Check out this photo!' },
    mediaPart(first.attachment, 'photo.jpg', 'image/jpeg', first.size),
  ],
  ...times,
  effect: { type: 'screen', name: 'confetti' },
  reply_to: null,
  idempotency_key: 'order-7',
  preferred_service: null,
  service: 'iMessage',
})

for (const [type, times] of [
  ['message.sent', { sent_at: TIME, delivered_at: null, read_at: null }],
  ['message.delivered', { sent_at: TIME, delivered_at: TIME, read_at: null }],
  ['message.read', { sent_at: TIME, delivered_at: TIME, read_at: TIME }],
] as const)
  test(`${type} is told as the contract prints it, with the trace id of the send`, async () => {
    const { body, event } = pick(await told('/newest', first.message, type), type)
    assertShape(JSON.parse(body), envelope(type, first.trace, firstData(times)))
    assert.equal(body, JSON.stringify(event), 'the body is compact')
  })

test('the times of a message are the same in each event and in the message itself', async () => {
  const deliveries = await told('/newest', first.message, 'message.read')
  type Times = { sent_at: string; delivered_at: string; read_at: string }
  const timesOf = (type: string) => pick(deliveries, type).event.data as unknown as Times
  const message = await client.messages.retrieve(first.message)
  const read = timesOf('message.read')
  assert.deepEqual(
    [read.sent_at, read.delivered_at, read.read_at],
    [message.sent_at, message.delivered_at, message.read_at],
  )
  assert.equal(timesOf('message.sent').sent_at, read.sent_at)
  assert.equal(timesOf('message.delivered').delivered_at, read.delivered_at)
  assert.ok(read.sent_at < read.delivered_at && read.delivered_at < read.read_at)
})

test('chat.created comes once, before the message, as the chat without what is deprecated', async () => {
  const created = receiver.at('/newest').filter(({ event: { data, event_type } }) => {
    return event_type === 'chat.created' && data.id === first.chat
  })
  assert.equal(created.length, 1)
  const [delivery] = created
  assert.ok(delivery)
  const data = {
    id: first.chat,
    display_name: READER,
    service: 'iMessage',
    is_group: false,
    handles: [handle(line, true), handle(READER, false)],
    health_status: health,
    created_at: TIME,
    updated_at: TIME,
  }
  assertShape(JSON.parse(delivery.body), envelope('chat.created', first.trace, data))
  const order = receiver.at('/newest').map(({ event }) => event.event_type)
  assert.ok(order.indexOf('chat.created') < order.indexOf('message.sent'))
})

test('a later message starts no chat, and its nulls are explicit', async () => {
  const { message, trace } = await send(first.chat, { parts: [text('Plain')] })
  const { body } = pick(await told('/newest', message, 'message.delivered'), 'message.delivered')
  const data = {
    id: message,
    direction: 'outbound',
    chat: chatData(),
    sender_handle: handle(line, true),
    parts: [{ type: 'text', value: 'Plain' }],
    sent_at: TIME,
    delivered_at: TIME,
    read_at: null,
    effect: null,
    reply_to: null,
    idempotency_key: null,
    preferred_service: null,
    service: 'iMessage',
  }
  assertShape(JSON.parse(body), envelope('message.delivered', trace, data))
  assert.equal(receiver.at('/newest').filter(({ event }) => event.event_type === 'chat.created').length, 1)
})

test('a reply, decorations and a preferred service are told', async () => {
  const text_decorations = [{ range: [0, 4], style: 'bold' }]
  const { message } = await send(first.chat, {
    parts: [{ type: 'text', value: 'Bold words', text_decorations }],
    reply_to: { message_id: first.message, part_index: 1 },
    preferred_service: 'RCS',
  })
  const { event } = pick(await told('/newest', message, 'message.sent'), 'message.sent')
  const data = event.data as unknown as Record<string, unknown>
  assert.deepEqual(data.parts, [{ type: 'text', value: 'Bold words', text_decorations }])
  assert.deepEqual(data.reply_to, { message_id: first.message, part_index: 1 })
  assert.deepEqual([data.preferred_service, data.service], ['RCS', 'RCS'])
})

test('message.received is told as the contract prints it, with the trace id of what brought it in', async () => {
  const bytes = png()
  const answer = await writeIn(server, { from: READER, to: line, media: [{ bytes, filename: 'IMG_3389.png' }] })
  const { message_id, chat_id } = (await answer.json()) as { message_id: string; chat_id: string }
  const { body, event } = pick(await told('/newest', message_id, 'message.received'), 'message.received')
  const part = event.data.parts[0]
  assert.ok(part)
  const data = {
    id: message_id,
    direction: 'inbound',
    chat: chatData(),
    sender_handle: handle(READER, false),
    parts: [mediaPart(part.id, 'IMG_3389.png', 'image/png', bytes.length)],
    sent_at: TIME,
    delivered_at: null,
    read_at: null,
    effect: null,
    reply_to: null,
    idempotency_key: null,
    preferred_service: null,
    service: 'iMessage',
  }
  assert.equal(chat_id, first.chat)
  assertShape(JSON.parse(body), envelope('message.received', answer.headers.get('x-trace-id') ?? '', data))
})

test('message.failed is flat, with the extras that the adapter looks for', async () => {
  const answer = await postJson(server, '/v3/chats', {
    from: line,
    to: [UNREACHABLE],
    message: { parts: [text('Hello?')] },
  })
  const { chat } = (await answer.json()) as LinqAPIV3.ChatCreateResponse
  const failed = {
    chat_id: chat.id,
    message_id: chat.message.id,
    code: 4001,
    reason: 'Message delivery failed',
    failed_at: TIME,
    id: chat.message.id,
    chat: { id: chat.id, is_group: false },
  }
  const trace = answer.headers.get('x-trace-id') ?? ''
  for (const [path, version] of [
    ['/newest', '2026-02-03'],
    ['/2025', '2025-01-01'],
  ] as const) {
    const { body } = pick(await told(path, chat.message.id, 'message.failed'), 'message.failed')
    const parsed = JSON.parse(body)
    assert.equal(typeof parsed.data.code, 'number')
    assertShape(parsed, envelope('message.failed', trace, failed, version))
  }
})

const oldMessage = (times: object) => ({
  id: first.message,
  parts: [
    { type: 'text', value: 'Check out this photo!' },
    mediaPart(first.attachment, 'photo.jpg', 'image/jpeg', first.size),
  ],
  effect: { type: 'screen', name: 'confetti' },
  reply_to: null,
  ...times,
  created_at: TIME,
  updated_at: TIME,
})

for (const [type, extra, times] of [
  ['message.sent', {}, { is_delivered: false, is_read: false, sent_at: TIME, delivered_at: null, read_at: null }],
  [
    'message.delivered',
    { message_id: UUID, delivered_at: TIME },
    { is_delivered: true, is_read: false, sent_at: TIME, delivered_at: TIME, read_at: null },
  ],
  [
    'message.read',
    { message_id: UUID, read_at: TIME },
    { is_delivered: true, is_read: true, sent_at: TIME, delivered_at: TIME, read_at: TIME },
  ],
] as const)
  test(`${type} in version 2025-01-01 has the older shape`, async () => {
    const { body } = pick(await told('/2025', first.message, type), type)
    const data = {
      chat_id: first.chat,
      is_group: false,
      from: line,
      from_handle: handle(line, true),
      is_from_me: true,
      recipient_handle: null,
      recipient_phone: null,
      received_at: null,
      idempotency_key: 'order-7',
      service: 'iMessage',
      preferred_service: null,
      ...extra,
      message: oldMessage(times),
    }
    assertShape(JSON.parse(body), envelope(type, first.trace, data, '2025-01-01'))
  })

test('message.received in version 2025-01-01 names who received it and when', async () => {
  const { message_id } = await receive(server, { from: READER, to: line, text: 'In' })
  const { body } = pick(await told('/2025', message_id, 'message.received'), 'message.received')
  const data = {
    chat_id: first.chat,
    is_group: false,
    from: READER,
    from_handle: handle(READER, false),
    is_from_me: false,
    recipient_handle: handle(line, true),
    recipient_phone: line,
    received_at: TIME,
    idempotency_key: null,
    service: 'iMessage',
    preferred_service: null,
    message: {
      id: message_id,
      parts: [{ type: 'text', value: 'In' }],
      effect: null,
      reply_to: null,
      is_delivered: false,
      is_read: false,
      sent_at: TIME,
      delivered_at: null,
      read_at: null,
      created_at: TIME,
      updated_at: TIME,
    },
  }
  assertShape(JSON.parse(body), envelope('message.received', TRACE, data, '2025-01-01'))
})

test('chat.created has the same data in both versions, under the same event id', async () => {
  const of = (path: string) => receiver.at(path).find(({ event }) => event.event_type === 'chat.created')
  const [now, then] = [of('/newest'), of('/2025')]
  assert.ok(now && then)
  assert.deepEqual(then.event.data, now.event.data)
  assert.equal(then.event.event_id, now.event.event_id)
})

test('a group is told as one, with every member', async () => {
  const others = ['+14155550111', '+14155550112']
  const { chat } = await client.chats.create({ from: line, to: others, message: { parts: [text('Hello all')] } })
  const { event } = pick(await told('/newest', chat.message.id, 'message.delivered'), 'message.delivered')
  assert.equal((event.data.chat as unknown as { is_group: boolean }).is_group, true)
  const created = receiver.at('/newest').find(({ event }) => event.data.id === chat.id)
  const data = created?.event.data as unknown as { handles: unknown[]; display_name: string; is_group: boolean }
  assertShape(data.handles, [handle(line, true), ...others.map((number) => handle(number, false))])
  assert.deepEqual([data.display_name, data.is_group], ['+14155550111, +14155550112', true])
})

test('the headers are those of the contract, spelt as it spells them, and nothing else of ours', async () => {
  const { method, path, headers, names, event } = pick(
    await told('/newest', first.message, 'message.sent'),
    'message.sent',
  )
  assert.deepEqual([method, path], ['POST', '/newest?tenant=7'])
  assert.equal(headers['content-type'], 'application/json')
  assert.equal(headers['webhook-id'], event.event_id)
  assert.match(headers['webhook-timestamp'] ?? '', /^\d{10}$/)
  assert.match(headers['webhook-signature'] ?? '', /^v1,[A-Za-z0-9+/]{43}=$/)
  assert.equal(headers['x-webhook-event'], 'message.sent')
  assert.equal(headers['x-webhook-subscription-id'], newest.id)
  assert.equal(headers['x-webhook-timestamp'], headers['webhook-timestamp'])
  assert.match(headers['x-webhook-signature'] ?? '', /^[0-9a-f]{64}$/)
  assert.match(headers['user-agent'] ?? '', /^Satchel\/\d/)
  assert.match(headers.traceparent ?? '', new RegExp(`^00-${first.trace}-[0-9a-f]{16}-01$`))
  assert.equal(headers['x-webhook-payload-version'], '2026-02-03')
  const ours = names.filter((name) => !['host', 'connection', 'content-length'].includes(name.toLowerCase()))
  assert.deepEqual(
    ours.sort(),
    [
      'content-type',
      'user-agent',
      'webhook-id',
      'webhook-timestamp',
      'webhook-signature',
      'X-Webhook-Event',
      'X-Webhook-Subscription-ID',
      'X-Webhook-Timestamp',
      'X-Webhook-Signature',
      'x-webhook-payload-version',
      'traceparent',
    ].sort(),
  )
})

test('the SDK unwraps every event, and both signatures hold', () => {
  for (const [path, { signing_secret }] of [
    ['/newest', newest],
    ['/2025', oldest],
  ] as const) {
    const deliveries = receiver.at(path)
    assert.deepEqual([...new Set(deliveries.map(({ event }) => event.event_type))].sort(), [...ALL].sort())
    for (const delivery of deliveries) {
      assertSigned(delivery, signing_secret)
      const { body, headers } = delivery
      const event = client.webhooks.unwrap(body, { headers, key: signing_secret })
      assert.deepEqual(event, JSON.parse(body))
      const forged = body.replace('"v3"', '"v4"')
      assert.throws(() => client.webhooks.unwrap(forged, { headers, key: signing_secret }))
    }
  }
})

test('each event goes once to each subscription that asks for its type, and to no other', async () => {
  await subscribe(client, receiver.url('/only-failed'), ['message.failed'])
  await subscribe(client, receiver.url('/only-sent'), ['message.sent'])
  const { message } = await send(first.chat, { parts: [text('Filtered')] })
  await told('/newest', message, 'message.read')
  await told('/only-sent', message, 'message.sent')
  const types = (path: string) =>
    receiver
      .at(path)
      .filter((delivery) => about(delivery, message))
      .map(({ event }) => event.event_type)
  assert.deepEqual(types('/only-sent'), ['message.sent'])
  assert.deepEqual(types('/only-failed'), [])
  assert.deepEqual(types('/newest'), ['message.sent', 'message.delivered', 'message.read'])
})

test('a subscription for some lines hears of those only, both ways', async () => {
  await subscribe(client, receiver.url('/second-line'), ['message.sent', 'message.received', 'chat.created'], {
    phone_numbers: [secondLine],
  })
  const to = ['+14155550120']
  const hello = { message: { parts: [text('Which line?')] }, to }
  await client.chats.create({ ...hello, from: line })
  const { chat } = await client.chats.create({ ...hello, from: secondLine })
  for (const number of [line, secondLine]) {
    await receive(server, { from: '+14155550120', to: number, text: number })
  }
  await eventually(
    async () => receiver.at('/second-line').length,
    (count) => count >= 3,
  )
  await eventually(
    async () => receiver.at('/newest').filter(({ event }) => event.data.parts?.[0]?.value === line).length,
    (count) => count === 1,
  )
  const heard = receiver.at('/second-line').map(({ event: { event_type, data } }) => {
    return [event_type, event_type === 'chat.created' ? data.id : data.chat.id]
  })
  assert.deepEqual(heard.sort(), [
    ['chat.created', chat.id],
    ['message.received', chat.id],
    ['message.sent', chat.id],
  ])
})

test('a repeated idempotency key tells nothing', async () => {
  const message = { parts: [text('Once')], idempotency_key: 'once' }
  const { message: id } = await send(first.chat, message)
  await Promise.all([told('/newest', id, 'message.read'), told('/2025', id, 'message.read')])
  const count = receiver.deliveries.length
  assert.equal((await send(first.chat, message)).message, id)
  const next = await send(first.chat, { parts: [text('After')] })
  await told('/newest', next.message, 'message.sent')
  const since = receiver.deliveries.slice(count)
  assert.deepEqual(
    since.filter((delivery) => about(delivery, id)),
    [],
  )
})

test('another partner hears nothing of it', async () => {
  const other = await createPartner(server, '+12025550178')
  await subscribe(other.client, receiver.url('/another'), ALL)
  const { message } = await send(first.chat, { parts: [text('Private')] })
  await told('/newest', message, 'message.read')
  assert.deepEqual(receiver.at('/another'), [])
})
