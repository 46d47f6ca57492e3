/** The files that are sent around: a JPEG of 50 KB, a QuickTime film of 100 MB and one of 10 MB. Each begins as its format does. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs'

export const SMALL = { offset: 0, length: 50_000 }
export const LARGE = { offset: 65_536, length: 104_857_600 }
export const MIDDLE = { offset: 65_536, length: 10_000_000 }

const JPEG_START = Buffer.from('ffd8ffe000104a46494600010100000100010000ffdb', 'hex')
/** `ftyp` of 20 bytes, and one box of media data to the end of the file, whatever that is: size 0 says so. */
const FILM_START = Buffer.from('\0\0\0\x14ftypqt  \0\0\x02\0qt  \0\0\0\0mdat', 'latin1')

/** One file with both: slices of it are the bodies. Noise that is the same in every run and holds no other format's marks. */
export function writeBodies(path: string): void {
  const file = openSync(path, 'w')
  const noise = makeNoise(1 << 20)
  for (let at = 0; at < LARGE.length; at += noise.length) writeSync(file, noise, 0, noise.length, LARGE.offset + at)
  writeSync(file, noise, 0, LARGE.offset, 0)
  writeSync(file, JPEG_START, 0, JPEG_START.length, 0)
  writeSync(file, FILM_START, 0, FILM_START.length, LARGE.offset)
  closeSync(file)
}

function makeNoise(length: number): Buffer {
  const noise = Buffer.alloc(length)
  let state = 0x9e3779b9
  for (let at = 0; at < length; at += 4) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    noise.writeInt32LE(state, at)
  }
  return noise
}

export function readBody(path: string, slice: { offset: number; length: number }): Buffer {
  const bytes = Buffer.alloc(slice.length)
  const file = openSync(path, 'r')
  readSync(file, bytes, 0, slice.length, slice.offset)
  closeSync(file)
  return bytes
}
