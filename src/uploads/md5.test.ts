import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { Failure } from '../failure.ts'
import { endThread, md5Of } from './md5.ts'

const MB = 1024 * 1024
const expected = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex')

async function md5In(bytes: Buffer, piece: number): Promise<string> {
  using md5 = md5Of(bytes.length)
  for (let at = 0; at < bytes.length; at += piece) {
    md5.update(bytes.subarray(at, at + piece))
    await md5.hold()
  }
  return await md5.digest()
}

describe('the MD5 of a body', () => {
  for (const [size, piece] of [
    [0, 1],
    [70_001, 1000],
    [4 * MB, 65_536],
    [5 * MB + 1, 65_536],
    [6 * MB, 6 * MB],
    [5_000_017, 99_991],
  ] as const)
    test(`of ${size} bytes in pieces of ${piece} is what node:crypto says of the whole`, async () => {
      const bytes = randomBytes(size)
      assert.equal(await md5In(bytes, piece), expected(bytes))
    })

  test('many at once do not mix', async () => {
    const bodies = Array.from({ length: 12 }, (_, i) => randomBytes(4 * MB + i * 77_777))
    const digests = await Promise.all(bodies.map((bytes, i) => md5In(bytes, 30_000 + i * 10_007)))
    assert.deepEqual(digests, bodies.map(expected))
  })

  test('a body that comes faster than it is hashed is held back, and nothing of it is lost', async () => {
    const bytes = randomBytes(20 * MB)
    using md5 = md5Of(bytes.length)
    md5.update(bytes)
    const held = md5.hold()
    assert.ok(held)
    await held
    assert.equal(md5.hold(), undefined)
    assert.equal(await md5.digest(), expected(bytes))
  })

  test('a body that is given up does not disturb the next', async () => {
    for (let round = 0; round < 3; round++) {
      using md5 = md5Of(8 * MB)
      md5.update(randomBytes(3 * MB))
    }
    const bytes = randomBytes(4 * MB)
    assert.equal(await md5In(bytes, 65_536), expected(bytes))
  })

  test('when the thread dies its bodies fail as something to try again, and the next one gets a new thread', async () => {
    // So much that the thread cannot be through with it before it is gone.
    const endless = Buffer.alloc(200 * MB)
    using held = md5Of(endless.length)
    using ending = md5Of(endless.length)
    held.update(endless)
    ending.update(endless)
    const outcomes = Promise.allSettled([held.hold(), ending.digest()])
    await endThread()
    for (const outcome of await outcomes) {
      assert.equal(outcome.status, 'rejected')
      assert.ok(outcome.reason instanceof Failure && outcome.reason.status === 503)
    }
    await assert.rejects(async () => await held.hold(), Failure)
    await assert.rejects(held.digest(), Failure)
    held.update(endless)
    const bytes = randomBytes(4 * MB)
    assert.equal(await md5In(bytes, 65_536), expected(bytes))
  })
})
