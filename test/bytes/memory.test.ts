/** What a file of the largest size costs in memory: little, since bodies pass through and are never whole. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { request } from 'undici'
import { type Server, startServer } from '../support/satchel.ts'
import { type Created, createText, memoryOf, put, sha256, textOf, uploadText } from '../support/wire.ts'

const SIZE = 100 * 1024 * 1024
const PART = textOf(1024 * 1024)
const ALLOWED_MB = 60

let server: Server
before(async () => {
  server = await startServer()
  for (let round = 0; round < 5; round++) await uploadText(server.client(), textOf(100_000, `${round}`))
})
after(() => server[Symbol.asyncDispose]())

/** 100 MB without holding them here. */
function* largest() {
  for (let sent = 0; sent < SIZE; sent += PART.length) yield PART
}

async function uploadLargest(): Promise<Created> {
  const created = await createText(server.client(), SIZE)
  const { required_headers: headers, upload_url } = created
  const { statusCode, body } = await request(upload_url, { method: 'PUT', headers, body: Readable.from(largest()) })
  assert.equal(statusCode, 200, await body.text())
  return created
}

async function readAway(url: string): Promise<number> {
  let received = 0
  const { body } = await request(url)
  for await (const chunk of body) received += chunk.length
  return received
}

const pid = () => server.process.pid ?? 0

test('an upload and a download of 100 MB each raise the most memory ever used by less than 60 MB', async (t) => {
  const idle = await memoryOf(pid())
  const created = await uploadLargest()
  const uploaded = await memoryOf(pid())
  assert.equal(await readAway(created.download_url), SIZE)
  const downloaded = await memoryOf(pid())
  t.diagnostic(
    `MB resident: idle ${idle.rss}, most after the upload ${uploaded.peak}, after the download ${downloaded.peak}`,
  )
  assert.ok(uploaded.peak - idle.rss < ALLOWED_MB, `the upload took ${uploaded.peak - idle.rss} MB`)
  assert.ok(downloaded.peak - idle.rss < ALLOWED_MB, `the download took ${downloaded.peak - idle.rss} MB`)
})

test('eight uploads of 100 MB at once all succeed', async (t) => {
  const before = await memoryOf(pid())
  const began = Date.now()
  const all = await Promise.all(Array.from({ length: 8 }, uploadLargest))
  const after = await memoryOf(pid())
  t.diagnostic(`MB resident: before ${before.rss}, most ${after.peak}; ${Date.now() - began} ms for 8 × 100 MB`)
  const [one] = all
  assert.ok(one)
  const part = await fetch(one.download_url, { headers: { range: `bytes=${SIZE - PART.length}-` } })
  assert.equal(sha256(Buffer.from(await part.arrayBuffer())), sha256(PART))
})

test('a reader that takes nothing of a download does not make the server read ahead', async (t) => {
  const created = await uploadLargest()
  const before = await memoryOf(pid())
  const stalled = await Promise.all(Array.from({ length: 20 }, () => request(created.download_url)))
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  const during = await memoryOf(pid())
  t.diagnostic(`MB resident: before ${before.rss}, with 20 stalled downloads ${during.rss}`)
  for (const { body } of stalled) body.on('error', () => {}).destroy()
  assert.ok(during.rss - before.rss < ALLOWED_MB)
  assert.equal((await put(await createText(server.client(), 5), 'hello')).status, 200)
})
