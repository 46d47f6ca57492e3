/** The writer between a body and a file; the promises of the whole are in conformance.ts. */
import assert from 'node:assert/strict'
import { type FileHandle, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { giveBack, takeBlock } from './blocks.ts'
import { gather } from './gather.ts'
import { BodyTooLong, BodyTooShort } from './storage.ts'

let folder: string
let path: string
let file: FileHandle
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-gather-'))
})
after(() => rm(folder, { recursive: true }))

const onFile = (name: string, work: () => Promise<void>) =>
  test(name, async () => {
    path = join(folder, name.replaceAll(' ', '-'))
    file = await open(path, 'wx')
    try {
      await work()
    } finally {
      await file.close()
    }
  })

onFile('resolves with the number of bytes, all of them written in order', async () => {
  const chunks = Array.from({ length: 300 }, (_, i) => Buffer.alloc(10_000, i))
  assert.equal(await gather(file, Readable.from(chunks), 3_000_000, {}), 3_000_000)
  assert.deepEqual(await readFile(path), Buffer.concat(chunks))
})

onFile('may end before the limit, and may be empty', async () => {
  assert.equal(await gather(file, Readable.from([]), 10, {}), 0)
  assert.equal(await gather(file, Readable.from([Buffer.from('abc')]), 10, {}), 3)
})

onFile('exactly the limit is allowed, one byte more is not', async () => {
  assert.equal(await gather(file, Readable.from([Buffer.alloc(10)]), 10, {}), 10)
  await assert.rejects(gather(file, Readable.from([Buffer.alloc(11)]), 10, {}), BodyTooLong)
})

onFile('holds the source back while the disk is slow', async () => {
  let given = 0
  const body = new Readable({
    highWaterMark: 65_536,
    read() {
      given += 65_536
      this.push(given > 20_000_000 ? null : Buffer.alloc(65_536))
    },
  })
  let most = 0
  let written = 0
  const slow = {
    async writev(chunks: Buffer[], position: number) {
      await new Promise((resolve) => setTimeout(resolve, 1))
      const result = await file.writev(chunks, position)
      written += result.bytesWritten
      most = Math.max(most, given - written)
      return result
    },
    write: file.write.bind(file),
    datasync: file.datasync.bind(file),
  }
  await gather(slow as unknown as FileHandle, body, 30_000_000, {})
  assert.ok(most < 2_000_000, `${most} bytes waited`)
})

onFile('writes on where the kernel took only a part', async () => {
  const bytes = Buffer.from(Array.from({ length: 900_000 }, (_, i) => i % 251))
  const reluctant = {
    writev: (chunks: Buffer[], position: number) =>
      file.write(Buffer.concat(chunks), 0, 1000, position).then(({ bytesWritten }) => ({ bytesWritten })),
    write: (buffer: Buffer, offset: number, length: number, position: number) =>
      file.write(buffer, offset, Math.min(length, 70_000), position),
  }
  assert.equal(await gather(reluctant as unknown as FileHandle, Readable.from([bytes]), 900_000, {}), 900_000)
  assert.deepEqual(await readFile(path), bytes)
})

onFile('rejects with what the disk said, and never hangs', async () => {
  const full = Object.assign(new Error('no space'), { code: 'ENOSPC' })
  const disk = { writev: () => Promise.reject(full) }
  const body = Readable.from(Array.from({ length: 100 }, () => Buffer.alloc(65_536)))
  await assert.rejects(gather(disk as unknown as FileHandle, body, 1e9, {}), full)
})

onFile('a large body is on its way to the disk before it ends, and what cannot be put there is not kept', async () => {
  const lost = Object.assign(new Error('the disk is broken'), { code: 'EIO' })
  let synced = 0
  const disk = {
    async writev(chunks: Buffer[]) {
      await new Promise((resolve) => setImmediate(resolve))
      return { bytesWritten: chunks.reduce((sum, { length }) => sum + length, 0) }
    },
    async datasync() {
      synced++
      await new Promise((resolve) => setImmediate(resolve))
      if (synced === 2) throw lost
    },
  }
  const body = () => Readable.from(Array.from({ length: 400 }, () => Buffer.alloc(262_144)))
  await assert.rejects(gather(disk as unknown as FileHandle, body(), 1e9, {}), lost)
  assert.equal(synced, 2)
  assert.equal(await gather(disk as unknown as FileHandle, body(), 1e9, {}), 400 * 262_144)
  assert.ok(synced > 3)
})

onFile('settles only when no write is in flight, so that the file may be closed', async () => {
  let inFlight = 0
  const disk = {
    async writev(chunks: Buffer[]) {
      inFlight++
      await new Promise((resolve) => setTimeout(resolve, 30))
      inFlight--
      return { bytesWritten: chunks.reduce((sum, { length }) => sum + length, 0) }
    },
  }
  const body = new PassThrough()
  body.write(Buffer.alloc(300_000))
  setTimeout(() => body.destroy(), 10)
  await assert.rejects(gather(disk as unknown as FileHandle, body, 1e9, {}), BodyTooShort)
  assert.equal(inFlight, 0)
})

onFile('an error of the source after the verdict is not unhandled', async () => {
  const body = new PassThrough()
  body.write(Buffer.alloc(20))
  await assert.rejects(gather(file, body, 10, {}), BodyTooLong)
  body.destroy(new Error('late'))
  await new Promise((resolve) => setTimeout(resolve, 10))
})

onFile('a body that has ended before is empty, and one that cannot be shown is refused', async () => {
  const over = Readable.from([])
  over.resume()
  await new Promise((resolve) => over.once('end', resolve))
  assert.equal(await gather(file, over, 10, {}), 0)
  const unfit = new Error('it cannot be looked at')
  const onChunk = () => {
    throw unfit
  }
  await assert.rejects(gather(file, Readable.from([Buffer.from('abc')]), 10, { onChunk }), unfit)
})

onFile('the memory of a body that breaks off in the middle is used again', async () => {
  const block = takeBlock()
  giveBack(block)
  const body = new PassThrough()
  body.write(Buffer.alloc(1000))
  setTimeout(() => body.destroy(), 5)
  await assert.rejects(gather(file, body, 1e6, {}), BodyTooShort)
  assert.equal(takeBlock(), block)
  giveBack(block)
})
