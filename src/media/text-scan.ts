/**
 * Is every byte of this a text? Fed chunk by chunk, so that an upload can be checked to its very end while it passes by.
 * Text is UTF-8 or any 8-bit encoding, or UTF-16 behind a byte-order mark, without control characters other than
 * BEL BS TAB LF FF CR ESC, and with one DOS end mark (1A) allowed as the last byte. It stops at the first proof to the
 * contrary, so a photo costs nothing; 100 MB of text cost about 100 ms.
 */

export type TextEncoding = '8-bit' | 'utf-16le' | 'utf-16be'

const DOS_END = 0x1a

/** 1 for a byte (or UTF-16 unit) below 32 that no text holds; the DOS end mark is looked at separately. */
const FORBIDDEN = new Uint8Array(256)
for (let code = 0; code < 32; code++) if (![7, 8, 9, 10, 12, 13, 27].includes(code)) FORBIDDEN[code] = 1

export function encodingOf(start: Uint8Array): TextEncoding {
  if (start[0] === 0xff && start[1] === 0xfe) return 'utf-16le'
  if (start[0] === 0xfe && start[1] === 0xff) return 'utf-16be'
  return '8-bit'
}

export class TextScan {
  /** How many bytes passed by; compare with the size of the file before trusting `isText`. */
  size = 0
  /** False from the first byte on that no text can hold. */
  isText = true
  #encoding: TextEncoding | undefined
  #first: number | undefined
  #ended = false
  #expectsLowSurrogate = false

  /** `encoding` only for a scan that starts inside a file; otherwise the first two bytes tell. */
  constructor(encoding?: TextEncoding) {
    this.#encoding = encoding
  }

  update(chunk: Uint8Array): void {
    this.size += chunk.length
    if (!this.isText || chunk.length === 0) return
    if (this.#encoding === undefined) {
      const start = this.#first === undefined ? chunk : Uint8Array.of(this.#first, chunk[0] ?? 0)
      if (start.length < 2) {
        this.isText = FORBIDDEN[start[0] ?? 0] === 0 || start[0] === DOS_END
        this.#first = start[0]
        return
      }
      this.#encoding = encodingOf(start)
      if (this.#encoding === '8-bit' && this.#first !== undefined) this.#ended = this.#first === DOS_END
    }
    this.isText = this.#encoding === '8-bit' ? this.#scanBytes(chunk) : this.#scanUnits(chunk)
  }

  #scanBytes(chunk: Uint8Array): boolean {
    if (this.#ended) return false
    for (let i = 0; i < chunk.length; i++) {
      const code = chunk[i] ?? 0
      if (code < 32 && FORBIDDEN[code] === 1) {
        this.#ended = code === DOS_END && i === chunk.length - 1
        return this.#ended
      }
    }
    return true
  }

  #scanUnits(chunk: Uint8Array): boolean {
    const high = this.#encoding === 'utf-16be' ? 0 : 1
    let i = 0
    if (this.#first !== undefined) {
      if (!this.#scanUnit(high === 0 ? this.#first : chunk[0], high === 0 ? chunk[0] : this.#first)) return false
      this.#first = undefined
      i = 1
    }
    for (; i + 1 < chunk.length; i += 2) if (!this.#scanUnit(chunk[i + high], chunk[i + 1 - high])) return false
    if (i < chunk.length) this.#first = chunk[i]
    return true
  }

  /** One UTF-16 unit; surrogates must come in pairs, which random bytes soon fail to do. */
  #scanUnit(high = 0, low = 0): boolean {
    if (this.#ended) return false
    const isLowSurrogate = high >= 0xdc && high <= 0xdf
    if (isLowSurrogate !== this.#expectsLowSurrogate) return false
    this.#expectsLowSurrogate = high >= 0xd8 && high <= 0xdb
    if (high === 0xff) return low < 0xfe
    if (high !== 0 || FORBIDDEN[low] === 0) return true
    this.#ended = low === DOS_END
    return this.#ended
  }
}

/** Whether these bytes alone are text; those of a longer file may end inside a character. */
export function isText(bytes: Uint8Array, encoding?: TextEncoding): boolean {
  const scan = new TextScan(encoding)
  scan.update(bytes)
  return scan.isText
}
