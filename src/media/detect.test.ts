import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { acceptedFiles, jpeg, png } from '../../test/fixtures/media/files.ts'
import { inMemory, padded } from '../../test/fixtures/media/memory.ts'
import type { Bytes } from './bytes.ts'
import { detect } from './detect.ts'

const never: Bytes = { size: 100, read: () => new Promise(() => {}) }

test('a storage that fails rejects with its own error, at whichever read', async () => {
  const failure = new Error('bucket away')
  for (const [filename, content] of Object.entries(acceptedFiles())) {
    const file = inMemory(Buffer.concat([content, Buffer.alloc(filename.endsWith('.mp4') ? 0 : 200_000, 32)]))
    await detect(file)
    for (let failing = 1; failing <= file.reads; failing++) {
      let count = 0
      const flaky: Bytes = {
        size: file.size,
        read: (offset, length) => (++count === failing ? Promise.reject(failure) : file.read(offset, length)),
      }
      const reads = file.reads
      await assert.rejects(detect(flaky), failure, `${filename}, read ${failing}`)
      file.reads = reads
    }
  }
})

test('a storage that gives fewer bytes than the file has rejects instead of refusing the file', async () => {
  const cut: Bytes = { size: 50_000, read: async () => jpeg().subarray(0, 10) }
  await assert.rejects(detect(cut), /10 of 50000 bytes/)
})

test('an abort rejects with its reason, before and during a read', async () => {
  const reason = new Error('the caller went away')
  await assert.rejects(detect(never, { signal: AbortSignal.abort(reason) }), reason)
  const controller = new AbortController()
  const pending = detect(never, { signal: controller.signal })
  await wait(5)
  controller.abort(reason)
  await assert.rejects(pending, reason)
})

test('a read that does not answer in time rejects with a TimeoutError', async () => {
  await assert.rejects(detect(never, { timeoutMs: 20 }), { name: 'TimeoutError' })
})

test('an empty file and noise are refused as what they are', async () => {
  assert.deepEqual(await detect(inMemory('')), { refused: 'an empty file' })
  assert.deepEqual(await detect(inMemory(Buffer.from([0x9a, 0x3c, 0x5f, 0x01, 0, 0]))), {
    refused: 'a file of unknown type',
  })
  assert.deepEqual(await detect(inMemory(Buffer.alloc(64))), { refused: 'a file of unknown type' })
})

test('a file that begins as an accepted format and is none is called damaged', async () => {
  for (const [content, name] of [
    [Buffer.concat([Buffer.from([0, 0, 0, 8]), Buffer.from('free'), Buffer.alloc(9)]), 'MOV'],
    [Buffer.concat([Buffer.from('GIF89a'), Buffer.alloc(20)]), 'GIF'],
    [Buffer.concat([Buffer.from('BM'), Buffer.alloc(60)]), 'BMP'],
    [Buffer.concat([Buffer.from([0, 0, 1, 0xba, 0, 0, 0, 0]), Buffer.alloc(60)]), 'MPEG'],
  ] as const) {
    assert.deepEqual(await detect(inMemory(content)), { refused: `a damaged ${name} file` })
  }
})

test('every accepted file cut at any byte is still answered', async () => {
  for (const content of Object.values(acceptedFiles())) {
    for (let length = 0; length < Math.min(content.length, 700); length += 7) {
      await detect(inMemory(content.subarray(0, length)))
    }
  }
})

test('a photo of 100 MB costs two reads and 130 KB', async () => {
  const file = padded(png(), 0, Buffer.alloc(0), 104_857_600)
  const detection = await detect(file)
  assert.ok('type' in detection && detection.type.name === 'PNG')
  assert.ok(file.reads <= 3, `${file.reads} reads`)
  assert.ok(file.bytesRead <= 160 * 1024, `${file.bytesRead} bytes`)
})
