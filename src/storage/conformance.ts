/**
 * What every storage has to pass; a backend's test calls it in three lines. The doubles are at the edge: sources that break,
 * stop short, run on or never end.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { bodyConformance } from './conformance-bodies.ts'
import { listingConformance } from './conformance-listing.ts'
import { refusalConformance } from './conformance-refusals.ts'
import { assertGone, chunked, put, read } from './conformance-sources.ts'
import type { Storage } from './storage.ts'

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

    bodyConformance(ready, newKey)
    refusalConformance(ready, newKey)
    listingConformance(ready)

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
      await assertGone(storage, key)
    })

    test('names that are no keys of ours are refused', async () => {
      const storage = ready()
      const names = [
        '',
        '/',
        '../x',
        'a/../b',
        'a/.',
        'a//b',
        'A',
        'a b',
        'a.b',
        'a/',
        '/a',
        'a%2e',
        'a\0',
        'a\\b',
        'ä',
      ]
      for (const key of names) {
        const refused = (work: () => Promise<unknown>) => assert.rejects(work, /not a storage key/, JSON.stringify(key))
        await refused(async () => await put(storage, key, Buffer.from('x')))
        await refused(async () => await storage.get(key))
        await refused(async () => await storage.stat(key))
        await refused(async () => await storage.delete(key))
      }
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
