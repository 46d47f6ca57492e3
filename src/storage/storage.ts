/**
 * Where the bytes lie, and nothing but the bytes: all that is known about them is in the database.
 * Keys are ours ([a-z0-9/_-]), the bytes under a key never change, sizes are bytes, times ms since 1970. What only some storages
 * can do is an optional member, and whoever finds it missing does without.
 */
import type { Readable } from 'node:stream'
import { Failure } from '../failure.ts'
import type { Bytes } from '../media/bytes.ts'

export type Entry = { key: string; size: number; modified: number }

export type PutOptions = {
  /**
   * Sees each piece as it passes, in order, and must not throw; for hashing and scanning without a second reading. A promise: the
   * piece is needed until it is settled, and is changed only afterwards. While some are needed the source is held back; a rejection ends the put.
   */
  onChunk?: (piece: Buffer) => Promise<void> | undefined
  signal?: AbortSignal
}

export interface Storage {
  /** A faster way for small objects, which the other methods know by their keys as well. */
  readonly small?: SmallObjects
  /**
   * All or nothing, and durable when it resolves: an abort, a broken source or a body that is not exactly `size` bytes
   * leaves no trace. Rejects with BodyTooShort, BodyTooLong, Failure storage_full or upload_failed, or the abort's reason.
   */
  put(key: string, body: Readable, size: number, options?: PutOptions): Promise<void>
  /**
   * The same with a complete file of ours that lies on the same file system, without another copy of it; the file
   * is gone afterwards. False: it lies elsewhere, and nothing was done.
   */
  adopt?(key: string, path: string): Promise<boolean>
  /** `end` is inclusive. undefined: no such key. The caller destroys the stream. */
  get(key: string, range?: { start: number; end: number }): Promise<Readable | undefined>
  /**
   * To read an object by pieces, without a stream for each. undefined: no such key. The caller disposes of it when no reading is
   * under way. `keep`: the next one to open it may find it still open, or its bytes in memory, for some seconds; never say so of
   * what has to vanish.
   */
  open?(key: string, o: { keep: boolean }): Promise<OpenObject | undefined>
  stat(key: string): Promise<Entry | undefined>
  /** A missing key is success. */
  delete(key: string): Promise<void>
  /** Every entry whose key sorts behind `after`, in key order. */
  list(after?: string): AsyncIterable<Entry>
}

export interface OpenObject extends Disposable {
  readonly size: number
  /** All of a small object, to be read only; undefined: read it by pieces. */
  readonly bytes: Buffer | undefined
  /** Fills the buffer from `position` on, with less only at the end of the object. How many bytes were read. */
  read(buffer: Buffer, position: number): Promise<number>
}

/** What only a disk has: small bodies that are whole in memory, many to a file, so that many share a sync. */
export interface SmallObjects {
  readonly maxBytes: number
  /**
   * Stores `body`, of at most `maxBytes`, under a new key and resolves with that once it is durable. Rejects with Failure
   * storage_full or upload_failed; then nothing was stored. The body must not change meanwhile.
   */
  append(body: Uint8Array): Promise<string>
  /**
   * Gives room back, file by file, where most of a file is dead: `move` is given the keys of what lives in it, stores that anew
   * and says whether nothing of the old is needed any more; then the file is removed. Ends early, between two files, once `signal`
   * says so. A file that fails keeps no other from its turn: rejects in the end, with all that failed.
   */
  compact(move: (keys: readonly string[]) => Promise<boolean>, signal: AbortSignal): Promise<void>
  /** Lets go of open files. */
  close(): Promise<void>
}

/** The source ended or broke before `size` bytes had come. */
export class BodyTooShort extends Error {
  override name = 'BodyTooShort'
}

/** The source had more than `size` bytes. */
export class BodyTooLong extends Error {
  override name = 'BodyTooLong'
}

/** A stored object as random access bytes. Rejects when the storage fails or the object is gone. `keep`: as of `open`. */
export function storedBytes(
  storage: Storage,
  key: string,
  size: number,
  { keep }: { keep: boolean } = { keep: false },
): Bytes {
  return {
    size,
    async read(offset, length) {
      const end = Math.min(offset + length, size) - 1
      if (end < offset) return new Uint8Array(0)
      if (!storage.open) return await streamed(storage, key, { start: offset, end })
      using object = await storage.open(key, { keep })
      if (!object) throw new Error(`stored object ${key} is missing`)
      if (object.bytes) return object.bytes.subarray(offset, end + 1)
      const buffer = Buffer.allocUnsafe(end + 1 - offset)
      return buffer.subarray(0, await object.read(buffer, offset))
    },
  }
}

async function streamed(storage: Storage, key: string, range: { start: number; end: number }): Promise<Uint8Array> {
  const body = await storage.get(key, range)
  if (!body) throw new Error(`stored object ${key} is missing`)
  const chunks: Buffer[] = []
  try {
    for await (const chunk of body) chunks.push(chunk as Buffer)
  } catch (error) {
    throw new Failure('storage_unavailable', undefined, { cause: error })
  }
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
}
