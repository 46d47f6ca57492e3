/** Contract 4.2, 4.6 and 6: creating, reusing, retrieving and listing chats, and the lines they are of. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { keptBy, lineOf, openChat, postJson, text } from '../support/scene.ts'

const LINES = ['+12025550110', '+12025550111'] as const
const server = await startServer({ env: { SATCHEL_PHONE_NUMBERS: LINES.join(',') } })
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const from = lineOf(server)
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
const HEALTHY = 'https://docs.linqapp.com/guides/chats/chat-health#healthy'
const hello = { parts: [text('Hello')] }
const people = (count: number, first = 1000) =>
  Array.from({ length: count }, (_, index) => `+1415556${String(first + index).padStart(4, '0')}`)
const create = (body: unknown) => postJson(server, '/v3/chats', body)

test('a chat with one person is answered whole, its first message inside', async () => {
  const answer = await create({ from, to: ['+14155559876'], message: { parts: [text('Hello!')] } })
  const body = (await answer.json()) as LinqAPIV3.ChatCreateResponse
  const [mine, theirs] = body.chat.handles
  assert.ok(mine && theirs)
  const { id: messageId, created_at } = body.chat.message
  assert.equal(answer.status, 201)
  for (const id of [body.chat.id, mine.id, theirs.id, messageId]) assert.match(id, UUID)
  for (const time of [created_at, mine.joined_at, body.chat.health_status.updated_at]) assert.match(time, TIME)
  const handle = { service: 'iMessage', status: 'active', joined_at: created_at, left_at: null }
  assert.deepEqual(body, {
    chat: {
      id: body.chat.id,
      display_name: '+14155559876',
      service: 'iMessage',
      is_group: false,
      handles: [
        { id: mine.id, handle: from, ...handle, is_me: true },
        { id: theirs.id, handle: '+14155559876', ...handle, is_me: false },
      ],
      health_status: { status: 'HEALTHY', doc_url: HEALTHY, updated_at: created_at },
      message: {
        id: messageId,
        created_at,
        delivery_status: 'pending',
        is_read: false,
        sent_at: null,
        delivered_at: null,
        parts: [{ type: 'text', value: 'Hello!', text_decorations: null, reactions: [] }],
        effect: null,
        reply_to: null,
        from_handle: mine,
        preferred_service: null,
        service: 'iMessage',
      },
    },
  })
  assert.deepEqual(Object.keys(body.chat.message.parts[0] ?? {}), ['type', 'value', 'text_decorations', 'reactions'])
})

test('a group may have 31 people and not 32', async () => {
  const { chat } = await client.chats.create({ from, to: people(31), message: hello })
  assert.equal(chat.is_group, true)
  assert.equal(chat.display_name, people(31).join(', '))
  assert.deepEqual(
    chat.handles.map(({ handle, is_me }) => [handle, is_me]),
    [[from, true], ...people(31).map((person) => [person, false])],
  )
  const before = await keptBy(server)
  const call = client.chats.create({ from, to: people(32), message: hello })
  await assertSdkRefused(call, { status: 400, code: 1005, message: /to must have at most 31/ })
  assert.deepEqual(await keptBy(server), before)
})

test('the same line and the same people give the same chat, in whatever order and however often named', async () => {
  const [a = '', b = '', c = ''] = people(3, 2000)
  const first = await client.chats.create({ from, to: [a, b, c], message: hello })
  for (const to of [
    [c, a, b],
    [b, b, a, c, a],
    [a, b, c],
  ]) {
    const answer = await create({ from, to, message: { parts: [text('See https://example.com')] } })
    assert.equal(answer.status, 201)
    assert.equal(((await answer.json()) as LinqAPIV3.ChatCreateResponse).chat.id, first.chat.id)
  }
  const { messages } = await client.chats.messages.list(first.chat.id)
  assert.equal(messages.length, 4)
  const others = [[a, b], [a, b, c, '+14155550199'], [a]]
  const ids = await Promise.all(
    others.map(async (to) => (await client.chats.create({ from, to, message: hello })).chat.id),
  )
  const otherLine = await client.chats.create({ from: LINES[1], to: [a, b, c], message: hello })
  assert.equal(new Set([first.chat.id, ...ids, otherLine.chat.id]).size, 5)
})

test('one person named twice is a direct chat', async () => {
  const { chat } = await client.chats.create({ from, to: ['+14155552222', '+14155552222'], message: hello })
  assert.deepEqual([chat.is_group, chat.handles.length], [false, 2])
})

test('people may be e-mail addresses, whose case makes no difference', async () => {
  const first = await client.chats.create({ from, to: ['Ada@Example.com'], message: hello })
  assert.deepEqual([first.chat.is_group, first.chat.handles[1]?.handle], [false, 'Ada@Example.com'])
  const again = await client.chats.create({ from, to: ['ada@example.com'], message: hello })
  assert.equal(again.chat.id, first.chat.id)
  const { chats } = await client.chats.listChats({ to: 'ADA@example.com' })
  assert.deepEqual(
    chats.map((chat) => chat.id),
    [first.chat.id],
  )
})

test('eight creates of one chat at the same time make one chat with eight messages', async () => {
  const to = ['+14155553333']
  const made = await Promise.all(Array.from({ length: 8 }, () => client.chats.create({ from, to, message: hello })))
  const [id = '', ...more] = [...new Set(made.map(({ chat }) => chat.id))]
  assert.deepEqual(more, [])
  assert.equal((await client.chats.messages.list(id)).messages.length, 8)
})

const to = ['+14155554444']
const refusals: [what: string, body: unknown, status: number, code: number, message: RegExp][] = [
  ['with nothing', {}, 400, 1001, /from/],
  ['without from', { to, message: hello }, 400, 1001, /from/],
  ['without to', { from, message: hello }, 400, 1001, /to/],
  ['without message', { from, to }, 400, 1001, /message/],
  ['without parts', { from, to, message: {} }, 400, 1001, /message\.parts/],
  ['with the parts beside message', { from, to, parts: hello.parts }, 400, 1001, /message/],
  ['to nobody', { from, to: [], message: hello }, 400, 1005, /to/],
  ['to a string', { from, to: '+14155554444', message: hello }, 400, 1005, /to/],
  ['to a number', { from, to: [14155554444], message: hello }, 400, 1005, /to\[0\]/],
  ['from a number', { from: 12025550110, to, message: hello }, 400, 1005, /from/],
  ['with a list for message', { from, to, message: [] }, 400, 1005, /message/],
  ['with null for message', { from, to, message: null }, 400, 1005, /message/],
  ['from a number without plus', { from: '12025550110', to, message: hello }, 400, 1002, /from/],
  ['from an e-mail address', { from: 'me@example.com', to, message: hello }, 400, 1002, /from/],
  ['from nobody', { from: '', to, message: hello }, 400, 1002, /from/],
  ['from a line of nobody', { from: '+12025550199', to, message: hello }, 403, 2006, /from/],
  ['to its own line', { from, to: [from], message: hello }, 400, 1005, /to/],
  ...[
    '4155554444',
    '+0155554444',
    '+1',
    '+1234567890123456',
    '+1 415 555 4444',
    '',
    ' ',
    'ada',
    'a@b@c',
    '@x',
    'a,b@c.com',
  ].map((handle): [string, unknown, number, number, RegExp] => [
    `to "${handle}"`,
    { from, to: [...to, handle], message: hello },
    400,
    1002,
    /to\[1\]/,
  ]),
]
for (const [what, body, status, code, message] of refusals) {
  test(`a chat ${what} is refused with ${code}`, async () => {
    const before = await keptBy(server)
    await assertRefused(create(body), { status, code, message })
    assert.deepEqual(await keptBy(server), before)
  })
}

for (const [what, parts] of [
  ['a link part', [{ type: 'link', value: 'https://example.com' }]],
  ['a URL in a text', [text('See https://example.com/x today')]],
  ['a URL in its second text', [text('Look'), { type: 'media', attachment_id: NOWHERE }, text('http://example.com')]],
  ['www.', [text('www.example.org is it')]],
  ['a bare domain', [text('Find it on example.com.')]],
  ['a bare domain with a path', [text('(sub.example.co.uk/x?y)')]],
  ['a URL in capitals', [text('HTTPS://EXAMPLE.COM')]],
] as const) {
  test(`the first message of a chat must not hold ${what}; later ones may`, async () => {
    const before = await keptBy(server)
    const call = create({ from, to: ['+14155555550'], message: { parts } })
    await assertRefused(call, { status: 400, code: 1005, message: /message\.parts\[\d\].*link/ })
    assert.deepEqual(await keptBy(server), before)
    const chat = await openChat(server, '+14155555551')
    const later = await postJson(server, `/v3/chats/${chat}/messages`, { message: { parts: [parts.at(-1)] } })
    assert.equal(later.status, 202)
  })
}

for (const [index, value] of [
  'Write to ada@example.com',
  'Version 1.2.3, about 3.5 m, e.g. this one...',
  'I like Node.js and ASP.NETs',
  'Wait.What?',
  'http and https are words',
  'user@mail.example.com, please',
].entries()) {
  test(`"${value}" is no link and may begin a chat`, async () => {
    assert.equal((await create({ from, to: [`+1415555600${index}`], message: { parts: [text(value)] } })).status, 201)
  })
}

test('a first message may have an effect but nothing to answer to', async () => {
  const effect = { type: 'screen', name: 'confetti' } as const
  const made = await client.chats.create({ from, to: ['+14155557000'], message: { ...hello, effect } })
  assert.deepEqual(made.chat.message.effect, effect)
  const reply = { ...hello, reply_to: { message_id: made.chat.message.id } }
  await assertSdkRefused(client.chats.create({ from, to: ['+14155557001'], message: reply }), {
    status: 404,
    code: 2002,
  })
})

test('the service asked for is shown, and never turns into iMessage', async () => {
  for (const [asked, used] of [
    ['iMessage', 'iMessage'],
    ['RCS', 'RCS'],
    ['SMS', 'RCS'],
  ] as const) {
    const message = { ...hello, preferred_service: asked }
    const { chat } = await client.chats.create({ from, to: [`+1415555800${asked.length}`, '+14155558010'], message })
    assert.deepEqual([chat.message.preferred_service, chat.message.service, chat.service], [asked, used, used])
  }
  const message = { ...hello, preferred_service: 'fax' }
  await assertRefused(create({ from, to, message }), { status: 400, code: 1005, message: /message\.preferred_service/ })
})

test('retrieve answers with the bare chat', async () => {
  const { chat } = await client.chats.create({ from, to: ['+14155559000'], message: hello })
  const answer = await server.call(`/v3/chats/${chat.id.toUpperCase()}`)
  const body = await answer.json()
  assert.equal(answer.status, 200)
  const { id, display_name, service, is_group, handles, health_status } = chat
  const shown = { id, display_name, service, is_group, handles, health_status }
  const times = { created_at: chat.message.created_at, updated_at: chat.message.created_at }
  assert.deepEqual(body, { ...shown, is_archived: false, group_chat_icon: null, ...times })
})

test('an unknown chat is 2001, and an id that is none 1005', async () => {
  await assertSdkRefused(client.chats.retrieve(NOWHERE), { status: 404, code: 2001 })
  await assertSdkRefused(client.chats.messages.list(NOWHERE), { status: 404, code: 2001 })
  await assertSdkRefused(client.chats.messages.send(NOWHERE, { message: hello }), { status: 404, code: 2001 })
  await assertSdkRefused(client.chats.sendVoicememo(NOWHERE, { attachment_id: NOWHERE }), { status: 404, code: 2001 })
  for (const path of ['/v3/chats/x', '/v3/chats/x/messages', `/v3/chats/${NOWHERE}0`])
    await assertRefused(server.call(path), { status: 400, code: 1005, message: /chatId/ })
  const send = postJson(server, '/v3/chats/x/messages', { message: hello })
  await assertRefused(send, { status: 400, code: 1005, message: /chatId/ })
})

test('both lists of lines show every line, in the newer and the older form', async () => {
  const newer = (await (await server.call('/v3/phone_numbers')).json()) as LinqAPIV3.PhoneNumberListResponse
  const standing = {
    status: 'HEALTHY',
    doc_url: 'https://docs.linqapp.com/guides/phone-numbers/phone-reputation#healthy',
  }
  const ids = newer.phone_numbers.map((line) => line.id)
  for (const id of ids) assert.match(id, UUID)
  const lines = LINES.map((phone_number, index) => ({ id: ids[index], phone_number }))
  assert.deepEqual(newer, {
    phone_numbers: lines.map((l) => ({ ...l, health_status: standing, reputation: standing, forwarding_number: null })),
  })
  const capabilities = { sms: true, mms: true, voice: true }
  assert.deepEqual(await (await server.call('/v3/phonenumbers')).json(), {
    phone_numbers: lines.map((line) => ({ ...line, type: null, country_code: null, capabilities })),
  })
  assert.equal((await client.phoneNumbers.list()).phone_numbers.length, 2)
  assert.equal((await client.phonenumbers.list()).phone_numbers.length, 2)
})
