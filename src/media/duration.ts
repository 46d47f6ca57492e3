/**
 * How long a sound or film plays, where a header says so or the frames can be counted without reading much. Correct or
 * absent: a stream's placeholder length, a fragmented film or a cut file gives nothing.
 */

import { asView, latin1 } from './binary.ts'
import { findBox } from './isobmff.ts'
import { type Frame, findFrame, parseFrame } from './mpeg-audio.ts'
import type { Reader } from './reader.ts'

/** Files up to this size have their frames counted. */
const COUNTED_BYTES = 384 * 1024
const MAX_CHUNKS = 200
const PCM_FORMATS = new Set([1, 3, 6, 7, 0xfffe])
const AIFC_PCM = /^(NONE|twos|sowt|raw |fl32|fl64|FL32|FL64|in24|in32|ulaw|alaw)$/
/** Bytes per 20 ms frame by frame type, header included; the rest are reserved. */
const AMR_NB = [13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1]
const AMR_WB = [18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1]

/** Seconds. `format` is the name in the table of media types. */
export async function readDuration(file: Reader, format: string): Promise<number | undefined> {
  const seconds = await measure(file, format)
  return seconds !== undefined && Number.isFinite(seconds) && seconds > 0
    ? Math.round(seconds * 1000) / 1000
    : undefined
}

async function measure(file: Reader, format: string): Promise<number | undefined> {
  switch (format) {
    case 'MP4':
    case 'MOV':
    case 'M4V':
    case 'M4A':
    case '3GP':
      return measureMovie(file)
    case 'WAV':
      return measureWav(file)
    case 'AIFF':
      return measureAiff(file)
    case 'AMR':
      return measureAmr(file)
    case 'MP3':
      return measureMp3(file)
    case 'AAC':
      return countFrames(file, 'aac')
    default:
      return undefined
  }
}

async function measureMovie(file: Reader): Promise<number | undefined> {
  const moov = await findBox(file, 'moov', 0, file.size)
  const mvhd = moov && (await findBox(file, 'mvhd', moov.body, moov.end))
  if (moov === undefined || mvhd === undefined) return undefined
  if ((await findBox(file, 'mvex', moov.body, moov.end)) !== undefined) return undefined
  const header = asView(await file.read(mvhd.body, 32))
  const isLong = header.getUint8(0) === 1
  const scale = header.getUint32(isLong ? 20 : 12)
  const units = isLong ? Number(header.getBigUint64(24)) : header.getUint32(16)
  return units >= (isLong ? 2 ** 53 : 0xffffffff) ? undefined : units / scale
}

async function measureWav(file: Reader): Promise<number | undefined> {
  let bytesPerSecond = 0
  for await (const { type, at, length } of chunks(file, true)) {
    const body = asView(await file.read(at, 16))
    if (type === 'fmt ') bytesPerSecond = PCM_FORMATS.has(body.getUint16(0, true)) ? body.getUint32(8, true) : 0
    if (type === 'data') return at + length <= file.size && bytesPerSecond > 0 ? length / bytesPerSecond : undefined
  }
  return undefined
}

async function measureAiff(file: Reader): Promise<number | undefined> {
  const isAifc = latin1(await file.read(8, 4)) === 'AIFC'
  let seconds: number | undefined
  let isComplete = false
  for await (const { type, at, length } of chunks(file, false)) {
    if (type === 'SSND') isComplete = at + length <= file.size
    if (type !== 'COMM') continue
    const body = asView(await file.read(at, 22))
    const isPcm = !isAifc || AIFC_PCM.test(latin1(await file.read(at + 18, 4)))
    if (isPcm) seconds = body.getUint32(2) / readExtended(body, 8)
  }
  return isComplete ? seconds : undefined
}

/** An 80-bit float: 15 bits of exponent, 64 of mantissa with its leading one. */
function readExtended(body: DataView, offset: number): number {
  return Number(body.getBigUint64(offset + 2)) * 2 ** ((body.getUint16(offset) & 0x7fff) - 16_383 - 63)
}

async function* chunks(file: Reader, little: boolean): AsyncGenerator<{ type: string; at: number; length: number }> {
  let at = 12
  for (let count = 0; count < MAX_CHUNKS && at + 8 <= file.size; count++) {
    const head = await file.read(at, 8)
    const length = asView(head).getUint32(4, little)
    yield { type: latin1(head.subarray(0, 4)), at: at + 8, length }
    at += 8 + length + (length % 2)
  }
}

async function measureAmr(file: Reader): Promise<number | undefined> {
  if (file.size > COUNTED_BYTES) return undefined
  const bytes = await file.read(0, file.size)
  const isWide = latin1(bytes.subarray(0, 9)) === '#!AMR-WB\n'
  let frames = 0
  for (let at = isWide ? 9 : 6; at < bytes.length; frames++) {
    const length = (isWide ? AMR_WB : AMR_NB)[((bytes[at] ?? 0) >> 3) & 15]
    if (!length || at + length > bytes.length) return undefined
    at += length
  }
  return frames / 50
}

async function measureMp3(file: Reader): Promise<number | undefined> {
  const first = await findFrame(file, 'mp3')
  if (first === undefined) return undefined
  return (await readXing(file, first)) ?? countFrames(file, 'mp3')
}

/** The encoder's own count in the first frame, believed when its byte count matches the file: then nothing was cut off. */
async function readXing(file: Reader, { at, frame }: { at: number; frame: Frame }): Promise<number | undefined> {
  const offset = 4 + (frame.isMpeg1 ? (frame.isMono ? 17 : 32) : frame.isMono ? 9 : 17)
  const bytes = await file.read(at + offset, 16)
  if (bytes.length < 16 || !/^(Xing|Info)$/.test(latin1(bytes.subarray(0, 4)))) return undefined
  const tag = asView(bytes)
  if ((tag.getUint32(4) & 3) !== 3) return undefined
  const missing = Math.abs(file.size - at - tag.getUint32(12))
  return missing <= Math.max(4096, file.size / 100) ? (tag.getUint32(8) * frame.samples) / frame.sampleRate : undefined
}

/** Every frame to the end of the file, behind which only a tag may follow. */
async function countFrames(file: Reader, kind: 'mp3' | 'aac'): Promise<number | undefined> {
  const first = file.size > COUNTED_BYTES ? undefined : await findFrame(file, kind)
  if (first === undefined) return undefined
  const bytes = await file.read(first.at, file.size - first.at)
  let [at, seconds] = [0, 0]
  while (at < bytes.length) {
    const frame = parseFrame(bytes.subarray(at, at + 7))
    if (frame?.kind !== kind) break
    at += frame.bytes
    seconds += frame.samples / frame.sampleRate
  }
  const rest = latin1(bytes.subarray(at, at + 8))
  return at === bytes.length || rest.startsWith('TAG') || rest === 'APETAGEX' ? seconds : undefined
}
