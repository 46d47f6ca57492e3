/** Contract 3.3: what a message may hold. Every rule from both sides, with its code and the field it names. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { png } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { keptBy, openChat, postJson, text, upload } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const chat = await openChat(server, '+14155550100')
const otherChat = await openChat(server, '+14155550101')
const file = (await upload(client, png(), 'red.png', 'image/png')).attachment_id
const media = { type: 'media', attachment_id: file }
const link = { type: 'link', value: 'https://example.com/a?b=c#d' }
const first = (await client.chats.messages.list(chat)).messages[0]?.id
const elsewhere = (await client.chats.messages.list(otherChat)).messages[0]?.id
const send = (message: unknown) => postJson(server, `/v3/chats/${chat}/messages`, { message })
const alternate = (count: number) =>
  Array.from({ length: count }, (_, index) => (index % 2 ? media : text(`No. ${index}`)))
const decorated = (value: string, ...text_decorations: unknown[]) => ({ parts: [{ ...text(value), text_decorations }] })
const bold = (start: number, end: number) => ({ range: [start, end], style: 'bold' })
const shake = (start: number, end: number) => ({ range: [start, end], animation: 'shake' })

const refusals: [what: string, message: unknown, code: number, names: RegExp, status?: number][] = [
  ['without parts', {}, 1001, /message\.parts/],
  ['with no part', { parts: [] }, 1004, /message\.parts/],
  ['with 101 parts', { parts: alternate(101) }, 1004, /message\.parts.*100/],
  ['with parts that are no list', { parts: text('x') }, 1004, /message\.parts/],
  ['with null for parts', { parts: null }, 1004, /message\.parts/],
  ['with a string for a part', { parts: ['Hello'] }, 1004, /message\.parts\[0\]/],
  ['with null for a part', { parts: [text('x'), null] }, 1004, /message\.parts\[1\]/],
  ['with a part without type', { parts: [{ value: 'x' }] }, 1004, /message\.parts\[0\]\.type/],
  ['with a part of unknown type', { parts: [{ type: 'sticker', value: 'x' }] }, 1004, /message\.parts\[0\].*type/],
  ['with a number for type', { parts: [{ type: 1 }] }, 1004, /message\.parts\[0\].*type/],
  ['with TEXT for type', { parts: [{ type: 'TEXT', value: 'x' }] }, 1004, /message\.parts\[0\].*type/],
  ['with a text without value', { parts: [{ type: 'text' }] }, 1004, /message\.parts\[0\]\.value/],
  ['with an empty text', { parts: [text('')] }, 1004, /message\.parts\[0\]\.value/],
  ['with 10,001 characters', { parts: [text('é'.repeat(10_001))] }, 1004, /message\.parts\[0\]\.value.*10000/],
  ['with a number for a text', { parts: [{ type: 'text', value: 1 }] }, 1004, /message\.parts\[0\]\.value/],
  ['with two texts side by side', { parts: [text('a'), text('b')] }, 1004, /message\.parts\[1\]/],
  ['with texts side by side late', { parts: [text('a'), media, text('b'), text('c')] }, 1004, /message\.parts\[3\]/],
  ['with a link beside a text', { parts: [text('Look'), link] }, 1004, /message\.parts\[1\].*only/],
  ['with a link beside media', { parts: [link, media] }, 1004, /message\.parts\[0\].*only/],
  ['with two links', { parts: [link, link] }, 1004, /message\.parts\[0\].*only/],
  ['with an empty link', { parts: [{ ...link, value: '' }] }, 1004, /message\.parts\[0\]\.value/],
  ['with a link that is no URL', { parts: [{ ...link, value: 'example.com' }] }, 1004, /message\.parts\[0\]\.value/],
  ['with a link to a file', { parts: [{ ...link, value: 'file:///etc/passwd' }] }, 1004, /message\.parts\[0\]\.value/],
  ['with a link that runs', { parts: [{ ...link, value: 'javascript:alert(1)' }] }, 1004, /message\.parts\[0\]\.value/],
  [
    'with a link of 2,049 characters',
    { parts: [{ ...link, value: `https://a.b/${'c'.repeat(2037)}` }] },
    1004,
    /\.value.*2048/,
  ],
  ['with an app part', { parts: [{ type: 'imessage_app' }] }, 2011, /message\.parts/, 403],
  ['with media of nothing', { parts: [{ type: 'media' }] }, 1004, /message\.parts\[0\].*exactly one/],
  [
    'with media twice named',
    { parts: [{ ...media, url: 'https://example.com/a.png' }] },
    1004,
    /message\.parts\[0\].*exactly one/,
  ],
  ['with a number for url', { parts: [{ type: 'media', url: 5 }] }, 1004, /message\.parts\[0\]\.url/],
  [
    'with a number for attachment_id',
    { parts: [{ type: 'media', attachment_id: 5 }] },
    1004,
    /message\.parts\[0\]\.attachment_id/,
  ],
  [
    'with an attachment_id that is none',
    { parts: [{ type: 'media', attachment_id: 'x' }] },
    1005,
    /message\.parts\[0\]\.attachment_id/,
  ],
  ['with an unknown attachment_id', { parts: [media, { type: 'media', attachment_id: NOWHERE }] }, 2003, /./, 404],
  [
    'with decorations that are no list',
    { parts: [{ ...text('Hello'), text_decorations: 'bold' }] },
    1004,
    /text_decorations/,
  ],
  ['decorated past its end', decorated('Hello', bold(0, 6)), 1004, /message\.parts\[0\]\.text_decorations\[0\]\.range/],
  ['decorated before its start', decorated('Hello', bold(-1, 3)), 1004, /text_decorations\[0\]\.range/],
  ['decorated over nothing', decorated('Hello', bold(2, 2)), 1004, /text_decorations\[0\]\.range/],
  ['decorated backwards', decorated('Hello', bold(3, 2)), 1004, /text_decorations\[0\]\.range/],
  ['decorated between characters', decorated('Hello', bold(0, 1.5)), 1004, /text_decorations\[0\]\.range/],
  [
    'decorated with one number',
    decorated('Hello', { range: [1], style: 'bold' }),
    1004,
    /text_decorations\[0\]\.range/,
  ],
  [
    'decorated with three numbers',
    decorated('Hello', { range: [0, 1, 2], style: 'bold' }),
    1004,
    /text_decorations\[0\]\.range/,
  ],
  ['decorated nowhere', decorated('Hello', { style: 'bold' }), 1004, /text_decorations\[0\]\.range/],
  ['decorated with nothing', decorated('Hello', { range: [0, 1] }), 1004, /text_decorations\[0\].*exactly one/],
  [
    'decorated with style and animation',
    decorated('Hello', { ...bold(0, 1), animation: 'big' }),
    1004,
    /text_decorations\[0\].*exactly one/,
  ],
  [
    'in an unknown style',
    decorated('Hello', bold(0, 1), { range: [1, 2], style: 'comic' }),
    1004,
    /text_decorations\[1\]\.style/,
  ],
  [
    'in an unknown motion',
    decorated('Hello', { range: [0, 1], animation: 'fall' }),
    1004,
    /text_decorations\[0\]\.animation/,
  ],
  [
    'with an animation over an animation',
    decorated('Hello', shake(0, 3), shake(2, 4)),
    1004,
    /text_decorations.*overlap/,
  ],
  ['with an animation in a style', decorated('Hello', bold(0, 5), shake(2, 3)), 1004, /text_decorations.*overlap/],
  ['with a style in an animation', decorated('Hello', shake(0, 5), bold(4, 5)), 1004, /text_decorations.*overlap/],
  [
    'with an animation under two styles',
    decorated('Hello', bold(0, 5), bold(0, 1), shake(1, 2)),
    1004,
    /text_decorations.*overlap/,
  ],
  [
    'with an unknown effect',
    { parts: [text('x')], effect: { type: 'screen', name: 'earthquake' } },
    1005,
    /message\.effect/,
  ],
  [
    'with a bubble on the screen',
    { parts: [text('x')], effect: { type: 'screen', name: 'slam' } },
    1005,
    /message\.effect/,
  ],
  [
    'with an effect of no kind',
    { parts: [text('x')], effect: { type: 'toString', name: 'x' } },
    1005,
    /message\.effect/,
  ],
  ['with a string for effect', { parts: [text('x')], effect: 'confetti' }, 1005, /message\.effect/],
  ['in answer to nothing', { parts: [text('x')], reply_to: {} }, 1001, /message\.reply_to\.message_id/],
  ['in answer to no id', { parts: [text('x')], reply_to: { message_id: 'x' } }, 1005, /message\.reply_to\.message_id/],
  [
    'in answer to a part before the first',
    { parts: [text('x')], reply_to: { message_id: first, part_index: -1 } },
    1005,
    /part_index/,
  ],
  [
    'in answer to half a part',
    { parts: [text('x')], reply_to: { message_id: first, part_index: 0.5 } },
    1005,
    /part_index/,
  ],
  ['in answer to an unknown message', { parts: [text('x')], reply_to: { message_id: NOWHERE } }, 2002, /reply_to/, 404],
  ['in answer to another chat', { parts: [text('x')], reply_to: { message_id: elsewhere } }, 2002, /reply_to/, 404],
  [
    'over an unknown service',
    { parts: [text('x')], preferred_service: 'imessage' },
    1005,
    /message\.preferred_service/,
  ],
  ['with a number for idempotency_key', { parts: [text('x')], idempotency_key: 1 }, 1005, /message\.idempotency_key/],
  ['with an empty idempotency_key', { parts: [text('x')], idempotency_key: '' }, 1005, /message\.idempotency_key/],
  [
    'with 256 characters of idempotency_key',
    { parts: [text('x')], idempotency_key: 'k'.repeat(256) },
    1005,
    /message\.idempotency_key/,
  ],
  ['with NUL in a text', { parts: [text('a\0b')] }, 1004, /message\.parts\[0\]\.value/],
  ['with half a surrogate pair in a text', { parts: [media, text('a\udc00b')] }, 1004, /message\.parts\[1\]\.value/],
  [
    'with NUL in an effect',
    { parts: [text('x')], effect: { type: 'screen', name: '\0' } },
    1005,
    /message\.effect\.name/,
  ],
]
for (const [what, message, code, names, status = 400] of refusals) {
  test(`a message ${what} is refused with ${code}`, async () => {
    const before = await keptBy(server)
    await assertRefused(send(message), { status, code, message: names })
    assert.deepEqual(await keptBy(server), before)
  })
}

const EFFECTS = {
  screen: 'confetti fireworks lasers sparkles celebration hearts love balloons happy_birthday echo spotlight',
  bubble: 'slam loud gentle invisible',
}
const STYLES = ['bold', 'italic', 'strikethrough', 'underline']
const ANIMATIONS = ['big', 'small', 'shake', 'nod', 'explode', 'ripple', 'bloom', 'jitter']

const accepted: [what: string, message: { parts: unknown[] }][] = [
  ['of one character', { parts: [text('x')] }],
  ['of 10,000 emoji', { parts: [text('🌍'.repeat(10_000))] }],
  ['of blanks and line breaks', { parts: [text(' \n\t\r\u200d')] }],
  ['of 100 parts', { parts: alternate(100) }],
  ['of one file 100 times', { parts: Array(100).fill(media) }],
  ['of text around a file', { parts: [text('before'), media, text('after')] }],
  ['of a link alone', { parts: [link] }],
  ['of a link of 2,048 characters', { parts: [{ ...link, value: `https://a.b/${'c'.repeat(2036)}` }] }],
  ['of a plain http link', { parts: [{ ...link, value: 'http://example.com' }] }],
  ['with a URL in its text', { parts: [text('See https://example.com and www.example.org')] }],
  ['in every style at once', decorated('Hello', ...STYLES.map((style) => ({ range: [0, 5], style })))],
  [
    'with every animation side by side',
    decorated('12345678', ...ANIMATIONS.map((animation, i) => ({ range: [i, i + 1], animation }))),
  ],
  ['with animation next to style', decorated('Hello', shake(2, 5), bold(0, 2))],
  ['decorated by UTF-16 units', decorated('🌍🌍', bold(0, 4))],
  ['with names that look like code', { parts: [text("'); drop table messages; -- <script>$(1)</script> %s {{x}}")] }],
]
for (const [what, message] of accepted) {
  test(`a message ${what} is taken and comes back as it was sent`, async () => {
    const answer = await send(message)
    const body = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
    assert.equal(answer.status, 202, JSON.stringify(body))
    const { parts } = await client.messages.retrieve(body.message.id)
    assert.deepEqual(body.message.parts, parts)
    assert.equal(parts?.length, message.parts.length)
    for (const [index, given] of message.parts.entries()) {
      const part = parts?.[index] as unknown as Record<string, unknown>
      const { attachment_id: id, ...fields } = given as Record<string, unknown>
      for (const [name, value] of Object.entries(id === undefined ? fields : { ...fields, id }))
        assert.deepEqual(part[name], value, name)
    }
  })
}

test('every effect is taken and shown', async () => {
  for (const [type, names] of Object.entries(EFFECTS)) {
    for (const name of names.split(' ')) {
      const answer = await send({ parts: [text('x')], effect: { type, name, other: 1 } })
      const { message } = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
      assert.deepEqual([answer.status, message.effect], [202, { type, name }])
    }
  }
})

test('an answer names the message and the part, which is the first unless said otherwise', async () => {
  assert.ok(first)
  for (const [reply_to, shown] of [
    [{ message_id: first }, { message_id: first, part_index: 0 }],
    [
      { message_id: first.toUpperCase(), part_index: 3 },
      { message_id: first, part_index: 3 },
    ],
  ]) {
    const answer = await send({ parts: [text('Indeed')], reply_to })
    const { message } = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
    assert.deepEqual([answer.status, message.reply_to], [202, shown])
  }
})

test('what a caller says about a file is ignored: the file itself is asked', async () => {
  const claim = { filename: 'x.exe', mime_type: 'application/x-msdownload', size_bytes: -1, id: NOWHERE }
  const answer = await send({ parts: [{ ...media, ...claim }] })
  const { message } = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
  const { download_url: url } = await client.attachments.retrieve(file)
  const kept = { type: 'media', id: file, url, filename: 'red.png', mime_type: 'image/png', size_bytes: png().length }
  assert.equal(JSON.stringify(message.parts), JSON.stringify([{ ...kept, reactions: [] }]))
})
