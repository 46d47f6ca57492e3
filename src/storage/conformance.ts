/** What every storage has to pass; a backend's test calls it in three lines. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BodyTooLong, BodyTooShort, type Entry, type Storage } from './storage.ts'

const MIB = 1024 * 1024

/** `open` gives a storage that holds nothing, and a way to be rid of it; it is called once. */
export function storageConformance(
  name: string,
  open: () => Promise<{ storage: Storage; close: () => Promise<void> }>,
): void {
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>> | undefined
    before(async () => {
      opened = await open()
    })
    after(async () => {
      await opened?.close()
    })
    const ready = (): Storage => {
      if (!opened) throw new Error('the storage is not open')
      return opened.storage
    }
    let count = 0
    const newKey = () => `media/${String(count % 7)}a/key-${String(count++).padStart(5, '0')}`

    for (const size of [0, 1, 64 * 1024 + 1, 5 * MIB]) {
      test(`${size} bytes come back as they went, whole and in part`, async () => {
        const storage = ready()
        const [key, bytes] = [newKey(), randomBytes(size)]
        const passed: Buffer[] = []
        const before = Date.now()
        await storage.put(key, chunked(bytes), size, { onChunk: (chunk) => passed.push(chunk) })
        assert.ok(Buffer.concat(passed).equals(bytes))
        const found = await storage.stat(key)
        assert.equal(found?.key, key)
        assert.equal(found.size, size)
        assert.ok(Math.abs(found.modified - before) < 5_000, `modified ${found.modified}`)
        assert.ok((await read(storage, key)).equals(bytes))
        if (size === 0) return
        const last = size - 1
        for (const [start, end] of [
          [0, 0],
          [last, last],
          [0, Math.min(1, last)],
          [Math.floor(size / 3), last],
          [0, last],
        ]) {
          const part = await read(storage, key, { start: start ?? 0, end: end ?? 0 })
          assert.ok(part.equals(bytes.subarray(start, (end ?? 0) + 1)), `${start}-${end}`)
        }
        assert.ok((await read(storage, key, { start: last, end: size + 1000 })).equals(bytes.subarray(last)))
      })
    }

    test('a missing key has no bytes and no entry, and deleting it is success', async () => {
      const storage = ready()
      const key = newKey()
      assert.equal(await storage.get(key), undefined)
      assert.equal(await storage.get(key, { start: 0, end: 9 }), undefined)
      assert.equal(await storage.stat(key), undefined)
      await storage.delete(key)
      await put(storage, key, Buffer.from('here'))
      await storage.delete(key)
      await storage.delete(key)
      assert.equal(await storage.get(key), undefined)
      assert.equal(await storage.stat(key), undefined)
    })

    test('names that are no keys of ours are refused', async () => {
      const storage = ready()
      for (const key of ['', '/', '../x', 'a/../b', 'a//b', 'A', 'a b', 'a/', '/a', 'a%2e', 'ä'])
        await assert.rejects(async () => storage.stat(key), /not a storage key/, key)
    })

    const sizes = [1, 64 * 1024 + 1, 3 * MIB]
    const broken: Record<string, { body: (size: number) => Readable; error: unknown }> = {
      'a short body': { body: (size) => chunked(randomBytes(size - 1)), error: BodyTooShort },
      'a body without an end': { body: (size) => breaking(randomBytes(size - 1), 'destroy'), error: BodyTooShort },
      'a source that fails': { body: (size) => breaking(randomBytes(size - 1), 'fail'), error: BodyTooShort },
      'a source that fails after its last byte': {
        body: (size) => breaking(randomBytes(size), 'fail'),
        error: BodyTooShort,
      },
      'a long body': { body: (size) => chunked(randomBytes(size + 1)), error: BodyTooLong },
      'a much longer body': { body: (size) => chunked(randomBytes(size + MIB)), error: BodyTooLong },
    }
    for (const [what, { body, error }] of Object.entries(broken)) {
      test(`${what} leaves nothing`, async () => {
        const storage = ready()
        for (const size of sizes) {
          const key = newKey()
          await assert.rejects(storage.put(key, body(size), size), error as typeof BodyTooShort)
          await assertGone(storage, key)
        }
      })
    }

    test('a promise of no bytes is not kept by some', async () => {
      const storage = ready()
      const key = newKey()
      await assert.rejects(storage.put(key, chunked(Buffer.from('x')), 0), BodyTooLong)
      await assertGone(storage, key)
    })

    for (const when of ['before', 'while'] as const)
      test(`an abort ${when} the bytes come leaves nothing and rejects with its reason`, async () => {
        const storage = ready()
        const key = newKey()
        const controller = new AbortController()
        const reason = new Error('the caller went away')
        if (when === 'before') controller.abort(reason)
        else setTimeout(() => controller.abort(reason), 100)
        const body = endless()
        await assert.rejects(storage.put(key, body, 200 * MIB, { signal: controller.signal }), reason)
        body.destroy()
        await assertGone(storage, key)
      })

    test('the source is not destroyed by a body that is refused', async () => {
      const storage = ready()
      const body = endless()
      await assert.rejects(storage.put(newKey(), body, 10), BodyTooLong)
      assert.equal(body.destroyed, false)
      body.destroy()
    })

    test('a large body is stored in little memory', async () => {
      const storage = ready()
      const [key, size] = [newKey(), 96 * MIB]
      globalThis.gc?.()
      const before = process.memoryUsage().rss
      let peak = 0
      const timer = setInterval(() => {
        peak = Math.max(peak, process.memoryUsage().rss - before)
      }, 5)
      await storage.put(key, repeating(size), size)
      const hash = createHash('sha256')
      for await (const chunk of (await storage.get(key)) ?? []) hash.update(chunk as Buffer)
      clearInterval(timer)
      const expected = createHash('sha256')
      for await (const chunk of repeating(size)) expected.update(chunk as Buffer)
      assert.equal(hash.digest('hex'), expected.digest('hex'))
      await storage.delete(key)
      assert.ok(peak < 64 * MIB, `${Math.round(peak / MIB)} MiB`)
    })

    test('a reader that leaves early does no harm', async () => {
      const storage = ready()
      const [key, bytes] = [newKey(), randomBytes(5 * MIB)]
      await put(storage, key, bytes)
      for (let i = 0; i < 20; i++) {
        const body = await storage.get(key)
        for await (const _ of body ?? []) break
        body?.destroy()
      }
      assert.ok((await read(storage, key)).equals(bytes))
    })

    test('everything is listed in key order, from any key on', async () => {
      const storage = ready()
      const names = ['a', 'a-b', 'a/b', 'a/b-c', 'a/bb', 'a0', 'a_b', 'ab', 'b/a/a/a', 'b/a/b', 'c-', 'c/', 'z9']
      const keys = names.map((name) => `list/${name.replace(/\/$/, '/x')}/leaf`)
      for (let i = 0; i < 40; i++) keys.push(`list/many/${randomBytes(8).toString('hex')}`)
      await Promise.all(keys.map((key, i) => put(storage, key, Buffer.alloc(i + 1))))
      const all = await list(storage)
      const found = all.map(({ key }) => key)
      assert.deepEqual(found, [...found].sort())
      const sorted = [...keys].sort()
      assert.deepEqual(
        found.filter((key) => key.startsWith('list/')),
        sorted,
      )
      for (const entry of all)
        assert.deepEqual({ ...entry, modified: 0 }, { ...(await storage.stat(entry.key)), modified: 0 })
      for (const after of [
        '',
        'list',
        'list/',
        sorted[0],
        sorted[7],
        'list/a/',
        'list/a0',
        'list/zzzz',
        found.at(-1),
        'zzz',
      ])
        assert.deepEqual(
          (await list(storage, after)).map(({ key }) => key),
          found.filter((key) => key > (after ?? '')),
          after,
        )
      let resumed: string[] = []
      for (let after: string | undefined; ; after = resumed.at(-1)) {
        const next: string[] = []
        for await (const { key } of storage.list(after)) if (next.push(key) === 9) break
        resumed = [...resumed, ...next]
        if (next.length < 9) break
      }
      assert.deepEqual(resumed, found)
    })

    test('more entries than fit on a page of S3 are all listed', { timeout: 120_000 }, async () => {
      const storage = ready()
      const keys = Array.from({ length: 1_100 }, (_, i) => `page/${String(i).padStart(5, '0')}`)
      for (let i = 0; i < keys.length; i += 50)
        await Promise.all(keys.slice(i, i + 50).map((key) => put(storage, key, Buffer.from('x'))))
      const found = (await list(storage, 'page/')).map(({ key }) => key).filter((key) => key.startsWith('page/'))
      assert.deepEqual(found, keys)
      assert.equal((await list(storage, 'page/00999')).filter(({ key }) => key.startsWith('page/')).length, 100)
      for (let i = 0; i < keys.length; i += 50)
        await Promise.all(keys.slice(i, i + 50).map((key) => storage.delete(key)))
    })

    test("many writers, readers and deleters at once keep out of each other's way", async () => {
      const storage = ready()
      const shared = newKey()
      const sharedBytes = randomBytes(MIB)
      await put(storage, shared, sharedBytes)
      await Promise.all(
        Array.from({ length: 37 }, async (_, i) => {
          const [key, bytes] = [newKey(), randomBytes(1 + i * 9_973)]
          await storage.put(key, chunked(bytes, 1 + i * 101), bytes.length)
          const [own, other] = await Promise.all([read(storage, key), read(storage, shared, { start: i, end: i + 99 })])
          assert.ok(own.equals(bytes))
          assert.ok(other.equals(sharedBytes.subarray(i, i + 100)))
          if (i % 3 === 0) {
            await storage.delete(key)
            assert.equal(await storage.get(key), undefined)
          }
        }),
      )
    })
  })
}

