/** SIGKILL in the middle of everything: what was acknowledged is there, and nothing else is half there. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Server, startServer } from '../support/satchel.ts'
import {
  type Created,
  createText,
  dial,
  download,
  filesIn,
  fixedPorts,
  put,
  sha256,
  textOf,
  until,
} from '../support/wire.ts'

const ROUNDS = 10
const UPLOADERS = 6
const TEXT = textOf(800_000)
const SENDERS = 3

type Upload = { created: Created; bytes: Buffer; isAcknowledged: boolean }
type Send = { chatId: string; key: string; value: string; answer?: string; isAcknowledged?: boolean }

/** An answer that was lost in the crash is what this is about; any other refusal is not. */
async function unlessCrashed(isDown: () => boolean, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!isDown()) throw error
  }
}

test('ten kills during uploads and sends lose nothing that was acknowledged', { timeout: 600_000 }, async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-crash-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const uploads: Upload[] = []
  const sends: Send[] = []
  let server = await startServer({ dataDir })
  t.after(() => server.stop())
  const chatId = await openChat(server)

  for (let round = 0; round < ROUNDS; round++) {
    const before = { uploads: uploads.length, sends: sends.length }
    await crashUnderLoad(server, { round, chatId, uploads, sends })
    server = await startServer({ dataDir })
    assert.deepEqual(await filesIn(dataDir, 'files/tmp'), [], 'files/tmp is empty after the restart')
    assert.deepEqual(await filesIn(dataDir, 'spool'), [], 'the spool is empty after the restart')
    await checkUploads(server, uploads.slice(before.uploads))
    await checkSends(server, sends.slice(before.sends))
  }
  await checkUploads(server, uploads)
  await checkSends(server, sends)
  await checkDelivered(server, chatId, sends)
  const acknowledged = {
    uploads: uploads.filter((u) => u.isAcknowledged).length,
    sends: sends.filter((s) => s.isAcknowledged).length,
  }
  t.diagnostic(
    `acknowledged before a kill: ${acknowledged.uploads} of ${uploads.length} uploads, ${acknowledged.sends} of ${sends.length} sends`,
  )
  assert.ok(acknowledged.uploads >= ROUNDS && acknowledged.uploads < uploads.length, 'the kills came in the middle')
  assert.ok(acknowledged.sends >= ROUNDS)
})

test('an upload that was cut off by a kill may be repeated after the restart', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-crash-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const env = await fixedPorts()
  const first = await startServer({ dataDir, env })
  const bytes = textOf(1_000_000)
  const created = await createText(first.client(), bytes.length)
  using wire = await dial(first.cdn)
  const { host, pathname, search } = new URL(created.upload_url)
  await wire.head(`PUT ${pathname}${search}`, { Host: host, ...created.required_headers })
  await wire.write(bytes.subarray(0, 600_000))
  await until('the upload is under way', async () => (await filesIn(dataDir, 'files/tmp')).length === 1)
  await first.kill()
  await using second = await startServer({ dataDir, env })
  assert.deepEqual(await filesIn(dataDir, 'files'), [])
  assert.equal((await second.client().attachments.retrieve(created.attachment_id)).status, 'pending')
  assert.equal((await put(created, new Uint8Array(bytes))).status, 200)
  assert.deepEqual(await download(created.download_url), bytes)
})

async function openChat(server: Server): Promise<string> {
  const [from = ''] = server.phoneNumbers
  const message = { parts: [{ type: 'text' as const, value: 'begin' }] }
  const { chat } = await server.client().chats.create({ from, to: ['+12025550142'], message })
  return chat.id
}

type Load = { round: number; chatId: string; uploads: Upload[]; sends: Send[] }

