import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { spool } from './spool.ts'
import { BodyTooLong, BodyTooShort } from './storage.ts'

const never = new AbortController().signal
let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'satchel-spool-'))
})
after(() => rm(folder, { recursive: true }))

const left = () => readdir(folder)

test('a body of unknown length is measured, hashed, scanned and can be read from anywhere, then is gone', async () => {
  const bytes = Buffer.from('abc\n'.repeat(200_000))
  {
    await using file = await spool(folder, Readable.from([bytes.subarray(0, 3), bytes.subarray(3)]), 1_000_000, never)
    assert.equal(file.bytes.size, 800_000)
    assert.equal(file.sha256, createHash('sha256').update(bytes).digest('hex'))
    assert.equal(file.text.isText, true)
    assert.deepEqual(Buffer.from(await file.bytes.read(799_998, 10)), Buffer.from('c\n'))
    for (let reading = 0; reading < 2; reading++) assert.deepEqual(Buffer.concat(await file.stream().toArray()), bytes)
    const [name = ''] = await left()
    assert.equal((await stat(join(folder, name))).mode & 0o777, 0o600)
  }
  assert.deepEqual(await left(), [])
})

test('an empty body is empty', async () => {
  await using file = await spool(folder, Readable.from([]), 10, never)
  assert.equal(file.bytes.size, 0)
})

test('a body past the limit, one that breaks and an abort leave no file', async () => {
  await assert.rejects(spool(folder, Readable.from([Buffer.alloc(11)]), 10, never), BodyTooLong)
  const broken = new PassThrough()
  broken.write('x')
  setTimeout(() => broken.destroy(new Error('broke')), 10)
  await assert.rejects(spool(folder, broken, 10, never), BodyTooShort)
  const reason = new Error('enough')
  await assert.rejects(spool(folder, new PassThrough(), 10, AbortSignal.abort(reason)), reason)
  const late = new AbortController()
  setTimeout(() => late.abort(reason), 10)
  await assert.rejects(spool(folder, new PassThrough(), 10, late.signal), reason)
  assert.deepEqual(await left(), [])
})

test('a body that broke while the file was opened is a broken body, not a crash', async () => {
  const body = new Readable({ construct: (done) => process.nextTick(done, new Error('refused')), read() {} })
  await assert.rejects(spool(folder, body, 10, never), BodyTooShort)
  assert.deepEqual(await left(), [])
})
