/**
 * Frames of MP3 (MPEG layer III) and AAC (ADTS). One frame header is eleven set bits and some luck, which random bytes have
 * too; two in a row at the distance the first one gives are a sound file. ID3 tags in front are stepped over by size.
 */

import type { Reader } from './reader.ts'

export type Frame = {
  readonly kind: 'mp3' | 'aac'
  readonly bytes: number
  readonly samples: number
  readonly sampleRate: number
  readonly isMono: boolean
  readonly isMpeg1: boolean
}

const MAX_TAGS = 16
/** How far behind the tags a first frame is looked for: writers leave padding there. */
const SEARCH_BYTES = 4096

const MPEG1_KBPS = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]
const MPEG2_KBPS = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
const MPEG1_RATES = [44_100, 48_000, 32_000]
const AAC_RATES = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350]

/** Where the first of two consecutive frames of that kind begins; a lone last frame counts too. */
export async function findFrame(
  file: Reader,
  kind: 'mp3' | 'aac',
): Promise<{ readonly at: number; readonly frame: Frame } | undefined> {
  const start = await skipTags(file)
  if (start === undefined) return undefined
  const bytes = await file.read(start, SEARCH_BYTES)
  for (let i = 0; i + 7 <= bytes.length; i++) {
    if (bytes[i] !== 0xff) continue
    const frame = parseFrame(bytes.subarray(i))
    if (frame?.kind === kind && (await isFollowed(file, start + i, frame))) return { at: start + i, frame }
  }
  return undefined
}

/** The offset behind all ID3v2 tags; undefined when one of them claims to be longer than the file. */
async function skipTags(file: Reader): Promise<number | undefined> {
  let at = 0
  for (let count = 0; count < MAX_TAGS; count++) {
    const tag = await file.read(at, 10)
    if (tag.length < 10 || tag[0] !== 0x49 || tag[1] !== 0x44 || tag[2] !== 0x33) return at
    const [flags = 0, a = 0, b = 0, c = 0, d = 0] = tag.subarray(5)
    at += 10 + (((a & 127) << 21) | ((b & 127) << 14) | ((c & 127) << 7) | (d & 127)) + (flags & 0x10 ? 10 : 0)
    if (at >= file.size) return undefined
  }
  return undefined
}

async function isFollowed(file: Reader, at: number, frame: Frame): Promise<boolean> {
  const next = at + frame.bytes
  if (next >= file.size) return next === file.size
  const following = parseFrame(await file.read(next, 7))
  return following?.kind === frame.kind && following.sampleRate === frame.sampleRate
}

export function parseFrame(bytes: Uint8Array): Frame | undefined {
  const [sync, b1 = 0, b2 = 0, b3 = 0, b4 = 0, b5 = 0, b6 = 0] = bytes
  if (sync !== 0xff || bytes.length < 4) return undefined
  if ((b1 & 0xf6) === 0xf0) {
    const length = ((b3 & 3) << 11) | (b4 << 3) | (b5 >> 5)
    const sampleRate = AAC_RATES[(b2 >> 2) & 15]
    if (bytes.length < 7 || sampleRate === undefined || length < 7) return undefined
    return { kind: 'aac', bytes: length, samples: 1024 * ((b6 & 3) + 1), sampleRate, isMono: false, isMpeg1: false }
  }
  const version = (b1 >> 3) & 3
  if ((b1 & 0xe6) !== 0xe2 || version === 1) return undefined
  const isMpeg1 = version === 3
  const kbps = (isMpeg1 ? MPEG1_KBPS : MPEG2_KBPS)[b2 >> 4]
  const fullRate = MPEG1_RATES[(b2 >> 2) & 3]
  if (!kbps || fullRate === undefined) return undefined
  const sampleRate = isMpeg1 ? fullRate : fullRate / (version === 2 ? 2 : 4)
  const samples = isMpeg1 ? 1152 : 576
  const length = Math.floor((samples * kbps * 125) / sampleRate) + ((b2 >> 1) & 1)
  return { kind: 'mp3', bytes: length, samples, sampleRate, isMono: b3 >> 6 === 3, isMpeg1 }
}
