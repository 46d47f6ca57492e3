import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readEventStream } from './event-stream.ts'

/** In pieces of `size` bytes, so that lines, characters and CRLFs are torn. */
async function* inPieces(text: string, size: number) {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function read(text: string, size = 1) {
  const events = []
  for await (const event of readEventStream(inPieces(text, size))) events.push(event)
  return events
}

test('fields, comments, joined data and any line end, however the bytes are cut', async () => {
  const lines = [
    ': ready',
    '',
    'id: 1',
    'event: message.read',
    'data: {"text":"Grüße 👋"}',
    '',
    'data:a',
    'data:  b',
    '',
    '',
  ]
  const expected = [
    { id: '1', event: 'message.read', data: '{"text":"Grüße 👋"}' },
    { id: '1', event: 'message', data: 'a\n b' },
  ]
  for (const lineEnd of ['\n', '\r\n', '\r']) {
    // A lone CR at the very end may be half of a CRLF, so one more line tells that it is not.
    const text = `${lines.join(lineEnd)}${lineEnd === '\r' ? ':' : ''}`
    for (const size of [1, 2, 3, 1000])
      assert.deepEqual(await read(text, size), expected, JSON.stringify([lineEnd, size]))
  }
})

test('unknown fields and ids with NUL are passed over, an unfinished event is dropped', async () => {
  const text = 'retry: 5\nid\ndata\nid: a\0b\n\nid: 2\ndata: x\n\ndata: lost\n'
  assert.deepEqual(await read(text), [
    { id: '', event: 'message', data: '' },
    { id: '2', event: 'message', data: 'x' },
  ])
})

test('an id without data is told once', async () => {
  assert.deepEqual(await read('id: 7\n\n: beat\n\ndata: x\n\n'), [
    { id: '7', event: 'message', data: '' },
    { id: '7', event: 'message', data: 'x' },
  ])
})

test('a line without end is given up', async () => {
  async function* endless() {
    for (;;) yield Buffer.alloc(1024 * 1024, 'x')
  }
  await assert.rejects(readEventStream(endless()).next(), /too long/)
})
