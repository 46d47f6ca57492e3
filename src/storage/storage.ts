/**
 * Where the bytes lie, and nothing but the bytes: all that is known about them is in the database.
 * Keys are ours ([a-z0-9/_-]), the bytes under a key never change, sizes are bytes, times ms since 1970.
 */
import type { Readable } from 'node:stream'
import { Failure } from '../failure.ts'
import type { Bytes } from '../media/bytes.ts'

export type Entry = { key: string; size: number; modified: number }

export type PutOptions = {
  /** Sees each chunk as it passes, in order, and must not throw; for hashing and scanning without a second reading. */
  onChunk?: (chunk: Buffer) => void
  signal?: AbortSignal
}

export interface Storage {
  /**
   * All or nothing, and durable when it resolves: an abort, a broken source or a body that is not exactly `size` bytes
   * leaves no trace. Rejects with BodyTooShort, BodyTooLong, Failure storage_full or upload_failed, or the abort's reason.
   */
  put(key: string, body: Readable, size: number, options?: PutOptions): Promise<void>
  /** `end` is inclusive. undefined: no such key. The caller destroys the stream. */
  get(key: string, range?: { start: number; end: number }): Promise<Readable | undefined>
  stat(key: string): Promise<Entry | undefined>
  /** A missing key is success. */
  delete(key: string): Promise<void>
  /** Every entry whose key sorts behind `after`, in key order. */
  list(after?: string): AsyncIterable<Entry>
}

/** The source ended or broke before `size` bytes had come. */
export class BodyTooShort extends Error {
  override name = 'BodyTooShort'
}

/** The source had more than `size` bytes. */
export class BodyTooLong extends Error {
  override name = 'BodyTooLong'
}

/** A stored object as random access bytes. Rejects when the storage fails or the object is gone. */
export function storedBytes(storage: Storage, key: string, size: number): Bytes {
  return {
    size,
    async read(offset, length) {
      const end = Math.min(offset + length, size) - 1
      if (end < offset) return new Uint8Array(0)
      const body = await storage.get(key, { start: offset, end })
      if (!body) throw new Error(`stored object ${key} is missing`)
      const chunks: Buffer[] = []
      try {
        for await (const chunk of body) chunks.push(chunk as Buffer)
      } catch (error) {
        throw new Failure('storage_unavailable', undefined, { cause: error })
      }
      return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
    },
  }
}
