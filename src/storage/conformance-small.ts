/** What every way for small objects has to pass, together with the storage that they are found in by their keys. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { list, read } from './conformance-sources.ts'
import { type SmallObjects, type Storage, storedBytes } from './storage.ts'

type SmallStorage = Storage & { readonly small: SmallObjects }

/** `open` gives a storage that holds nothing, and a way to be rid of it; it is called once. */
export function smallObjectsConformance(
  name: string,
  open: () => Promise<{ storage: SmallStorage; close: () => Promise<void> }>,
): void {
  describe(name, () => {
    let opened: Awaited<ReturnType<typeof open>> | undefined
    before(async () => {
      opened = await open()
    })
    after(async () => {
      await opened?.close()
    })
    const ready = (): SmallStorage => {
      if (!opened) throw new Error('the storage is not open')
      return opened.storage
    }

    test('bodies of any size to the largest come back as they went, whole and in part', async () => {
      const storage = ready()
      const { maxBytes } = storage.small
      for (const size of [0, 1, 20, 4096, 50_000, maxBytes - 1, maxBytes]) {
        const [bytes, before] = [randomBytes(size), Date.now()]
        const key = await storage.small.append(bytes)
        assert.match(key, /^[a-z0-9_-]+(\/[a-z0-9_-]+)*$/)
        const found = await storage.stat(key)
        assert.deepEqual({ ...found, modified: 0 }, { key, size, modified: 0 })
        assert.ok(Math.abs((found?.modified ?? 0) - before) < 5_000)
        assert.ok((await read(storage, key)).equals(bytes))
        if (size === 0) continue
        for (const [start, end] of [
          [0, 0],
          [size - 1, size - 1],
          [0, Math.min(1, size - 1)],
          [Math.floor(size / 3), size - 1],
          [size - 1, size + 1000],
        ] as const) {
          assert.ok(
            (await read(storage, key, { start, end })).equals(bytes.subarray(start, end + 1)),
            `${start}-${end}`,
          )
        }
        const file = storedBytes(storage, key, size)
        assert.ok(bytes.subarray(10, 30).equals(await file.read(10, 20)))
      }
    })

    test('a body that is larger is refused', async () => {
      const { small } = ready()
      await assert.rejects(small.append(Buffer.alloc(small.maxBytes + 1)), RangeError)
    })

    test('what is deleted is gone, deleting again is success, and its neighbours stay', async () => {
      const storage = ready()
      const bodies = Array.from({ length: 9 }, (_, n) => randomBytes(1 + n * 1_000))
      const keys = await Promise.all(bodies.map((body) => storage.small.append(body)))
      const doomed = keys.filter((_, n) => n % 2 === 0)
      await Promise.all(doomed.map((key) => storage.delete(key)))
      for (const key of doomed) {
        await storage.delete(key)
        assert.equal(await storage.stat(key), undefined)
        assert.equal(await storage.get(key), undefined)
        assert.equal(await storage.get(key, { start: 0, end: 9 }), undefined)
      }
      const listed = new Set((await list(storage)).map(({ key }) => key))
      for (const [n, key] of keys.entries()) {
        assert.equal(listed.has(key), n % 2 === 1)
        if (n % 2 === 1) assert.ok((await read(storage, key)).equals(bodies[n] ?? Buffer.alloc(0)))
      }
    })

    test('keys that name no place of an object have no bytes, and nothing is deleted by them', async () => {
      const storage = ready()
      const bytes = randomBytes(1_000)
      const key = await storage.small.append(bytes)
      const others = [
        key.replace(/\d{6}$/, '000999'),
        key.replace(/(\d{10})-/, (_, at) => `${String(Number(at) + 1).padStart(10, '0')}-`),
        key.replace(/(\d{10})-/, '9999999999-'),
        key.replace(/[0-9a-f]{8}\//, '00000000/'),
      ]
      for (const other of others) {
        assert.notEqual(other, key)
        assert.equal(await storage.get(other), undefined)
        assert.equal(await storage.stat(other), undefined)
        await storage.delete(other)
      }
      assert.ok((await read(storage, key)).equals(bytes))
    })

    test('they are listed in key order among all others, from any key on', async () => {
      const storage = ready()
      for (const key of ['a/b', 'pack-', 'pack/x/y', 'pack0/x', 'packs/x', 'z']) {
        await storage.put(key, Readable.from([Buffer.from('x')]), 1)
      }
      await Promise.all(Array.from({ length: 20 }, (_, n) => storage.small.append(randomBytes(n * 300))))
      const all = await list(storage)
      const keys = all.map(({ key }) => key)
      assert.deepEqual(keys, [...keys].sort())
      for (const entry of all) assert.deepEqual(entry, await storage.stat(entry.key))
      for (const after of ['', 'pack', 'pack-', 'pack/', 'pack/0', 'pack/g', 'pack0', 'zz', ...keys]) {
        assert.deepEqual(
          (await list(storage, after)).map(({ key }) => key),
          keys.filter((key) => key > after),
          after,
        )
      }
    })

    test("hundreds of writers, readers and deleters at once keep out of each other's way", async () => {
      const storage = ready()
      await Promise.all(
        Array.from({ length: 300 }, async (_, n) => {
          const bytes = randomBytes((n * 997) % 60_000)
          const key = await storage.small.append(bytes)
          assert.ok((await read(storage, key)).equals(bytes))
          if (n % 3 !== 0) return
          const [body] = await Promise.all([storage.get(key), storage.delete(key)])
          // Whole or not at all, whoever was faster.
          if (body) assert.ok((await buffer(body)).equals(bytes))
          assert.equal(await storage.get(key), undefined)
        }),
      )
    })
  })
}
