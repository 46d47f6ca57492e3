/** The part of the storages' suite about bodies that are not what was promised, break, or are given up: nothing of them is kept. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { test } from 'node:test'
import { assertGone, breaking, breakingAtOnce, chunked, endless, forever, put, read } from './conformance-sources.ts'
import { BodyTooLong, BodyTooShort, type Storage } from './storage.ts'

const MIB = 1024 * 1024

export function refusalConformance(ready: () => Storage, newKey: () => string): void {
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
}
