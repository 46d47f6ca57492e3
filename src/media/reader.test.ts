import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inMemory } from '../../test/fixtures/media/memory.ts'
import { HEAD_BYTES, Reader } from './reader.ts'

const letters = Buffer.alloc(1_000_000, 'abcdefghij')
const options = { timeoutMs: 1000 }

test('any range is given exactly, and shorter only at the end of the file', async () => {
  using reader = new Reader(inMemory(letters), options)
  for (const [offset, length] of [
    [0, 10],
    [65_530, 20],
    [3, 70_000],
    [999_990, 100],
    [1_000_000, 5],
    [2_000_000, 5],
  ] as const) {
    const expected = letters.subarray(offset, offset + length)
    assert.deepEqual(Buffer.from(await reader.read(offset, length)), expected, `${length} at ${offset}`)
  }
})

test('what was read before is not read again', async () => {
  const file = inMemory(letters)
  using reader = new Reader(file, options)
  await reader.head()
  await reader.read(100, 50)
  await reader.read(HEAD_BYTES - 4, 4)
  assert.equal(file.reads, 1)
  assert.equal(file.bytesRead, HEAD_BYTES)
})

test('a file that asks for more than the budget is given up', async () => {
  using reader = new Reader(inMemory(letters), options)
  await assert.rejects(async () => {
    for (let at = 0; at < letters.length; at += 20_000) await reader.read(at, 10)
  })
  assert.match(reader.exhausted ?? '', /scattered/)
  assert.equal(reader.broken, undefined)
})

test('a source that fails, or gives less than it has, breaks the reader for good', async () => {
  const failure = new Error('bucket away')
  using failing = new Reader({ size: 10, read: () => Promise.reject(failure) }, options)
  await assert.rejects(failing.head(), failure)
  assert.equal(failing.broken?.error, failure)
  await assert.rejects(failing.read(0, 1), failure)
  using short = new Reader({ size: 10, read: async () => new Uint8Array(3) }, options)
  await assert.rejects(short.head(), /3 of 10 bytes/)
  assert.notEqual(short.broken, undefined)
})
