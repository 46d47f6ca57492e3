/**
 * Width and height in pixels as the file's header states them, before any rotation that metadata asks for. Only what a
 * header says plainly is reported; everything else is left out rather than guessed.
 */

import { asView } from './binary.ts'
import type { Reader } from './reader.ts'

export type Dimensions = { readonly width: number; readonly height: number }

const TIFF_WIDTH = 256
const TIFF_HEIGHT = 257
const SHORT = 3
const LONG = 4

/** `format` is the name in the table of media types. */
export async function readDimensions(file: Reader, format: string): Promise<Dimensions | undefined> {
  const size = await measure(file, format)
  return size !== undefined && size.width > 0 && size.height > 0 ? size : undefined
}

async function measure(file: Reader, format: string): Promise<Dimensions | undefined> {
  const head = asView(await file.read(0, 32))
  switch (format) {
    case 'PNG':
      return { width: head.getUint32(16), height: head.getUint32(20) }
    case 'GIF':
      return { width: head.getUint16(6, true), height: head.getUint16(8, true) }
    case 'BMP':
      return head.getUint32(14, true) === 12 || head.getUint32(14, true) === 16
        ? undefined
        : { width: head.getInt32(18, true), height: Math.abs(head.getInt32(22, true)) }
    case 'JPEG':
      return measureJpeg(file)
    case 'TIFF':
      return measureTiff(file, head)
    default:
      return undefined
  }
}

/** Steps over the segments in front of the frame header, however large the camera's metadata are. */
async function measureJpeg(file: Reader): Promise<Dimensions | undefined> {
  let at = 2
  for (let segments = 0; segments < 500; segments++) {
    const segment = asView(await file.read(at, 9))
    if (segment.byteLength < 9 || segment.getUint8(0) !== 0xff) return undefined
    const marker = segment.getUint8(1)
    if (marker === 0xff) at += 1
    else if (isFrame(marker)) return { height: segment.getUint16(5), width: segment.getUint16(7) }
    else if (marker === 0xda || marker === 0xd9) return undefined
    else at += 2 + segment.getUint16(2)
  }
  return undefined
}

/** SOF0 to SOF15 without the tables that have numbers among them. */
function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
}

/** The first directory, which is the first page. */
async function measureTiff(file: Reader, head: DataView): Promise<Dimensions | undefined> {
  const little = head.getUint8(0) === 0x49
  const start = head.getUint32(4, little)
  const count = asView(await file.read(start, 2)).getUint16(0, little)
  const directory = asView(await file.read(start + 2, Math.min(count, 512) * 12))
  let [width, height] = [0, 0]
  for (let at = 0; at + 12 <= directory.byteLength; at += 12) {
    const tag = directory.getUint16(at, little)
    const type = directory.getUint16(at + 2, little)
    const value =
      type === SHORT ? directory.getUint16(at + 8, little) : type === LONG ? directory.getUint32(at + 8, little) : 0
    if (tag === TIFF_WIDTH) width = value
    if (tag === TIFF_HEIGHT) height = value
  }
  return { width, height }
}
