/** What becomes of uploads when the thread dies is in test/bytes/hostile-disk.test.ts. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { hashing } from './digests.ts'

const MB = 1024 * 1024
const expected = (bytes: Uint8Array) => ({
  sha256: createHash('sha256').update(bytes).digest('hex'),
  md5: createHash('md5').update(bytes).digest('hex'),
})

async function digestsOf(bytes: Buffer, length: number): Promise<{ sha256: string; md5: string }> {
  using digests = hashing(bytes.length)
  const read: Promise<void>[] = []
  for (let at = 0; at < bytes.length; at += length) {
    const until = digests.update(bytes.subarray(at, at + length))
    if (until) read.push(until)
  }
  await Promise.all(read)
  return await digests.digest()
}

const shared = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(new SharedArrayBuffer(bytes.length))
  bytes.copy(copy)
  return copy
}

describe('the digests of a body', () => {
  for (const [size, length] of [
    [0, 1],
    [70_001, 1000],
    [4 * MB, 65_536],
    [5 * MB + 1, 65_536],
    [6 * MB, 6 * MB],
    [5_000_017, 99_991],
  ] as const)
    test(`of ${size} bytes in pieces of ${length} are what node:crypto says of the whole`, async () => {
      const bytes = randomBytes(size)
      assert.deepEqual(await digestsOf(bytes, length), expected(bytes))
      assert.deepEqual(await digestsOf(shared(bytes), length), expected(bytes))
    })

  test('many at once do not mix', async () => {
    const bodies = Array.from({ length: 12 }, (_, i) => randomBytes(4 * MB + i * 77_777))
    const digests = await Promise.all(bodies.map((bytes, i) => digestsOf(bytes, 30_000 + i * 10_007)))
    assert.deepEqual(digests, bodies.map(expected))
  })

  test('a piece may be overwritten once it was read', async () => {
    const bytes = randomBytes(20 * MB)
    const block = Buffer.from(new SharedArrayBuffer(MB))
    using digests = hashing(bytes.length)
    for (let at = 0; at < bytes.length; at += MB) {
      bytes.copy(block, 0, at)
      await digests.update(block)
    }
    block.fill(0)
    assert.deepEqual(await digests.digest(), expected(bytes))
  })

  test('a body that is given up does not disturb the next', async () => {
    for (let round = 0; round < 3; round++) {
      using digests = hashing(8 * MB)
      void digests.update(randomBytes(3 * MB))
    }
    const bytes = randomBytes(4 * MB)
    assert.deepEqual(await digestsOf(bytes, 65_536), expected(bytes))
  })
})