/** Uploads and sends side by side until the kill, which comes at another moment in every round. */
async function crashUnderLoad(server: Server, { round, chatId, uploads, sends }: Load): Promise<void> {
  const client = server.client()
  let isDown = false
  const uploader = async (worker: number) => {
    for (let n = 0; !isDown; n++) {
      const mark = Buffer.from(`${round} ${worker} ${n}\n`)
      const bytes = Buffer.concat([
        mark,
        TEXT.subarray(mark.length, worker % 2 === 0 ? 20_000 + worker * 20_000 : worker * 150_000),
      ])
      await unlessCrashed(
        () => isDown,
        async () => {
          const upload = { created: await createText(client, bytes.length), bytes, isAcknowledged: false }
          uploads.push(upload)
          const response = await put(upload.created, new Uint8Array(bytes))
          assert.equal(response.status, 200)
          upload.isAcknowledged = true
        },
      )
    }
  }
  const sender = async (worker: number) => {
    for (let n = 0; !isDown; n++) {
      const send: Send = {
        chatId,
        key: `${round}-${worker}-${n}`,
        value: `round ${round} sender ${worker} message ${n}`,
      }
      sends.push(send)
      await unlessCrashed(
        () => isDown,
        async () => {
          send.answer = await sendOnce(server, send)
          send.isAcknowledged = true
        },
      )
      await sleep(20)
    }
  }
  const load = [
    ...Array.from({ length: UPLOADERS }, (_, i) => uploader(i)),
    ...Array.from({ length: SENDERS }, (_, i) => sender(i)),
  ]
  const done = uploads.filter(({ isAcknowledged }) => isAcknowledged).length
  await until('some uploads are done', () => uploads.filter((u) => u.isAcknowledged).length > done + round)
  await sleep(round * 3)
  isDown = true
  await server.kill()
  await Promise.all(load)
}

async function sendOnce(server: Server, { chatId, key, value }: Send): Promise<string> {
  const response = await server.call(`/v3/chats/${chatId}/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ message: { parts: [{ type: 'text', value }], idempotency_key: key } }),
  })
  assert.equal(response.status, 202)
  const { message } = (await response.json()) as { message: { id: string } }
  return message.id
}

const moved = (url: string, server: Server) => server.cdn + new URL(url).pathname + new URL(url).search

async function checkUploads(server: Server, uploads: Upload[]): Promise<void> {
  const client = server.client()
  for (const { created, bytes, isAcknowledged } of uploads) {
    const { status } = await client.attachments.retrieve(created.attachment_id)
    const response = await fetch(moved(created.download_url, server))
    const body = Buffer.from(await response.arrayBuffer())
    // One whose answer was lost may be complete, but then whole, and otherwise pending, and then not there at all.
    if (isAcknowledged || status === 'complete') {
      assert.deepEqual({ status, served: response.status }, { status: 'complete', served: 200 })
      assert.equal(sha256(body), sha256(bytes))
    } else assert.deepEqual({ status, served: response.status }, { status: 'pending', served: 404 })
  }
}

/** Every key gives its message again; one whose answer was lost gives the message that was stored, or stores it now. */
async function checkSends(server: Server, sends: Send[]): Promise<void> {
  for (const send of sends) {
    const known = send.answer
    const answer = await sendOnce(server, send)
    if (known !== undefined) assert.equal(answer, known, 'the first answer is given again')
    send.answer = answer
  }
}

async function checkDelivered(server: Server, chatId: string, sends: Send[]): Promise<void> {
  let open: string[] = []
  await until(
    'every acknowledged message is delivered',
    async () => {
      const messages = await allMessages(server, chatId)
      open = messages.filter(({ delivery_status }) => delivery_status !== 'delivered').map(({ id }) => id)
      return open.length === 0
    },
    30_000,
  ).catch((error) => assert.fail(`${error}: ${open}`))
  const values = (await allMessages(server, chatId)).map(({ value }) => value).filter((value) => value !== 'begin')
  assert.deepEqual(values.sort(), sends.map(({ value }) => value).sort(), 'each message once')
}

async function allMessages(server: Server, chatId: string) {
  const all: { id: string; value: string; delivery_status: string }[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const response = await server.call(`/v3/chats/${chatId}/messages?limit=100${cursor && `&cursor=${cursor}`}`)
    assert.equal(response.status, 200)
    const page = (await response.json()) as {
      messages: { id: string; delivery_status: string; parts: { value: string }[] }[]
      next_cursor: string | null
    }
    for (const { id, delivery_status, parts } of page.messages)
      all.push({ id, delivery_status, value: parts[0]?.value ?? '' })
    cursor = page.next_cursor
  }
  return all
}
