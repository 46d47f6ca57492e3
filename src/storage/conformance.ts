/**
 * What every storage has to promise, whatever it keeps the bytes in. A backend's test calls it in three lines. The doubles
 * are at the edge: sources that break, stop short, run on or never end.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { BodyTooLong, BodyTooShort, type Entry, type Storage, storedBytes } from './storage.ts'

/** `open` makes a storage that is empty; `close` removes it with all it holds. */
export type Fresh = { storage: Storage; close(): Promise<void> }

export function testStorage(name: string, open: () => Promise<Fresh>): void {
  describe(`${name} as a storage`, () => {
    let storage: Storage
    let close: () => Promise<void>
    before(async () => {
      ;({ storage, close } = await open())
    })
    after(() => close())

    const keep = (key: string, bytes: Buffer) => storage.put(key, bodyOf(bytes), bytes.length)
    const listed = (after?: string) => keysOf(storage, after)

    for (const size of [0, 1, 65_537, 5 * 1024 * 1024])
      test(`${size} bytes come back as they were put, and their size is known`, async () => {
        const bytes = bytesOf(size)
        const began = Date.now()
        await keep(`sizes/${size}`, bytes)
        assert.deepEqual(await readAll(storage, `sizes/${size}`), bytes)
        const found = await storage.stat(`sizes/${size}`)
        assert.equal(found?.key, `sizes/${size}`)
        assert.equal(found?.size, size)
        assert.ok(Number.isInteger(found?.modified) && Math.abs((found?.modified ?? 0) - began) < 60_000)
      })

    test('chunks of any cut come back as one body, and onChunk saw each in order', async () => {
      const bytes = bytesOf(700_001)
      const seen: Buffer[] = []
      const body = Readable.from(cut(bytes, [1, 7, 65_536, 3, 300_000]))
      await storage.put('cut', body, bytes.length, { onChunk: (chunk) => seen.push(Buffer.from(chunk)) })
      assert.deepEqual(Buffer.concat(seen), bytes)
      assert.deepEqual(await readAll(storage, 'cut'), bytes)
    })

    describe('ranges', () => {
      const bytes = bytesOf(1_000_000)
      before(() => keep('ranges', bytes))
      const last = bytes.length - 1
      for (const [start, end] of [
        [0, 0],
        [0, 1],
        [last, last],
        [last - 1, last],
        [0, last],
        [262_143, 262_144],
        [262_144, 524_287],
        [500_000, last],
        [999_990, last + 1_000],
      ] as const)
        test(`${start} to ${end}, both inclusive`, async () => {
          assert.deepEqual(await readAll(storage, 'ranges', { start, end }), bytes.subarray(start, end + 1))
        })

      test('storedBytes reads anywhere, cut off at the end', async () => {
        const file = storedBytes(storage, 'ranges', bytes.length)
        assert.deepEqual(Buffer.from(await file.read(10, 20)), bytes.subarray(10, 30))
        assert.deepEqual(Buffer.from(await file.read(last - 4, 100)), bytes.subarray(last - 4))
        assert.equal((await file.read(bytes.length, 10)).length, 0)
        assert.equal((await file.read(0, 0)).length, 0)
        await assert.rejects(storedBytes(storage, 'missing', 10).read(0, 10))
      })

      test('a reader that stops early does no harm', async () => {
        for (let round = 0; round < 50; round++) {
          const body = await storage.get('ranges')
          assert.ok(body)
          if (round % 2 === 0) await once(body, 'readable')
          body.destroy()
          await once(body, 'close')
        }
        assert.deepEqual(await readAll(storage, 'ranges'), bytes)
      })
    })

    test('a missing key has no body and no entry, and deleting it succeeds', async () => {
      for (const key of ['missing', 'missing/too']) {
        assert.equal(await storage.get(key), undefined)
        assert.equal(await storage.get(key, { start: 0, end: 1 }), undefined)
        assert.equal(await storage.stat(key), undefined)
        await storage.delete(key)
      }
    })

    test('what was deleted is gone, and a second time is success', async () => {
      await keep('deleted/one', bytesOf(10))
      await storage.delete('deleted/one')
      assert.equal(await storage.get('deleted/one'), undefined)
      assert.deepEqual(
        (await listed('deleted/')).filter((key) => key.startsWith('deleted/')),
        [],
      )
      await storage.delete('deleted/one')
    })

    test('a key that is not ours is refused', async () => {
      for (const key of ['', '/', '/a', 'a/', 'a//b', '../a', 'a/../b', 'a/.', 'A', 'a b', 'a.b', 'a\0', 'a\\b', 'ä']) {
        await assert.rejects(async () => await storage.put(key, bodyOf(bytesOf(1)), 1), JSON.stringify(key))
        await assert.rejects(async () => await storage.get(key), JSON.stringify(key))
        await assert.rejects(async () => await storage.stat(key), JSON.stringify(key))
        await assert.rejects(async () => await storage.delete(key), JSON.stringify(key))
      }
    })

    describe('a put that fails leaves nothing listed, and the key free:', () => {
      const bytes = bytesOf(600_000)
      const broken = () => {
        const body = new PassThrough()
        body.write(bytes.subarray(0, 400_000))
        setTimeout(() => body.destroy(new Error('the line broke')), 20)
        return body
      }
      const sources: [string, () => Readable, new () => Error][] = [
        ['a source that breaks', broken, BodyTooShort],
        ['a source that was broken before', () => bodyOf(bytes).destroy(), BodyTooShort],
        ['a source that breaks with an error while the storage opens', breakingAtOnce, BodyTooShort],
        ['a source that closes without an end', () => closing(bytes.subarray(0, 100_000)), BodyTooShort],
        ['a body one byte short', () => bodyOf(bytes.subarray(1)), BodyTooShort],
        ['an empty body', () => Readable.from([]), BodyTooShort],
        ['a body one byte long', () => Readable.from([bytes, Buffer.alloc(1)]), BodyTooLong],
        ['a body that never ends', () => Readable.from(forever()), BodyTooLong],
      ]
      for (const [what, source, expected] of sources)
        test(what, async () => {
          const before = await listed()
          const body = source()
          await assert.rejects(storage.put('failing/key', body, bytes.length), expected)
          body.destroy()
          assert.deepEqual(await listed(), before)
          assert.equal(await storage.get('failing/key'), undefined)
          await keep('failing/key', bytes)
          assert.deepEqual(await readAll(storage, 'failing/key'), bytes)
          await storage.delete('failing/key')
        })

      test('an abort before, and an abort half way, reject with its reason', async () => {
        const reason = new Error('enough')
        const before = await listed()
        const put = (signal: AbortSignal, body: Readable) => storage.put('failing/key', body, bytes.length, { signal })
        await assert.rejects(put(AbortSignal.abort(reason), bodyOf(bytes)), reason)
        const controller = new AbortController()
        const body = new PassThrough()
        body.write(bytes.subarray(0, 400_000))
        setTimeout(() => controller.abort(reason), 20)
        await assert.rejects(put(controller.signal, body), reason)
        body.destroy()
        assert.deepEqual(await listed(), before)
      })
    })

    test('list gives every key in order, with its size, and goes on after any key', async () => {
      const keys = [
        'l/a',
        'l/a-b',
        'l/a/b',
        'l/a/b-c',
        'l/a0',
        'l/a_b',
        'l/b/1',
        'l/b/2',
        'l/b0/0',
        'l/ba',
        'l2/x',
        'l-/x',
      ]
      // A file and a folder of one name cannot both be on every disk, and our keys never ask for it.
      const possible = keys.filter((key) => !keys.some((other) => other.startsWith(`${key}/`)))
      for (const [index, key] of possible.entries()) await keep(key, bytesOf(index))
      const ours = async (after?: string) => (await listed(after)).filter((key) => key.startsWith('l'))
      const sorted = [...possible].sort()
      assert.deepEqual(await ours(), sorted)
      for (const [index, key] of sorted.entries())
        assert.deepEqual(await ours(key), sorted.slice(index + 1), `after ${key}`)
      for (const between of ['k', 'l', 'l/', 'l/a/', 'l/a/bb', 'l/b/15', 'l/c', 'l1', 'm', 'zzz']) {
        assert.deepEqual(
          await ours(between),
          sorted.filter((key) => key > between),
          `after ${between}`,
        )
      }
      for await (const { key, size } of storage.list()) {
        if (key.startsWith('l')) assert.equal(size, possible.indexOf(key))
      }
    })

    test('many puts and deletes at once do not get in each other’s way', async () => {
      await Promise.all(
        Array.from({ length: 40 }, async (_, i) => {
          const bytes = bytesOf(10_000 + i)
          await keep(`many/${i % 4}/${i}`, bytes)
          assert.deepEqual(await readAll(storage, `many/${i % 4}/${i}`), bytes)
          if (i % 2 === 0) await storage.delete(`many/${i % 4}/${i}`)
        }),
      )
      assert.equal((await listed('many/')).filter((key) => key.startsWith('many/')).length, 20)
    })
  })
}

