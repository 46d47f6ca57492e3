/**
 * More small uploads at once than may be gathered in memory (32 MB): those beyond are streamed to files of their own, and
 * nobody sees a difference. How many are streamed shows how much the server believes to have in memory.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { packedIn } from '../support/packs.ts'
import { type Server, startServer } from '../support/satchel.ts'
import { type Created, createText, dial, download, filesIn, md5, textOf, until, type Wire } from '../support/wire.ts'

const SIZE = 128 * 1024
const GATHERED = 256
const STREAMED = 44
const TEXT = textOf(SIZE)

let server: Server
before(async () => {
  server = await startServer()
})
after(() => server[Symbol.asyncDispose]())

type Upload = { created: Created; bytes: Buffer; wire: Wire }

/** All but the last byte is sent. */
async function begin(seed: string): Promise<Upload> {
  const bytes = Buffer.from(TEXT)
  bytes.write(`${seed}\n`)
  const created = await createText(server.client(), SIZE)
  const wire = await dial(server.cdn)
  const { host, pathname, search } = new URL(created.upload_url)
  await wire.head(`PUT ${pathname}${search}`, { Host: host, ...created.required_headers })
  await wire.write(bytes.subarray(0, -1))
  return { created, bytes, wire }
}

async function finish({ created, bytes, wire }: Upload): Promise<void> {
  await wire.write(bytes.subarray(-1))
  const reply = await wire.reply()
  assert.equal(reply.status, 200, String(reply.body))
  assert.equal(reply.headers.etag, `"${md5(bytes)}"`)
  assert.deepEqual(await download(created.download_url), bytes)
  wire.socket.destroy()
}

const inTmp = async () => (await filesIn(server.dataDir, 'files/tmp')).length
const cutOff = () => server.log().match(/"s3":"IncompleteBody"/g)?.length ?? 0

/** Begins them all, and cuts those off that are not to be finished. */
async function round(name: string, isFinished: (n: number) => boolean): Promise<Upload[]> {
  const uploads = await Promise.all(Array.from({ length: GATHERED + STREAMED }, (_, n) => begin(`${name} ${n}`)))
  await until(`${STREAMED} are streamed`, async () => (await inTmp()) >= STREAMED)
  assert.equal(await inTmp(), STREAMED)
  const finished = uploads.filter((_, n) => isFinished(n))
  const aborted = uploads.filter((_, n) => !isFinished(n))
  const before = cutOff()
  for (const { wire } of aborted) wire.socket.destroy()
  await Promise.all(finished.map(finish))
  await until('those cut off are noticed', () => cutOff() === before + aborted.length)
  assert.equal(await inTmp(), 0)
  for (const { created } of aborted.slice(0, 20)) assert.equal((await fetch(created.download_url)).status, 404)
  return finished
}

test('300 small uploads at once, cut off or not, are stored in packs and files, and count no longer when they are over', async () => {
  const half = await round('half', (n) => n % 2 === 0)
  const all = await round('all', () => true)
  await round('none', () => false)
  const packed = (await packedIn(server.dataDir)).length
  const files = (await filesIn(server.dataDir, 'files/objects')).length
  assert.equal(packed + files, half.length + all.length)
  assert.ok(files >= STREAMED && packed >= GATHERED, `${packed} in packs, ${files} not`)
})
