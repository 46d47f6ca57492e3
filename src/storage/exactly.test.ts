/** The body on its way to a bucket; what becomes of it there is in conformance.ts. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { exactly } from './exactly.ts'

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await turn()
}

test('a chunk that is needed no longer lets no more in while the reader is slow', async () => {
  const size = 256 * 1024
  const chunks = Array.from({ length: 6 }, (_, i) => Buffer.alloc(size, i))
  const needed = Promise.withResolvers<void>()
  let seen = 0
  const out = exactly(Readable.from(chunks), chunks.length * size, {
    onChunk: () => (++seen === 2 ? needed.promise : undefined),
  })
  out.read(0)
  await turns(10)
  assert.equal(seen, 2, 'one waits for its reader, one is held back')
  needed.resolve()
  await turns(10)
  assert.equal(seen, 2)
  assert.deepEqual(Buffer.concat(await out.toArray()), Buffer.concat(chunks))
})

test('however fast the reader is, only so many chunks are needed at a time', async () => {
  const chunks = Array.from({ length: 20 }, (_, i) => Buffer.alloc(1_000, i))
  const needed = Promise.withResolvers<void>()
  let seen = 0
  const out = exactly(Readable.from(chunks), 20_000, {
    onChunk() {
      seen++
      return needed.promise
    },
  })
  const all = out.toArray()
  await turns(30)
  assert.equal(seen, 8)
  needed.resolve()
  assert.deepEqual(Buffer.concat(await all), Buffer.concat(chunks))
})