/** Without a period, so that a shifted or swapped piece shows. */
function bytesOf(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let i = 0, x = 1; i < size; i++) {
    x = (x * 1_103_515_245 + 12_345) & 0x7fffffff
    bytes[i] = x >> 16
  }
  return bytes
}

const bodyOf = (bytes: Buffer): Readable => Readable.from(cut(bytes, [65_536]))

function* cut(bytes: Buffer, sizes: number[]): Generator<Buffer> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    yield bytes.subarray(at, at + size)
    at += size
  }
}

function* forever(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(65_536)
}

/** Ends by closing, without 'end' and without an error. */
function closing(bytes: Buffer): Readable {
  const body = new PassThrough()
  body.write(bytes)
  setTimeout(() => body.destroy(), 20)
  return body
}

/** Fails before anyone could have listened to it, as a file that cannot be opened does. */
function breakingAtOnce(): Readable {
  return new Readable({
    construct: (done) => process.nextTick(done, new Error('it could not be opened')),
    read() {},
  })
}

async function readAll(storage: Storage, key: string, range?: { start: number; end: number }): Promise<Buffer> {
  const body = await storage.get(key, range)
  assert.ok(body, `${key} is missing`)
  const chunks: Buffer[] = []
  for await (const chunk of body) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

async function keysOf(storage: Storage, after?: string): Promise<string[]> {
  const entries: Entry[] = []
  for await (const entry of storage.list(after)) entries.push(entry)
  return entries.map(({ key }) => key)
}
