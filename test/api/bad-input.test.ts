/** What no client would send and anybody can: a clear refusal, nothing stored, nothing leaked, the process alive. */
import assert from 'node:assert/strict'
import { after, afterEach, test } from 'node:test'
import { assertNothingLeaked, assertRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { eventually, keptBy, lineOf, openChat, postJson, text } from '../support/scene.ts'
import { memoryOf } from '../support/wire.ts'

const server = await startServer()
const chat = await openChat(server, '+14155550100')
await eventually(
  () => server.client().chats.messages.list(chat),
  ({ messages }) => messages[0]?.delivery_status === 'delivered',
)
const kept = await keptBy(server)
after(() => server[Symbol.asyncDispose]())
afterEach(async () => {
  assert.equal((await fetch(`${server.api}/healthz`)).status, 200)
  assert.deepEqual(await keptBy(server), kept)
  assert.equal(/"level":"(error|fatal)"/.exec(server.log()), null)
})

const BODIES = ['/v3/attachments', '/v3/chats', `/v3/chats/${chat}/messages`, `/v3/chats/${chat}/voicememo`]
const deep = (count: number, open: string, close: string) => open.repeat(count) + close.repeat(count)
const MB = 1024 * 1024

const bodies: [what: string, body: string | Uint8Array<ArrayBuffer>, names?: RegExp][] = [
  ['an empty body', ''],
  ['a blank body', ' \n'],
  ['truncated JSON', '{"message":{"parts":[{"type":"text","va'],
  ['JSON with a trailing comma', '{"filename":"a",}'],
  ['JSON with a comment', '{/* x */}'],
  ['two JSON objects', '{}{}'],
  ['single quotes', "{'filename':'a'}"],
  ['a JSON list', '[{"filename":"a"}]'],
  ['a JSON string', '"{}"'],
  ['a JSON number', '1'],
  ['null', 'null'],
  ['true', 'true'],
  ['NaN', '{"size_bytes":NaN}'],
  ['a form', 'filename=a&content_type=image/jpeg&size_bytes=1'],
  ['XML', '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>'],
  ['a bare line break in a string', '{"filename":"a\nb"}'],
  ['a bare NUL in a string', '{"filename":"a\0b"}'],
  [
    'bytes that are not UTF-8',
    new Uint8Array([...Buffer.from('{"filename":"'), 0xc3, 0x28, ...Buffer.from('"}')]),
    /UTF-8/,
  ],
  [
    'an overlong UTF-8 slash',
    new Uint8Array([...Buffer.from('{"filename":"'), 0xc0, 0xaf, ...Buffer.from('"}')]),
    /UTF-8/,
  ],
  [
    'a surrogate in UTF-8',
    new Uint8Array([...Buffer.from('{"filename":"'), 0xed, 0xa0, 0x80, ...Buffer.from('"}')]),
    /UTF-8/,
  ],
  ['UTF-16', new Uint8Array(Buffer.from('\ufeff{"filename":"a"}', 'utf16le'))],
  ['100,000 lists in each other', `{"message":${deep(100_000, '[', ']')}}`, /deep/],
  ['100,000 objects in each other', `${'{"message":'.repeat(100_000)}1${'}'.repeat(100_000)}`, /deep/],
  ['a million lists that never end', `{"message":${'['.repeat(1_000_000)}`],
  ['33 objects in each other', `${'{"x":'.repeat(33)}1${'}'.repeat(33)}`, /deep/],
  ['a body over 8 MB', `{"x":"${'x'.repeat(8 * MB)}"}`, /too large/],
]
for (const [what, body, names] of bodies) {
  test(`${what} is a bad body for every call that takes one`, async () => {
    for (const path of BODIES)
      await assertRefused(server.call(path, { method: 'POST', body }), {
        status: 400,
        code: 1003,
        message: names ?? /body/,
      })
  })
}

test('a body far over the limit is answered, also to a client that is still sending', async () => {
  for (let round = 0; round < 10; round++) {
    const body = Buffer.alloc(20 * MB, 'x')
    await assertRefused(server.call('/v3/attachments', { method: 'POST', body }), { status: 400, code: 1003 })
    const chunked: RequestInit = { method: 'POST', body: new Blob([body]).stream(), duplex: 'half' }
    await assertRefused(server.call('/v3/attachments', chunked), { status: 400, code: 1003 })
  }
})

test('an unknown path is not found whatever its body', async () => {
  for (const body of ['{', Buffer.alloc(20 * MB)])
    await assertRefused(server.call('/v3/nowhere', { method: 'POST', body }), { status: 404, code: 2001 })
  await assertRefused(server.call('/v3/chats', { method: 'PUT', body: '{' }), { status: 405, code: 1005 })
})

test('8 MB of little things cost little memory', async () => {
  for (const body of [
    `{"x":[${'[],'.repeat(2_600_000)}[]]}`,
    `{"y":"\\u0041","x":[${'"",'.repeat(2_600_000)}""]}`,
    `{${Array.from({ length: 500_000 }, (_, n) => `"key${n}":{}`).join(',')}}`,
  ]) {
    await assertRefused(server.call('/v3/attachments', { method: 'POST', body }), { status: 400, code: 1001 })
  }
  const { peak } = await memoryOf(server.process.pid ?? 0)
  assert.ok(peak < 1000, `${peak} MB`)
})

const VALUES: unknown[] = [null, true, 0, -1, 1.5, 1e300, '', 'x', '\0', '\ud800', [], [null], [[]], {}, { x: 1 }]
/** A request that is right but for one field, for each field that any call knows. */
const FIELDS: [path: string, field: string, right: (value: unknown) => object, codes: number[]][] = [
  [
    '/v3/attachments',
    'filename',
    (filename) => ({ filename, content_type: 'image/webp', size_bytes: 1 }),
    [1005, 5004],
  ],
  ['/v3/attachments', 'content_type', (content_type) => ({ filename: 'a', content_type, size_bytes: 1 }), [1005, 5004]],
  [
    '/v3/attachments',
    'size_bytes',
    (size_bytes) => ({ filename: 'a', content_type: 'image/png', size_bytes }),
    [1005, 5005],
  ],
  ['/v3/chats', 'from', (from) => ({ from, to: ['+14155550100'], message: { parts: [text('x')] } }), [1002, 1005]],
  ['/v3/chats', 'to', (to) => ({ from: lineOf(server), to, message: { parts: [text('x')] } }), [1002, 1005]],
  ['/v3/chats', 'message', (message) => ({ from: lineOf(server), to: ['+14155550100'], message }), [1001, 1005]],
  ...(
    [
      ['parts', (parts) => ({ parts }), [1004]],
      ['parts[0]', (part) => ({ parts: [part] }), [1004]],
      ['parts[0].type', (type) => ({ parts: [{ type, value: 'x' }] }), [1004]],
      ['parts[0].url', (url) => ({ parts: [{ type: 'media', url }] }), [1004, 1005]],
      ['parts[0].attachment_id', (attachment_id) => ({ parts: [{ type: 'media', attachment_id }] }), [1004, 1005]],
      ['effect', (effect) => ({ parts: [text('x')], effect }), [1001, 1005]],
      ['effect.type', (type) => ({ parts: [text('x')], effect: { type, name: 'slam' } }), [1005]],
      ['effect.name', (name) => ({ parts: [text('x')], effect: { type: 'screen', name } }), [1005]],
      ['reply_to', (reply_to) => ({ parts: [text('x')], reply_to }), [1001, 1005]],
      ['reply_to.message_id', (message_id) => ({ parts: [text('x')], reply_to: { message_id } }), [1005]],
      ['preferred_service', (preferred_service) => ({ parts: [text('x')], preferred_service }), [1005]],
    ] as [string, (value: unknown) => object, number[]][]
  ).map(([field, right, codes]): [string, string, (value: unknown) => object, number[]] => [
    `/v3/chats/${chat}/messages`,
    `message.${field}`,
    (value) => ({ message: right(value) }),
    codes,
  ]),
  [`/v3/chats/${chat}/voicememo`, 'voice_memo_url', (voice_memo_url) => ({ voice_memo_url }), [1005]],
  [`/v3/chats/${chat}/voicememo`, 'attachment_id', (attachment_id) => ({ attachment_id }), [1005]],
]
for (const [path, field, right, codes] of FIELDS) {
  test(`${path.replace(chat, '{id}')}: every wrong value of ${field} is refused by the name of the field`, async () => {
    for (const value of VALUES) {
      if (field === 'size_bytes' && value === 1) continue
      const answer = await postJson(server, path, right(value))
      const body = (await answer.json()) as { error: { code: number; message: string } }
      const said = `${JSON.stringify(value)} -> ${JSON.stringify(body)}`
      assert.equal(answer.status, 400, said)
      assert.ok(codes.includes(body.error.code), said)
      assertNothingLeaked(JSON.stringify(body))
      const nearest = field.includes('.') ? field.slice(0, field.lastIndexOf('.')) : field
      if (!(field === 'filename' && body.error.code === 5004)) assert.ok(body.error.message.includes(nearest), said)
    }
  })
}

test('numbers beyond all bounds are refused', async () => {
  for (const digits of [
    '1e400',
    '-1e400',
    '9'.repeat(400),
    '1e-400',
    `0.${'0'.repeat(5000)}1`,
    '9007199254740993',
    '-0',
  ]) {
    const body = `{"filename":"a","content_type":"image/png","size_bytes":${digits}}`
    const answer = await server.call('/v3/attachments', { method: 'POST', body })
    const code = digits.startsWith('9007') || digits.startsWith('999') ? [1005, 5005] : [1005]
    const { error } = (await answer.json()) as { error: { code: number; message: string } }
    assert.deepEqual([answer.status, code.includes(error.code)], [400, true], `${digits.slice(0, 20)} ${error.code}`)
    assert.match(error.message, /size_bytes/)
  }
})

for (const path of ['/v3/attachments/', '/v3/messages/', '/v3/chats/'].flatMap((base) =>
  [
    '%00',
    '%ff',
    '%e0%80%af',
    '%',
    '%u0000',
    "';--",
    '..',
    '%2e%2e',
    '..%2f..%2fetc',
    '\u{1f30d}',
    '*',
    'a'.repeat(8000),
  ].map((id) => base + id),
)) {
  test(`GET ${path.slice(0, 40)} is refused`, async () => {
    const answer = await server.call(path)
    const body = await answer.text()
    assert.ok([400, 404].includes(answer.status), `${answer.status} ${body}`)
    assert.match(body, /^\{"success":false/)
    assertNothingLeaked(body)
  })
}
