/**
 * What every storage has to pass; a backend's test calls it in three lines. The doubles are at the edge: sources that break,
 * stop short, run on or never end.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BodyTooLong, BodyTooShort, type Entry, type Storage, storedBytes } from './storage.ts'

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

    test('a piece that cannot be used ends the put with the reason and leaves nothing', async () => {
      const storage = ready()
      const key = newKey()
      const reason = new Error('it cannot be looked at')
      const body = endless()
      await assert.rejects(storage.put(key, body, 50 * MIB, { onChunk: () => Promise.reject(reason) }), reason)
      assert.equal(body.destroyed, false)
      body.destroy()
      await assertGone(storage, key)
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

    const sizes = [1, 64 * 1024 + 1, 3 * MIB]
    const broken: Record<string, { body: (size: number) => Readable; error: unknown }> = {
      'a short body': { body: (size) => chunked(randomBytes(size - 1)), error: BodyTooShort },
      'a body without an end': { body: (size) => breaking(randomBytes(size - 1), 'destroy'), error: BodyTooShort },
      'a source that fails': { body: (size) => breaking(randomBytes(size - 1), 'fail'), error: BodyTooShort },
      'a source that fails after its last byte': {
        body: (size) => breaking(randomBytes(size), 'fail'),
        error: BodyTooShort,
      },
      'a source that broke before': { body: (size) => chunked(randomBytes(size)).destroy(), error: BodyTooShort },
      'a source that fails while the storage opens': { body: breakingAtOnce, error: BodyTooShort },
      'a source that breaks half way': {
        body: (size) => breaking(randomBytes(Math.floor(size / 2)), 'fail'),
        error: BodyTooShort,
      },
      'a source that closes half way': {
        body: (size) => breaking(randomBytes(Math.floor(size / 2)), 'destroy'),
        error: BodyTooShort,
      },
      'an empty body': { body: () => Readable.from([]), error: BodyTooShort },
      'a long body': { body: (size) => chunked(randomBytes(size + 1)), error: BodyTooLong },
      'a much longer body': { body: (size) => chunked(randomBytes(size + MIB)), error: BodyTooLong },
      'a body in two pieces of which the second is too much': {
        body: (size) => Readable.from([randomBytes(size), Buffer.alloc(1)]),
        error: BodyTooLong,
      },
      'a body that never ends': { body: () => Readable.from(forever()), error: BodyTooLong },
    }
    for (const [what, { body, error }] of Object.entries(broken)) {
      test(`${what} leaves nothing, and the key free`, async () => {
        const storage = ready()
        for (const size of sizes) {
          const [key, source] = [newKey(), body(size)]
          await assert.rejects(storage.put(key, source, size), error as typeof BodyTooShort)
          source.destroy()
          await assertGone(storage, key)
          const bytes = randomBytes(size)
          await put(storage, key, bytes)
          assert.ok((await read(storage, key)).equals(bytes))
          await storage.delete(key)
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

    test('an abort while the source is silent half way rejects with its reason', async () => {
      const storage = ready()
      const key = newKey()
      const controller = new AbortController()
      const reason = new Error('enough')
      const body = new PassThrough()
      body.write(randomBytes(400_000))
      setTimeout(() => controller.abort(reason), 20)
      await assert.rejects(storage.put(key, body, 600_000, { signal: controller.signal }), reason)
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

    test('everything is listed in key order, from any key on', async () => {
      const storage = ready()
      const names = [
        'a',
        'a-b',
        'a/b',
        'a/b-c',
        'a/bb',
        'a0',
        'a_b',
        'ab',
        'b/a/a/a',
        'b/a/b',
        'b0/0',
        'ba',
        'c-',
        'c/',
        'z9',
      ]
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
        'list-',
        'list0',
        found.at(-1),
        'zzz',
        ...sorted,
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

/** Fails before anyone could have listened to it, as a file that cannot be opened does. */
function breakingAtOnce(): Readable {
  return new Readable({
    construct: (done) => process.nextTick(done, new Error('it could not be opened')),
    read() {},
  })
}
