/** Files that are deleted, taken away or moved while somebody reads them: the true bytes or none, never others. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { request } from 'undici'
import { beginEarlier, packedIn } from '../support/packs.ts'
import { advance, arm, ok, sandbox } from '../support/sandbox.ts'
import { type Server, startServer } from '../support/satchel.ts'
import {
  type Created,
  createText,
  download,
  filesIn,
  fixedPorts,
  put,
  textOf,
  until,
  uploadText,
} from '../support/wire.ts'

const MB = 1024 * 1024
/** Much more than the sockets between us take. */
const LARGE = 24 * MB
const HOUR = 3_600_000

/** A download whose answer has begun, and of which nothing is taken until it is read. */
async function beginDownload(url: string): Promise<{ rest: () => Promise<Buffer> }> {
  const { statusCode, body } = await request(url)
  assert.equal(statusCode, 200)
  return { rest: async () => Buffer.from(await body.arrayBuffer()) }
}

const objectsOf = (server: Server) => filesIn(server.dataDir, 'files/objects')

describe('a download that has begun', () => {
  test('comes to its end with the true bytes although the attachment is deleted and others are stored', async () => {
    await using server = await startServer()
    const client = server.client()
    const bytes = textOf(LARGE)
    const created = await uploadText(client, bytes)
    const downloads = await Promise.all([1, 2, 3].map(() => beginDownload(created.download_url)))
    await client.attachments.delete(created.attachment_id)
    assert.equal((await fetch(created.download_url)).status, 404)
    await until('the file is gone', async () => (await objectsOf(server)).length === 0)
    // Whoever gets a descriptor that was closed too early reads one of these.
    const others = await Promise.all(Array.from({ length: 6 }, (_, n) => uploadText(client, textOf(2 * MB, `${n}`))))
    for (const other of others) await download(other.download_url)
    for (const { rest } of downloads) assert.ok((await rest()).equals(bytes))
    assert.equal((await fetch(created.download_url)).status, 404)
  })

  test('comes to its end although another process takes the file away, and so does whoever comes meanwhile', async () => {
    await using server = await startServer()
    const bytes = textOf(LARGE)
    const created = await uploadText(server.client(), bytes)
    const first = await beginDownload(created.download_url)
    const [path = ''] = await objectsOf(server)
    await rm(path)
    assert.ok((await download(created.download_url)).equals(bytes))
    assert.ok((await first.rest()).equals(bytes))
  })
})

test('a file that is not where its row says is our failure and no empty answer', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'satchel-taken-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  const env = await fixedPorts()
  const first = await startServer({ dataDir, env })
  const created = await uploadText(first.client(), textOf(MB))
  const [path = ''] = await objectsOf(first)
  await first.stop() // which had it open still
  await rm(path)
  await using _ = await startServer({ dataDir, env })
  const response = await fetch(created.download_url)
  assert.equal(response.status, 500)
  assert.equal(response.headers.get('cache-control'), 'no-store')
  assert.equal(((await response.json()) as { error: { code: number } }).error.code, 3002)
})

describe('small files that are moved together', () => {
  const COUNT = 30
  const KEPT = 10

  test('are served as they are to who looked at the row before the move, and to who comes all the while', async (t) => {
    const dataDir = await mkdtemp(join(tmpdir(), 'satchel-moved-'))
    const env = await fixedPorts()
    const first = await startServer({ dataDir, env })
    t.after(() => rm(dataDir, { recursive: true, force: true }))
    const bodies = Array.from({ length: COUNT }, (_, n) => textOf(20_000 + n, `${n}`))
    const files: { created: Created; bytes: Buffer }[] = []
    for (const bytes of bodies) files.push({ created: await uploadText(first.client(), bytes), bytes })
    await first.stop()
    const old = await beginEarlier(first, 25 * HOUR)
    await using server = await startServer({ dataDir, env })
    const client = server.client()
    const kept = files.slice(0, KEPT)
    for (const { created } of files.slice(KEPT)) await client.attachments.delete(created.attachment_id)
    const living = async () => (await packedIn(dataDir)).filter(({ isLive }) => isLive)
    await until('they are erased', async () => (await living()).length === KEPT)

    let answered = 0
    const early = kept.slice(0, 5).map(async ({ created, bytes }) => {
      await arm(server, { kind: 'cdn_slow', seconds: 8, match: { attachment_id: created.attachment_id } })
      return { created, bytes }
    })
    const waiting = (await Promise.all(early)).map(async ({ created, bytes }, n) => {
      const response = await fetch(created.download_url, { headers: n === 0 ? { range: 'bytes=100-199' } : {} })
      answered++
      assert.equal(response.status, n === 0 ? 206 : 200)
      const body = Buffer.from(await response.arrayBuffer())
      assert.deepEqual(body, n === 0 ? bytes.subarray(100, 200) : bytes)
    })
    await until('each has seen its row', async () => {
      const { faults } = await ok<{ faults: unknown[] }>(sandbox(server, '/faults'))
      return faults.length === 0
    })
    let isMoved = false
    let reads = 0
    const readers = [0, 1, 2].map(async (reader) => {
      for (let n = reader; !isMoved; n++, reads++) {
        const { created, bytes } = kept[5 + (n % 5)] as (typeof kept)[0]
        assert.deepEqual(await download(created.download_url), bytes)
      }
    })
    await advance(server, HOUR / 1000)
    await until('the old pack is gone', async () => !(await readdir(join(dataDir, 'files/packs'))).includes(old))
    assert.equal(answered, 0, 'they were answered before the move')
    isMoved = true
    await Promise.all([...readers, ...waiting])
    assert.ok(reads > 0)
    for (const { created, bytes } of kept) assert.deepEqual(await download(created.download_url), bytes)
    assert.equal((await living()).length, KEPT)
  })
})

test('a small file that is deleted while a reader has seen its row is not found', async () => {
  await using server = await startServer()
  const client = server.client()
  const created = await createText(client, 5)
  assert.equal((await put(created, 'hello')).status, 200)
  await arm(server, { kind: 'cdn_slow', seconds: 3 })
  const reading = fetch(created.download_url)
  await until('it has seen the row', async () => {
    return (await ok<{ faults: unknown[] }>(sandbox(server, '/faults'))).faults.length === 0
  })
  await client.attachments.delete(created.attachment_id)
  await until('it is erased', async () => (await packedIn(server.dataDir)).every(({ isLive }) => !isLive))
  assert.equal((await reading).status, 404)
})
