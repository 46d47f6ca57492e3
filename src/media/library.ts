/**
 * The bridge to `file-type`: it asks by ranges through the Reader instead of holding the file, and only its answers on
 * JPEG, PNG, TIFF, MP3, AAC, WAV, AIFF and CAF are believed (and checked further in detect.ts). Everything else it knows
 * serves to name what is refused.
 */

import { FileTypeParser } from 'file-type'
import type { Reader } from './reader.ts'

type Tokenizer = Parameters<FileTypeParser['fromTokenizer']>[0]
type ReadOptions = Parameters<Tokenizer['peekBuffer']>[1]
type Token<T> = { readonly len: number; get(bytes: Uint8Array, offset: number): T }

/** file-type's own short name for the content, e.g. `jpg`; undefined when it knows none. */
export async function askLibrary(file: Reader): Promise<string | undefined> {
  const parser = new FileTypeParser({ mpegOffsetTolerance: 10 })
  return (await parser.fromTokenizer(new RangedTokenizer(file)))?.ext
}

class RangedTokenizer implements Tokenizer {
  position = 0
  readonly fileInfo: { size: number }
  readonly #file: Reader

  constructor(file: Reader) {
    this.#file = file
    this.fileInfo = { size: file.size }
  }

  async peekBuffer(target: Uint8Array, options?: ReadOptions): Promise<number> {
    const length = options?.length ?? target.length
    const bytes = await this.#file.read(options?.position ?? this.position, length)
    if (bytes.length < length && options?.mayBeLess !== true) throw new Error('The file ends inside a field')
    target.set(bytes)
    return bytes.length
  }

  async readBuffer(target: Uint8Array, options?: ReadOptions): Promise<number> {
    const start = options?.position ?? this.position
    const length = await this.peekBuffer(target, options)
    this.position = start + length
    return length
  }

  async peekToken<T>(token: Token<T>, position?: number | null): Promise<T> {
    const bytes = new Uint8Array(token.len)
    await this.peekBuffer(bytes, { position: position ?? this.position })
    return token.get(bytes, 0)
  }

  async readToken<T>(token: Token<T>, position = this.position): Promise<T> {
    const value = await this.peekToken(token, position)
    this.position = position + token.len
    return value
  }

  peekNumber(token: Token<number>): Promise<number> {
    return this.peekToken(token)
  }

  readNumber(token: Token<number>): Promise<number> {
    return this.readToken(token)
  }

  async ignore(length: number): Promise<number> {
    const skipped = Math.max(0, Math.min(length, this.fileInfo.size - this.position))
    this.position += skipped
    return skipped
  }

  setPosition(position: number): void {
    this.position = position
  }

  supportsRandomAccess(): boolean {
    return true
  }

  async close(): Promise<void> {}
  async abort(): Promise<void> {}
}
