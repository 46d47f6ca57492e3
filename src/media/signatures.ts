/**
 * Formats told by their first bytes where a text could begin the same way or a library is too trusting: AMR, RTF, PDF,
 * GIF, BMP and MPEG video; and foreign signatures that are named here so that no library needs to unpack or walk them.
 */

import { latin1 } from './binary.ts'
import { isText } from './text-scan.ts'

const BMP_HEADERS = new Set([12, 16, 40, 52, 56, 64, 108, 124])
const BMP_DEPTHS = new Set([0, 1, 2, 4, 8, 16, 24, 32, 64])

/** The extension of the accepted format these bytes begin. */
export function matchSignature(head: Uint8Array): string | undefined {
  const start = latin1(head, 0, 64)
  if (start.startsWith('#!AMR\n') || start.startsWith('#!AMR-WB\n')) return 'amr'
  if (start.startsWith('{\\rtf')) return 'rtf'
  if (/^%PDF-\d/.test(start.replace(/^\xef\xbb\xbf/, '').replace(/^[ \t\r\n\f]{0,32}/, ''))) return 'pdf'
  if (isGif(head, start)) return 'gif'
  if (isBmp(head, start)) return 'bmp'
  return isMpegVideo(head) ? 'mpg' : undefined
}

/** Keys of foreign.ts for formats whose inspection by a library would cost more than it tells. */
export function matchForeign(head: Uint8Array): string | undefined {
  const start = latin1(head, 0, 64)
  if (/^(\xef\xbb\xbf)?#!/.test(start)) return 'script'
  if (start.startsWith('\x1f\x8b')) return 'gz'
  if (start.startsWith('\x1a\x45\xdf\xa3')) return 'mkv'
  if (start.startsWith('\x30\x26\xb2\x75\x8e\x66\xcf\x11')) return 'wmv'
  if (start.startsWith('RF64')) return 'rf64'
  if (start.startsWith('II+\0') || start.startsWith('MM\0+')) return 'bigtiff'
  if (start.startsWith('PK\x07\x08')) return 'splitzip'
  if (start.startsWith('MZ')) return 'exe'
  return undefined
}

function isGif(head: Uint8Array, start: string): boolean {
  if (!/^GIF8[79]a/.test(start) || head.length < 13) return false
  const hasSize = u16(head, 6) > 0 && u16(head, 8) > 0
  return hasSize && !isText(head.subarray(0, 512))
}

function isBmp(head: Uint8Array, start: string): boolean {
  if (!start.startsWith('BM') || head.length < 26) return false
  const headerBytes = u16(head, 14) + u16(head, 16) * 0x10000
  const at = headerBytes === 12 ? 22 : 26
  return BMP_HEADERS.has(headerBytes) && u16(head, at) === 1 && BMP_DEPTHS.has(u16(head, at + 2))
}

/** A program stream (MPEG-1 `0010`, MPEG-2 `01` behind the start code) or a bare sequence header with a size and rate. */
function isMpegVideo(head: Uint8Array): boolean {
  const [a, b, c, code, d = 0, e = 0, f = 0, g = 0] = head
  if (a !== 0 || b !== 0 || c !== 1) return false
  if (code === 0xba) return d >> 4 === 0b0010 || d >> 6 === 0b01
  const [width, height] = [(d << 4) | (e >> 4), ((e & 15) << 8) | f]
  return code === 0xb3 && width > 0 && height > 0 && (g & 15) >= 1 && (g & 15) <= 8
}

function u16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8)
}