async function assertGone(storage: Storage, key: string): Promise<void> {
  // A server may still be busy with a connection that has just gone.
  await sleep(50)
  assert.equal(await storage.stat(key), undefined)
  assert.equal(await storage.get(key), undefined)
  assert.ok(!(await list(storage)).some((entry) => entry.key === key))
}

async function list(storage: Storage, after?: string): Promise<Entry[]> {
  const found: Entry[] = []
  for await (const entry of storage.list(after)) found.push(entry)
  return found
}

const put = (storage: Storage, key: string, bytes: Buffer) => storage.put(key, chunked(bytes), bytes.length)

async function read(storage: Storage, key: string, range?: { start: number; end: number }): Promise<Buffer> {
  const body = await storage.get(key, range)
  assert.ok(body, `${key} is missing`)
  return await buffer(body)
}

/** In pieces of odd sizes, some of them empty. */
function chunked(bytes: Buffer, piece = 17_389): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += piece) {
        yield bytes.subarray(at, at + piece)
        if (at % 5 === 0) yield Buffer.alloc(0)
      }
    })(),
    { objectMode: false },
  )
}

function breaking(bytes: Buffer, how: 'destroy' | 'fail'): Readable {
  let sent = false
  return new Readable({
    read() {
      if (!sent && bytes.length > 0) this.push(bytes)
      else setTimeout(() => this.destroy(how === 'fail' ? new Error('the line is cut') : undefined), 10)
      sent = true
    },
  })
}

function endless(): Readable {
  return new Readable({
    read() {
      setTimeout(() => this.push(Buffer.alloc(16 * 1024)), 1)
    },
  })
}

function repeating(size: number): Readable {
  const block = Buffer.alloc(64 * 1024, 'satchel ')
  let left = size
  return new Readable({
    read() {
      const length = Math.min(left, block.length)
      left -= length
      this.push(length === 0 ? null : block.subarray(0, length))
    },
  })
}
