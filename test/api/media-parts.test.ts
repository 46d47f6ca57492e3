/** Contract 3.3, 1.8 and 4.8: files in messages by attachment id and by our own CDN's address, and voice memos. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type LinqAPIV3 from '@linqapp/sdk'
import { aac, aiff, amr, caf, id3, jpeg, mp3, png, svg, wav } from '../fixtures/media/files.ts'
import { assertRefused } from '../support/answers.ts'
import { openMediaOrigin } from '../support/media-origin.ts'
import { startServer } from '../support/satchel.ts'
import { createPartner, keptBy, lineOf, openChat, postJson, text, upload } from '../support/scene.ts'

const origin = await openMediaOrigin()
const server = await startServer({ env: origin.env })
after(async () => {
  await server[Symbol.asyncDispose]()
  await origin[Symbol.asyncDispose]()
})
const client = server.client()
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const chat = await openChat(server, '+14155550100')
const ours = await upload(client, png(), 'räd.png', 'image/png')
const stranger = await createPartner(server, '+12025550188')
const theirs = await upload(stranger.client, png(), 'red.png', 'image/png')
const pending = await client.attachments.create({ filename: 'a.png', content_type: 'image/png', size_bytes: 9 })
const vector = await upload(client, Buffer.from(svg), 'vector.png', 'image/png')
const mislabelled = await upload(client, jpeg(), 'photo.pdf', 'application/pdf')
const send = (...parts: unknown[]) => postJson(server, `/v3/chats/${chat}/messages`, { message: { parts } })
const memo = (body: unknown) => postJson(server, `/v3/chats/${chat}/voicememo`, body)

const ids: [what: string, id: string, status: number, code: number, names: RegExp][] = [
  ['an unknown attachment', NOWHERE, 404, 2003, /attachment_id: Attachment not found$/],
  ["another partner's attachment", theirs.attachment_id, 404, 2003, /attachment_id: Attachment not found$/],
  ['an attachment without bytes', pending.attachment_id, 404, 2007, /attachment_id: .*not been uploaded/],
  ['an attachment of refused content', vector.attachment_id, 400, 5004, /attachment_id: .*SVG/],
  ['an attachment of other content than declared', mislabelled.attachment_id, 400, 5006, /attachment_id: .*JPEG/],
  ['no UUID', 'not-an-id', 400, 1005, /attachment_id/],
]
for (const [what, attachment_id, status, code, names] of ids) {
  test(`${what} cannot be sent, in no kind of message`, async () => {
    const kept = await keptBy(server)
    const parts = [text('Look'), { type: 'media', attachment_id }]
    const expected = { status, code, message: names }
    const { error } = await assertRefused(send(...parts), expected)
    assert.match(error.message, /^message\.parts\[1\]\.attachment_id/)
    await assertRefused(send(...parts.toReversed()), expected)
    const begin = { from: lineOf(server), to: ['+14155550101'], message: { parts } }
    await assertRefused(postJson(server, '/v3/chats', begin), expected)
    await assertRefused(memo({ attachment_id }), expected)
    assert.deepEqual(await keptBy(server), kept)
  })
}

test('an attachment can be sent any number of times, in any chat, by an id in any case', async () => {
  const other = await openChat(server, '+14155550102')
  const parts = [{ type: 'media', attachment_id: ours.attachment_id.toUpperCase() }]
  for (const id of [chat, other, chat]) {
    const answer = await postJson(server, `/v3/chats/${id}/messages`, { message: { parts } })
    const { message } = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
    assert.equal(answer.status, 202)
    assert.deepEqual(message.parts, [mediaPart(ours, 'räd.png', 'image/png', png().length)])
  }
})

test('an address on our own CDN is used without a download and without a copy', async () => {
  const kept = await keptBy(server)
  for (const url of [ours.download_url, `${ours.download_url}?download=1#top`]) {
    const answer = await send({ type: 'media', url })
    const { message } = (await answer.json()) as LinqAPIV3.Chats.MessageSendResponse
    assert.equal(answer.status, 202)
    assert.deepEqual(message.parts, [mediaPart(ours, 'räd.png', 'image/png', png().length)])
  }
  const { attachments, files } = await keptBy(server)
  assert.deepEqual({ attachments, files }, { attachments: kept.attachments, files: kept.files })
})

test('addresses on our own CDN do not count as downloads', async () => {
  assert.equal((await send(...Array(100).fill({ type: 'media', url: ours.download_url }))).status, 202)
})

for (const [what, url] of [
  ["another partner's file", theirs.download_url],
  ["another partner's file under our name", ours.download_url.replace(ours.attachment_id, theirs.attachment_id)],
  ['our file under another name', ours.download_url.replace('.png', '.jpg')],
  ['a file without bytes', pending.download_url],
  ['a refused file', vector.download_url],
  ['nothing', `${server.cdn}/attachments/partners/x/y/z`],
  ['no file at all', `${server.cdn}/`],
  ['an upload', ours.upload_url],
  ['a broken name', ours.download_url.replace('r%C3%A4d', '%zz')],
  ['a longer path', `${ours.download_url}/more`],
] as const) {
  test(`an address on our own CDN of ${what} is 2003`, async () => {
    const named = (field: RegExp) => ({ status: 404, code: 2003, message: field })
    await assertRefused(send({ type: 'media', url }), named(/^message\.parts\[0\]\.url: Attachment not found$/))
    await assertRefused(memo({ voice_memo_url: url }), named(/^voice_memo_url: Attachment not found$/))
  })
}

const sounds: Record<string, readonly [Buffer, string]> = {
  'memo.mp3': [Buffer.concat([id3(), mp3()]), 'audio/mpeg'],
  'memo.aac': [aac(), 'audio/aac'],
  'memo.caf': [caf(), 'audio/x-caf'],
  'memo.wav': [wav(), 'audio/x-wav'],
  'memo.aiff': [aiff(), 'audio/x-aiff'],
  'memo.amr': [amr(), 'audio/amr'],
}
const uploaded = new Map<string, LinqAPIV3.AttachmentCreateResponse>()
before(async () => {
  for (const [name, [content, type]] of Object.entries(sounds)) {
    origin.serve(`/${name}`, { body: content })
    uploaded.set(name, await upload(client, content, name, type))
  }
  origin.serve('/photo.jpg', { body: jpeg() })
  origin.serve('/large.wav', { body: Buffer.concat([wav(), Buffer.alloc(10 * 1024 * 1024)]) })
})

for (const [name, [content, type]] of Object.entries(sounds)) {
  test(`${name} is a voice memo by id, by URL and by its address on our CDN`, async () => {
    const made = uploaded.get(name)
    assert.ok(made)
    for (const body of [
      { attachment_id: made.attachment_id },
      { voice_memo_url: made.download_url },
      { voice_memo_url: origin.url(`/${name}`), from: lineOf(server) },
    ]) {
      const answer = await memo(body)
      const { voice_memo } = (await answer.json()) as LinqAPIV3.ChatSendVoicememoResponse
      assert.equal(answer.status, 202, JSON.stringify(voice_memo))
      const { id, created_at, voice_memo: file } = voice_memo
      const { handles } = await client.chats.retrieve(chat)
      assert.deepEqual(voice_memo, {
        id,
        from: lineOf(server),
        to: ['+14155550100'],
        status: 'queued',
        service: 'iMessage',
        created_at,
        chat: { id: chat, handles, is_group: false, is_active: true, service: 'iMessage' },
        voice_memo: {
          id: file.id,
          filename: name,
          mime_type: type,
          size_bytes: content.length,
          url: file.url,
          duration_ms: null,
        },
      })
      const { parts } = await client.messages.retrieve(id)
      const { duration_ms: _, ...part } = file
      assert.deepEqual(parts, [{ type: 'media', ...part, reactions: [] }])
      assert.deepEqual(Buffer.from(await (await fetch(file.url)).arrayBuffer()), content)
    }
  })
}

const memos: [what: string, body: unknown, code: number, names: RegExp][] = [
  ['without a file', {}, 1001, /voice_memo_url or attachment_id/],
  ['of two files', { attachment_id: ours.attachment_id, voice_memo_url: origin.url('/memo.wav') }, 1005, /both/],
  ['of a picture by id', { attachment_id: ours.attachment_id }, 5004, /audio/],
  ['of a picture on our CDN', { voice_memo_url: ours.download_url }, 5004, /audio/],
  ['of a picture by URL', { voice_memo_url: origin.url('/photo.jpg') }, 5004, /audio/],
  ['over 10 MB by URL', { voice_memo_url: origin.url('/large.wav') }, 5005, /voice_memo_url/],
  ['over plain http', { voice_memo_url: 'http://example.com/memo.mp3' }, 1005, /^voice_memo_url.*https/],
  ['from a private address', { voice_memo_url: 'https://127.0.0.1/memo.mp3' }, 1005, /^voice_memo_url/],
  ['from no URL', { voice_memo_url: 'memo.mp3' }, 1005, /^voice_memo_url/],
  ['with a number for URL', { voice_memo_url: 1 }, 1005, /^voice_memo_url/],
  ['with a number for id', { attachment_id: 1 }, 1005, /^attachment_id/],
  ['with an id that is none', { attachment_id: 'x' }, 1005, /^attachment_id/],
]
for (const [what, body, code, names] of memos) {
  test(`a voice memo ${what} is refused with ${code}, and nothing is kept`, async () => {
    const kept = await keptBy(server)
    await assertRefused(memo(body), { status: 400, code, message: names })
    assert.deepEqual(await keptBy(server), kept)
  })
}

function mediaPart(made: LinqAPIV3.AttachmentCreateResponse, filename: string, mime_type: string, size_bytes: number) {
  const { attachment_id: id, download_url: url } = made
  return { type: 'media', id, url, filename, mime_type, size_bytes, reactions: [] }
}
