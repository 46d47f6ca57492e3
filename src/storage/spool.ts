/**
 * A body of unknown length, put into a temporary file so that it can be measured, hashed and looked at before anything is
 * kept of it. Memory stays flat however many bodies arrive at once.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { randomHex } from '../ids.ts'
import type { Bytes } from '../media/bytes.ts'
import { TextScan } from '../media/text-scan.ts'
import { gather } from './gather.ts'

export type Spooled = {
  readonly bytes: Bytes
  readonly sha256: string
  readonly text: TextScan
  /** Whoever takes the file from there leaves nothing to dispose of but a descriptor. */
  readonly path: string
  /** A new stream over the whole; the caller destroys it. */
  stream(): Readable
  [Symbol.asyncDispose](): Promise<void>
}

/** Rejects as `gather` does, and then leaves no file behind. The caller destroys the body. */
export async function spool(folder: string, body: Readable, limit: number, signal: AbortSignal): Promise<Spooled> {
  const path = join(folder, randomHex(16))
  body.on('error', () => {}) // it may break before the file is open; gather then finds it broken
  const file = await open(path, 'wx+', 0o600)
  try {
    const sha256 = createHash('sha256')
    const text = new TextScan()
    const size = await gather(file, body, limit, {
      signal,
      onChunk(chunk) {
        sha256.update(chunk)
        text.update(chunk)
        return undefined
      },
    })
    return {
      bytes: fileBytes(file, size),
      sha256: sha256.digest('hex'),
      text,
      path,
      stream: () => createReadStream(path, { highWaterMark: 256 * 1024 }),
      [Symbol.asyncDispose]: () => remove(file, path),
    }
  } catch (error) {
    await remove(file, path)
    throw error
  }
}

async function remove(file: FileHandle, path: string): Promise<void> {
  await file.close()
  await rm(path, { force: true })
}

function fileBytes(file: FileHandle, size: number): Bytes {
  return {
    size,
    async read(offset, length) {
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, offset)
      return buffer.subarray(0, bytesRead)
    },
  }
}
