import assert from 'node:assert/strict'
import { test } from 'node:test'
import { box, ftyp, moov } from '../../test/fixtures/media/containers.ts'
import {
  aac,
  acceptedFiles,
  aiff,
  amr,
  bmp,
  gif,
  id3,
  jpeg,
  mp3,
  png,
  tiff,
  wav,
} from '../../test/fixtures/media/files.ts'
import { inMemory } from '../../test/fixtures/media/memory.ts'
import { describe } from './describe.ts'
import { typeOf } from './types.ts'

const details = (content: Uint8Array, extension: string) => describe(inMemory(content), typeOf(extension))

test('pictures tell their size in pixels', async () => {
  for (const [content, extension] of [
    [png(30, 20), 'png'],
    [jpeg(30, 20), 'jpg'],
    [gif(30, 20), 'gif'],
    [bmp(30, 20), 'bmp'],
    [tiff(30, 20), 'tif'],
    [tiff(30, 20, false), 'tif'],
  ] as const) {
    assert.deepEqual(await details(content, extension), { width: 30, height: 20 }, extension)
  }
})

test("a photo's size is found behind its camera's metadata", async () => {
  const metadata = Buffer.concat([Buffer.from([0xff, 0xe1, 0xff, 0xff]), Buffer.alloc(65_533)])
  const photo = Buffer.concat([jpeg(30, 20).subarray(0, 2), metadata, metadata, jpeg(30, 20).subarray(2)])
  assert.deepEqual(await details(photo, 'jpg'), { width: 30, height: 20 })
})

test('sounds and films tell how long they play', async () => {
  for (const [content, extension, seconds] of [
    [wav(2), 'wav', 2],
    [aiff(), 'aiff', 1],
    [aiff('AIFC'), 'aiff', 1],
    [amr(50), 'amr', 1],
    [Buffer.concat([id3(), mp3(100)]), 'mp3', 2.612],
    [Buffer.concat([mp3(100), Buffer.from('TAG'), Buffer.alloc(125)]), 'mp3', 2.612],
    [aac(43), 'aac', 0.998],
    [Buffer.concat([ftyp('isom'), box('mdat', Buffer.alloc(9)), moov(['vide'])]), 'mp4', 2.5],
  ] as const) {
    assert.deepEqual(await details(content, extension), { durationSeconds: seconds }, extension)
  }
})

test('an MP3 with a frame count from its encoder is believed only when nothing was cut off', async () => {
  const first = Buffer.from(mp3(1))
  first.write('Xing', 36, 'latin1')
  first.writeUInt32BE(3, 40)
  first.writeUInt32BE(1000, 44)
  first.writeUInt32BE(417 * 1000, 48)
  assert.deepEqual(await details(Buffer.concat([first, mp3(999)]), 'mp3'), { durationSeconds: 26.122 })
  assert.deepEqual(await details(Buffer.concat([first, mp3(99)]), 'mp3'), { durationSeconds: 2.612 })
})

test('what cannot be known for sure is left out', async () => {
  const streamed = Buffer.from(wav())
  streamed.writeUInt32LE(0xffffffff, 40)
  const fragmented = Buffer.concat([ftyp('isom'), box('moov', [moov(['vide']).subarray(8), box('mvex')])])
  for (const [content, extension] of [
    [streamed, 'wav'],
    [fragmented, 'mp4'],
    [Buffer.concat([mp3(3), Buffer.from('junk at the end')]), 'mp3'],
    [mp3(3).subarray(0, -100), 'mp3'],
    [amr(3).subarray(0, -1), 'amr'],
    [png(0, 0), 'png'],
    [jpeg().subarray(0, 12), 'jpg'],
    [acceptedFiles()['letter.pdf'] ?? Buffer.alloc(0), 'pdf'],
  ] as const) {
    assert.deepEqual(await details(content, extension), {}, extension)
  }
})

test('a failing source gives no details and no error', async () => {
  const broken = { size: 1000, read: () => Promise.reject(new Error('bucket away')) }
  assert.deepEqual(await describe(broken, typeOf('png')), {})
})
