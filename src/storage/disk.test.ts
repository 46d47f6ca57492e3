import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readlinkSync } from 'node:fs'
import { type FileHandle, mkdir, mkdtemp, open, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { storageConformance } from './conformance.ts'
import { openDisk } from './disk.ts'
import { BodyTooShort } from './storage.ts'

storageConformance('disk', async () => {
  const folder = await newFolder()
  return {
    storage: await openDisk(folder, { exclusive: true }),
    close: () => rm(folder, { recursive: true, force: true }),
  }
})

const newFolder = () => mkdtemp(join(tmpdir(), 'satchel-disk-'))

describe('a folder', () => {
  let folder: string
  before(async () => {
    folder = await newFolder()
  })
  after(() => rm(folder, { recursive: true }))

  test('shows nothing under a key before all of it is there', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    const body = new PassThrough()
    const putting = storage.put('slow', body, 4)
    body.write('ab')
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal((await readdir(join(folder, 'tmp'))).length, 1)
    assert.equal(await storage.stat('slow'), undefined)
    body.end('cd')
    await putting
    assert.equal((await storage.stat('slow'))?.size, 4)
    assert.deepEqual(await readdir(join(folder, 'tmp')), [])
  })

  test('keeps files and folders private', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    await storage.put('private/one', Readable.from([Buffer.from('x')]), 1)
    for (const [path, mode] of [
      ['objects', 0o700],
      ['tmp', 0o700],
      ['objects/private', 0o700],
      ['objects/private/one', 0o600],
    ] as const) {
      assert.equal((await stat(join(folder, path))).mode & 0o777, mode, path)
    }
  })

  test('leaves nothing in tmp when a put fails', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    await assert.rejects(storage.put('short', Readable.from([Buffer.from('x')]), 2), BodyTooShort)
    assert.deepEqual(await readdir(join(folder, 'tmp')), [])
  })

  test('adopts a file as it is, and from where it lay it is gone', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    const file = join(folder, 'ours')
    await writeFile(file, 'hello', { mode: 0o600 })
    assert.equal(await storage.adopt('adopted/one', file), true)
    assert.equal((await storage.stat('adopted/one'))?.size, 5)
    assert.equal(await readFile(join(folder, 'objects/adopted/one'), 'utf8'), 'hello')
    await assert.rejects(stat(file), { code: 'ENOENT' })
  })

  test('a file that is not there cannot be adopted, and nothing has its key', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    await assert.rejects(async () => await storage.adopt('adopted/none', join(folder, 'nothing')), { code: 'ENOENT' })
    assert.equal(await storage.stat('adopted/none'), undefined)
  })

  test('a file on another file system is left where it is', async (t) => {
    const elsewhere = '/dev/shm'
    const isOther = await stat(elsewhere).then(
      async ({ dev }) => dev !== (await stat(folder)).dev,
      () => false,
    )
    if (!isOther) return t.diagnostic('this machine has no second file system to try it on')
    const storage = await openDisk(folder, { exclusive: true })
    const file = join(await mkdtemp(join(elsewhere, 'satchel-')), 'ours')
    await writeFile(file, 'hello')
    assert.equal(await storage.adopt('adopted/far', file), false)
    assert.equal(await readFile(file, 'utf8'), 'hello')
    assert.equal(await storage.stat('adopted/far'), undefined)
    await rm(dirname(file), { recursive: true })
  })

  test('a folder of ours alone is swept when opened; one that may be shared loses only what is old', async () => {
    for (const exclusive of [false, true]) {
      const own = await newFolder()
      await mkdir(join(own, 'tmp'))
      for (const name of ['new', 'old']) await writeFile(join(own, 'tmp', name), 'x')
      const longAgo = new Date(Date.now() - 2 * 3_600_000)
      await utimes(join(own, 'tmp/old'), longAgo, longAgo)
      await openDisk(own, { exclusive })
      assert.deepEqual(await readdir(join(own, 'tmp')), exclusive ? [] : ['new'])
      await rm(own, { recursive: true })
    }
  })

  test('a put whose folder was taken away meanwhile is refused as a failure of ours', async () => {
    const own = await newFolder()
    const storage = await openDisk(own, { exclusive: true })
    await rm(own, { recursive: true })
    await assert.rejects(storage.put('x', Readable.from([Buffer.from('x')]), 1))
  })

  test('a folder whose name could not be made durable is synced before the next file in it is acknowledged', async (t) => {
    const storage = await openDisk(folder, { exclusive: true })
    const handle = await open('/dev/null')
    await handle.close()
    const synced: string[] = []
    let isBroken = true
    t.mock.method(Object.getPrototypeOf(handle), 'sync', async function (this: FileHandle) {
      if (isBroken) throw Object.assign(new Error('it broke'), { code: 'EIO' })
      synced.push(readlinkSync(`/proc/self/fd/${this.fd}`))
    })
    const put = (key: string) => storage.put(key, Readable.from([Buffer.from('x')]), 1)
    await assert.rejects(put('durable/aa/one'), { failure: 'upload_failed' })
    assert.equal(await storage.stat('durable/aa/one'), undefined)
    isBroken = false
    await put('durable/aa/two')
    const folders = ['objects', 'objects/durable', 'objects/durable/aa']
    assert.deepEqual(
      synced,
      folders.map((name) => join(folder, name)),
    )
    await put('durable/aa/three')
    assert.deepEqual(synced.slice(3), [join(folder, 'objects/durable/aa')])
  })

  test('a file that became shorter breaks its download off instead of ending it', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    await storage.put('torn', Readable.from([Buffer.alloc(1000)]), 1000)
    const body = await storage.get('torn', { start: 0, end: 999 })
    await writeFile(join(folder, 'objects/torn'), 'x')
    assert.ok(body)
    await assert.rejects(body.toArray(), /shorter/)
  })

  for (const size of [0, 1, 256 * 1024, 256 * 1024 + 1, 1_000_000])
    test(`an open object of ${size} bytes is read anywhere by pieces, and after its deletion only by who has it`, async () => {
      const storage = await openDisk(folder, { exclusive: true })
      const bytes = randomBytes(size)
      await storage.put('pieces', Readable.from([bytes]), size)
      const object = await storage.open('pieces', { keep: true })
      assert.ok(object)
      await storage.delete('pieces')
      assert.equal(await storage.open('pieces', { keep: true }), undefined)
      assert.equal(object.size, size)
      for (const start of [0, Math.floor(size / 3), Math.max(0, size - 10)]) {
        const piece = Buffer.alloc(Math.min(50_000, size - start))
        assert.equal(piece.length > 0 ? await object.read(piece, start) : 0, piece.length)
        assert.ok(piece.equals(bytes.subarray(start, start + piece.length)))
      }
      if (size <= 256 * 1024) assert.ok(object.bytes?.equals(bytes))
      object[Symbol.dispose]()
    })

  test('a key that was deleted and put again opens as it is now', async () => {
    const storage = await openDisk(folder, { exclusive: true })
    for (const text of ['first', 'second']) {
      assert.equal(await storage.open('again', { keep: true }), undefined)
      await storage.put('again', Readable.from([Buffer.from(text)]), text.length)
      using object = await storage.open('again', { keep: true })
      assert.equal(String(object?.bytes), text)
      await storage.delete('again')
    }
  })
})
