/**
 * Whether a file of another format is a ZIP archive too: such a file shows a picture to one program and runs as a JAR in
 * another. The test is a ZIP end record whose comment reaches exactly to the last byte; no honest file ends so.
 */

import type { Reader } from './reader.ts'
import type { MediaType } from './types.ts'

const END_BYTES = 22
const MAX_COMMENT = 65_535
const SIGNATURE = Buffer.from('PK\x05\x06', 'latin1')

export async function endsAsZip(file: Reader, type: MediaType): Promise<boolean> {
  if (type.contentType.startsWith('text/') && type.name !== 'RTF') return false // no text holds the signature's bytes
  const start = Math.max(0, file.size - END_BYTES - MAX_COMMENT)
  const bytes = await file.read(start, END_BYTES + MAX_COMMENT)
  const tail = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = tail.lastIndexOf(SIGNATURE); at >= 0; at = at === 0 ? -1 : tail.lastIndexOf(SIGNATURE, at - 1)) {
    if (at + END_BYTES > tail.length) continue
    if (at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return true
  }
  return false
}
