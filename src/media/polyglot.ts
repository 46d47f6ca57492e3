/**
 * Whether a file of another format is a ZIP archive too: such a file shows a picture to one program and runs as a JAR in
 * another. A ZIP end record whose comment reaches exactly to the last byte is proof in any format. Readers that forgive
 * bytes behind it exist, so in pictures, sounds and films a record further up counts as well when it points at a
 * directory; a PDF, RTF or old Office file may honestly hold a whole archive inside.
 */

import { asBuffer } from './binary.ts'
import type { Reader } from './reader.ts'
import type { MediaType } from './types.ts'

const END_BYTES = 22
const MAX_COMMENT = 65_535
const END_SIGNATURE = Buffer.from('PK\x05\x06', 'latin1')
const ENTRY_SIGNATURE = Buffer.from('PK\x01\x02', 'latin1')

export async function isZipToo(file: Reader, type: MediaType): Promise<boolean> {
  if (type.contentType.startsWith('text/') && type.name !== 'RTF') return false // no text holds the signature's bytes
  const start = Math.max(0, file.size - END_BYTES - MAX_COMMENT)
  const tail = asBuffer(await file.read(start, END_BYTES + MAX_COMMENT))
  let at = tail.lastIndexOf(END_SIGNATURE)
  while (at >= 0) {
    if (at + END_BYTES <= tail.length) {
      if (at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return true
      if (type.kind !== 'document' && (await hasDirectory(file, start + at, tail.readUInt32LE(at + 12)))) return true
    }
    at = at === 0 ? -1 : tail.lastIndexOf(END_SIGNATURE, at - 1)
  }
  return false
}

async function hasDirectory(file: Reader, end: number, directoryBytes: number): Promise<boolean> {
  if (directoryBytes === 0 || directoryBytes > end) return false
  return ENTRY_SIGNATURE.equals(await file.read(end - directoryBytes, 4))
}
