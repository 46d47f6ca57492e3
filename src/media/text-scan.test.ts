import assert from 'node:assert/strict'
import { test } from 'node:test'
import { utf16be, utf16le } from '../../test/fixtures/media/files.ts'
import { isText, TextScan } from './text-scan.ts'

const latin1 = (text: string) => Buffer.from(text, 'latin1')

/** The verdict on these bytes, which must not depend on how they were cut into chunks. */
function scan(bytes: Uint8Array): boolean {
  const verdicts = [1, 2, 3, 7, bytes.length || 1].map((step) => {
    const running = new TextScan()
    for (let at = 0; at < bytes.length; at += step) running.update(bytes.subarray(at, at + step))
    assert.equal(running.size, bytes.length)
    return running.isText
  })
  assert.equal(new Set(verdicts).size, 1, 'the verdict depends on the chunks')
  return verdicts[0] ?? false
}

test('text of any encoding is text', () => {
  for (const text of [
    latin1('plain\r\n\ttext\f with \x1b[1mcolour\x1b[0m and a bell\x07'),
    Buffer.from('Grüße, 你好, 😀'),
    Buffer.from('\ufeffwith a byte-order mark'),
    latin1('caf\xe9 \x80\x99'),
    utf16le('Grüße, 😀'),
    utf16be('Grüße, 😀'),
    latin1('DOS text\r\n\x1a'),
    utf16le('DOS text\x1a'),
    latin1(''),
    latin1('x'),
  ]) {
    assert.equal(scan(text), true, JSON.stringify(text.toString('latin1')))
  }
})

test('one control character anywhere makes it binary', () => {
  for (const code of [0, 1, 6, 11, 14, 26, 28, 31]) {
    assert.equal(scan(latin1(`some text${String.fromCharCode(code)}more`)), false, `code ${code}`)
  }
  for (const start of ['\0', '\x01\x02', '\x7fELF\x01', '\x1a\x1a']) assert.equal(scan(latin1(start)), false)
})

test('UTF-16 without a byte-order mark, with lone surrogates or with control units is binary', () => {
  assert.equal(scan(utf16le('text').subarray(2)), false)
  assert.equal(scan(Buffer.concat([utf16le('text'), Buffer.from([0x00, 0xd8, 0x41, 0x00])])), false)
  assert.equal(scan(Buffer.concat([utf16le('text'), Buffer.from([0x00, 0xdc])])), false)
  assert.equal(scan(utf16be('text\0')), false)
})

test('a character cut at the end is no proof of binary', () => {
  assert.equal(scan(Buffer.from('Grüße 😀').subarray(0, -2)), true)
  assert.equal(scan(utf16le('Grüße 😀').subarray(0, -1)), true)
})

test('a part from inside a UTF-16 file is scanned in the encoding given', () => {
  assert.equal(isText(utf16le('inside').subarray(2), 'utf-16le'), true)
  assert.equal(isText(utf16be('inside').subarray(2), 'utf-16be'), true)
})

test('100 MB of photo cost nothing once the first chunk is known to be binary', () => {
  const running = new TextScan()
  const chunk = Buffer.alloc(1024 * 1024, 0)
  const startedAt = cpuMs()
  for (let i = 0; i < 100; i++) running.update(chunk)
  assert.ok(cpuMs() - startedAt < 100)
  assert.equal(running.size, 100 * chunk.length)
  assert.equal(running.isText, false)
})

/** What this thread has computed so far, in ms: a busy machine does not stretch it. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
