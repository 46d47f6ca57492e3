/** The commands of the vendor's attachments guide, word for word but for the base URL, run by a shell. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { jpeg } from '../fixtures/media/files.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { download, until } from '../support/wire.ts'

const SIZE = 245_760

let server: Server
let folder: string
before(async () => {
  server = await startServer()
  folder = await mkdtemp(join(tmpdir(), 'satchel-guide-'))
})
after(async () => {
  await server[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

/** Runs a command in the folder with the guide's variables, and reads what it prints as JSON. */
async function shell(command: string, variables: Record<string, string> = {}): Promise<Record<string, unknown>> {
  const env = { PATH: process.env.PATH, HOME: folder, LINQ_API_KEY: server.apiKey, ...variables }
  const { stdout } = await promisify(execFile)('sh', ['-c', command], { cwd: folder, env })
  return stdout === '' ? {} : JSON.parse(stdout)
}

const ours = (command: string) => command.replace('https://api.linqapp.com/api/partner', `${server.api}/api/partner`)

const CREATE = `curl -X POST https://api.linqapp.com/api/partner/v3/attachments \\
  -H "Authorization: Bearer $LINQ_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "filename": "photo.jpg",
    "content_type": "image/jpeg",
    "size_bytes": 245760
  }'`

const UPLOAD = `curl -X PUT "\${upload_url}" \\
  -H "Content-Type: image/jpeg" \\
  --data-binary @photo.jpg`

const SEND = `curl -X POST https://api.linqapp.com/api/partner/v3/chats/{chat_id}/messages \\
  -H "Authorization: Bearer $LINQ_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "message": {
      "parts": [
        {
          "type": "media",
          "attachment_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
        }
      ]
    }
  }'`

test('request a URL, upload photo.jpg, send it: the three steps work with curl alone', async () => {
  const photo = Buffer.concat([jpeg(), Buffer.alloc(SIZE - jpeg().length)])
  await writeFile(join(folder, 'photo.jpg'), photo)
  const client = server.client()
  const [from = ''] = server.phoneNumbers
  const message = { parts: [{ type: 'text' as const, value: 'Hello' }] }
  const { chat } = await client.chats.create({ from, to: ['+12025550142'], message })

  const created = await shell(ours(CREATE))
  assert.equal(created.http_method, 'PUT')
  assert.deepEqual(created.required_headers, { 'Content-Type': 'image/jpeg', 'Content-Length': '245760' })
  const upload_url = String(created.upload_url)
  assert.deepEqual(await shell(UPLOAD, { upload_url }), {})
  const id = String(created.attachment_id)
  assert.equal((await client.attachments.retrieve(id)).status, 'complete')
  assert.deepEqual(await download(String(created.download_url)), photo)

  // The tip: attachment IDs never expire, and may be used again without another upload.
  for (let use = 0; use < 2; use++) {
    const command = SEND.replace('{chat_id}', chat.id).replace('a1b2c3d4-e5f6-7890-abcd-ef1234567890', id)
    const sent = (await shell(ours(command))) as { chat_id: string; message: { id: string; parts: { url: string }[] } }
    assert.equal(sent.chat_id, chat.id)
    assert.equal(sent.message.parts[0]?.url, created.download_url)
    await until('the message is delivered', async () => {
      return (await client.messages.retrieve(sent.message.id)).delivery_status === 'delivered'
    })
  }
})

test('a file above 1 MB goes with the Expect header that curl adds by itself', async () => {
  const size = 3 * 1024 * 1024
  const photo = Buffer.concat([jpeg(), Buffer.alloc(size - jpeg().length)])
  await writeFile(join(folder, 'photo.jpg'), photo)
  const created = await shell(ours(CREATE).replace('245760', `${size}`))
  await shell(UPLOAD, { upload_url: String(created.upload_url) })
  assert.deepEqual(await download(String(created.download_url)), photo)
})

test('without the Content-Type header curl sends its own, and is told so in XML', async () => {
  await writeFile(join(folder, 'photo.jpg'), jpeg())
  const created = await shell(ours(CREATE).replace('245760', `${jpeg().length}`))
  const command = `curl -s -w '%{http_code}' -X PUT "\${upload_url}" --data-binary @photo.jpg`
  const env = { PATH: process.env.PATH, upload_url: String(created.upload_url) }
  const { stdout } = await promisify(execFile)('sh', ['-c', command], { cwd: folder, env })
  assert.match(stdout, /<Code>SignatureDoesNotMatch<\/Code><Message>[^<]*Content-Type[^<]*<\/Message>.*403$/s)
})
