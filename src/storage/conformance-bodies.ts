/** The part of the storages' suite about what was put: it comes back as it went, whole, in parts, and in little memory. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { chunked, cut, put, read, repeating } from './conformance-sources.ts'
import { type Storage, storedBytes } from './storage.ts'

const MIB = 1024 * 1024

export function bodyConformance(ready: () => Storage, newKey: () => string): void {
  for (const size of [0, 1, 64 * 1024 + 1, 5 * MIB]) {
    test(`${size} bytes come back as they went, whole and in part`, async () => {
      const storage = ready()
      const [key, bytes] = [newKey(), randomBytes(size)]
      const passed: Buffer[] = []
      const before = Date.now()
      await storage.put(key, chunked(bytes), size, {
        onChunk(piece) {
          passed.push(Buffer.from(piece))
          return undefined
        },
      })
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

  test('chunks of any cut come back as one body, and onChunk saw each in order', async () => {
    const storage = ready()
    const [key, bytes] = [newKey(), randomBytes(700_001)]
    const seen: Buffer[] = []
    const body = Readable.from(cut(bytes, [1, 7, 65_536, 3, 300_000]))
    await storage.put(key, body, bytes.length, {
      onChunk(piece) {
        seen.push(Buffer.from(piece))
        return undefined
      },
    })
    assert.ok(Buffer.concat(seen).equals(bytes))
    assert.ok((await read(storage, key)).equals(bytes))
  })

  test('a piece stays as it is while it is needed, and only a few are at a time', async () => {
    const storage = ready()
    const [key, bytes] = [newKey(), randomBytes(5 * MIB + 1)]
    let [needed, most, seen] = [0, 0, 0]
    const body = Readable.from(cut(bytes, [1, 7, 65_536, 3, 65_000]))
    await storage.put(key, body, bytes.length, {
      async onChunk(piece) {
        const expected = bytes.subarray(seen, seen + piece.length)
        seen += piece.length
        needed += piece.length
        most = Math.max(most, needed)
        await sleep(3)
        assert.ok(piece.equals(expected))
        needed -= piece.length
      },
    })
    assert.equal(seen, bytes.length)
    assert.ok(most < MIB, `${most} bytes were needed at a time`)
    assert.ok((await read(storage, key)).equals(bytes))
  })

  test('ranges around the borders of what is read at once are exact, both ends inclusive', async () => {
    const storage = ready()
    const [key, bytes] = [newKey(), randomBytes(1_000_000)]
    const last = bytes.length - 1
    await put(storage, key, bytes)
    for (const [start, end] of [
      [0, 1],
      [last - 1, last],
      [262_143, 262_144],
      [262_144, 524_287],
      [500_000, last],
      [999_990, last + 1_000],
    ] as const) {
      const part = await read(storage, key, { start, end })
      assert.ok(part.equals(bytes.subarray(start, end + 1)), `${start}-${end}`)
    }
  })

  test('storedBytes reads anywhere, cut off at the end', async () => {
    const storage = ready()
    const [key, bytes] = [newKey(), randomBytes(100_000)]
    const last = bytes.length - 1
    await put(storage, key, bytes)
    const file = storedBytes(storage, key, bytes.length)
    assert.ok(bytes.subarray(10, 30).equals(await file.read(10, 20)))
    assert.ok(bytes.subarray(last - 4).equals(await file.read(last - 4, 100)))
    assert.equal((await file.read(bytes.length, 10)).length, 0)
    assert.equal((await file.read(0, 0)).length, 0)
    await assert.rejects(storedBytes(storage, newKey(), 10).read(0, 10))
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
    for (let i = 0; i < 50; i++) {
      const body = await storage.get(key)
      assert.ok(body)
      if (i % 2 === 0) await once(body, 'readable')
      const closed = once(body, 'close')
      body.destroy()
      await closed
    }
    assert.ok((await read(storage, key)).equals(bytes))
  })
}
