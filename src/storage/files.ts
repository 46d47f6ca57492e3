/** What both halves of the disk backend need of the file system: whole writes, durable names, errors as failures of ours. */
import { type FileHandle, open } from 'node:fs/promises'
import { Failure } from '../failure.ts'

/** One writev, and the rest one by one should the kernel have taken only a part. */
export async function writeAll(file: FileHandle, chunks: Uint8Array[], bytes: number, position: number): Promise<void> {
  if (bytes === 0) return
  let { bytesWritten } = await file.writev(chunks, position)
  if (bytesWritten === bytes) return
  const all = Buffer.concat(chunks)
  while (bytesWritten < bytes) {
    const rest = all.subarray(bytesWritten)
    const more = await file.write(rest, 0, rest.length, position + bytesWritten)
    bytesWritten += more.bytesWritten
  }
}

/** Makes durable what was written to a file, through whichever descriptor it was, or the names in a folder. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** What the disk said, as the Failure that it means to a caller. */
export function translate(error: unknown): unknown {
  const code = codeOf(error)
  if (code === 'ENOSPC' || code === 'EDQUOT') return new Failure('storage_full', undefined, { cause: error })
  if (code && ['EIO', 'EROFS', 'EMFILE', 'ENFILE', 'EACCES', 'EPERM', 'EFBIG'].includes(code)) {
    return new Failure('upload_failed', undefined, { cause: error })
  }
  return error
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
