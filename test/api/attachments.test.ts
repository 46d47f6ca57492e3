/** Contract 1.3 and 1.4: looking at attachments, and deleting them. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { jpeg, png, svg } from '../fixtures/media/files.ts'
import { assertRefused, assertSdkRefused } from '../support/answers.ts'
import { startServer } from '../support/satchel.ts'
import { eventually, keptBy, openChat, text, upload } from '../support/scene.ts'

const server = await startServer()
after(() => server[Symbol.asyncDispose]())
const client = server.client()
const NOWHERE = '00000000-0000-4000-8000-000000000000'
const good = { filename: 'photo.jpg', content_type: 'image/jpeg', size_bytes: 245_760 } as const

test('retrieve shows a pending attachment without download_url', async () => {
  const { attachment_id } = await client.attachments.create(good)
  const answer = await server.call(`/v3/attachments/${attachment_id}`)
  const body = await answer.text()
  const { created_at } = JSON.parse(body)
  assert.match(created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  assert.ok(Math.abs(Date.now() - Date.parse(created_at)) < 60_000)
  assert.equal(answer.status, 200)
  assert.equal(body, JSON.stringify({ id: attachment_id, ...good, status: 'pending', created_at }))
})

test('retrieve shows a complete attachment with download_url', async () => {
  const made = await upload(client, png(), 'red.png', 'image/png')
  const body = await (await server.call(`/v3/attachments/${made.attachment_id}`)).text()
  const { created_at } = JSON.parse(body)
  const row = { id: made.attachment_id, filename: 'red.png', content_type: 'image/png', size_bytes: png().length }
  assert.equal(body, JSON.stringify({ ...row, status: 'complete', created_at, download_url: made.download_url }))
})

test('retrieve shows a failed attachment without download_url', async () => {
  for (const [content, filename, type] of [
    [Buffer.from(svg), 'vector.png', 'image/png'],
    [jpeg(), 'photo.pdf', 'application/pdf'],
  ] as const) {
    const made = await upload(client, content, filename, type)
    const found = await client.attachments.retrieve(made.attachment_id)
    assert.equal(found.status, 'failed')
    assert.deepEqual(Object.keys(found), ['id', 'filename', 'content_type', 'size_bytes', 'status', 'created_at'])
    assert.equal((await fetch(made.download_url)).status, 404)
  }
})

test('ids are found in upper case too', async () => {
  const made = await upload(client, png(), 'red.png', 'image/png')
  const found = await client.attachments.retrieve(made.attachment_id.toUpperCase())
  assert.equal(found.id, made.attachment_id)
})

for (const id of [
  'nonsense',
  '123',
  `${NOWHERE}0`,
  NOWHERE.slice(1),
  `${NOWHERE}%00`,
  '..%2f..',
  `{${NOWHERE}}`,
  '%20',
]) {
  test(`the id ${id} is refused by retrieve and delete`, async () => {
    const path = `/v3/attachments/${id}`
    await assertRefused(server.call(path), { status: 400, code: 1005, message: /attachmentId/ })
    await assertRefused(server.call(path, { method: 'DELETE' }), { status: 400, code: 1005, message: /attachmentId/ })
  })
}

test('an unknown id is not found by retrieve and delete', async () => {
  await assertSdkRefused(client.attachments.retrieve(NOWHERE), { status: 404, code: 2003 })
  await assertSdkRefused(client.attachments.delete(NOWHERE), { status: 404, code: 2003 })
})

test('a deleted attachment is gone everywhere at once, and its bytes soon after', async () => {
  const before = await keptBy(server)
  const made = await upload(client, jpeg(), 'gone.jpg', 'image/jpeg')
  const id = made.attachment_id
  const chat = await openChat(server, '+14155550111')
  assert.equal(await client.attachments.delete(id), null)
  const gone = { status: 404, code: 2003 }
  await assertSdkRefused(client.attachments.retrieve(id), gone)
  await assertSdkRefused(client.attachments.delete(id), gone)
  const message = { parts: [{ type: 'media' as const, attachment_id: id }] }
  await assertSdkRefused(client.chats.messages.send(chat, { message }), gone)
  await assertSdkRefused(client.chats.sendVoicememo(chat, { attachment_id: id }), gone)
  const byUrl = { parts: [text('Look'), { type: 'media' as const, url: made.download_url }] }
  await assertSdkRefused(client.chats.messages.send(chat, { message: byUrl }), gone)
  assert.equal((await fetch(made.download_url)).status, 404)
  const put = { method: 'PUT', headers: made.required_headers, body: jpeg() }
  assert.equal((await fetch(made.upload_url, put)).status, 404)
  await eventually(
    async () => (await keptBy(server)).files,
    (files) => files.length === before.files.length,
  )
})
