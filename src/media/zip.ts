/**
 * The directory of a ZIP archive, by ranged reads through `yauzl`, and single entries inflated under a hard cap.
 * The central directory at the end is what counts, since that is what opens a file; an archive with a second directory
 * hidden from one reader and shown to another is refused. Bytes missing from or added behind the comment are forgiven.
 */

import { inflateRawSync, constants as zlib } from 'node:zlib'
import { type Entry, fromRandomAccessReader, RandomAccessReader, type ZipFile } from 'yauzl'
import type { Reader } from './reader.ts'

const END_BYTES = 22
const MAX_COMMENT = 65_535
const MAX_ENTRIES = 100_000
const MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
const ENTRY_SIGNATURE = 0x02014b50

export type Archive = {
  /** Entry by normalised name: lower case, forward slashes, no leading `/` or `./`. */
  readonly entries: ReadonlyMap<string, Entry>
  /** Names that stand there more than once, so that it depends on the reader which entry is meant. */
  readonly repeated: ReadonlySet<string>
  /**
   * The content of an entry, from at most `packedBytes` of compressed data and never more than `bytes`.
   * With `whole`, undefined when the entry is longer than that; undefined also when it cannot be unpacked.
   */
  read(entry: Entry, limit: { packedBytes: number; bytes: number; whole: boolean }): Promise<Uint8Array | undefined>
}

/** undefined: no directory that can be trusted. */
export async function openArchive(file: Reader): Promise<Archive | undefined> {
  await file.read(Math.max(0, file.size - END_BYTES - 20 - MAX_COMMENT), END_BYTES + 20 + MAX_COMMENT)
  const zip = await open(file)
  if (zip === undefined || zip.entryCount > MAX_ENTRIES) return undefined
  if (!(await isOnlyDirectory(file, zip))) return undefined
  const repeated = new Set<string>()
  const entries = await listEntries(file, zip, repeated)
  if (entries === undefined || (await isEntryAt(file, Number(zip.readEntryCursor)))) return undefined
  return { entries, repeated, read: (entry, limit) => unpack(file, zip, entry, limit) }
}

async function open(file: Reader): Promise<ZipFile | undefined> {
  try {
    return await openSized(file, file.size)
  } catch (error) {
    const lengths = /Invalid comment length\. Expected: (\d+)\. Found: (\d+)/.exec(String(error))
    const extra = lengths === null ? 0 : Number(lengths[1]) - Number(lengths[2])
    if (extra === 0 || Math.abs(extra) > MAX_COMMENT) return undefined
    return openSized(file, file.size - extra).catch(() => undefined)
  }
}

function openSized(file: Reader, size: number): Promise<ZipFile> {
  const options = { lazyEntries: true, decodeStrings: false, validateEntrySizes: false, autoClose: false }
  return new Promise((resolve, reject) => {
    fromRandomAccessReader(new RangedReader(file), size, options, (error, zip) =>
      error ? reject(error) : resolve(zip),
    )
  })
}

/** Reads the whole directory in one go. False: it has no end record, is too large, or a second directory exists. */
async function isOnlyDirectory(file: Reader, zip: ZipFile): Promise<boolean> {
  const at = zip.fileSize - END_BYTES - zip.comment.length
  const start = Number(zip.readEntryCursor)
  const record = view(await file.read(at, END_BYTES))
  if (record.byteLength < 20 || start > at || at - start > MAX_DIRECTORY_BYTES) return false
  file.allow(at - start)
  await file.read(start, at - start)
  const [count, length, offset] = [record.getUint16(10, true), record.getUint32(12, true), record.getUint32(16, true)]
  if (offset !== 0xffffffff && offset !== start) return false
  if (count !== 0xffff && count !== zip.entryCount) return false
  return length > at || at - length === start || !(await isEntryAt(file, at - length))
}

async function isEntryAt(file: Reader, offset: number): Promise<boolean> {
  const bytes = await file.read(offset, 4)
  return bytes.length === 4 && view(bytes).getUint32(0, true) === ENTRY_SIGNATURE
}

/** All entries by name. The loop is synchronous as long as yauzl's callbacks are, which 100,000 entries need. */
async function listEntries(file: Reader, zip: ZipFile, repeated: Set<string>): Promise<Map<string, Entry> | undefined> {
  const entries = new Map<string, Entry>()
  let failed = false
  let arrived = false
  let wake = () => {}
  zip.on('entry', (entry: Entry) => {
    const name = normalise(Buffer.from(entry.fileName).toString('latin1'))
    if (entries.has(name)) repeated.add(name)
    else entries.set(name, entry)
    arrived = true
    wake()
  })
  zip.on('error', () => {
    failed = true
    wake()
  })
  for (let count = 0; count < zip.entryCount; count++) {
    if (count % 1000 === 0) file.checkTime()
    arrived = false
    zip.readEntry()
    if (!arrived && !failed) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    if (failed) return undefined
  }
  return entries
}

function normalise(name: string): string {
  return name
    .toLowerCase()
    .replaceAll('\\', '/')
    .replace(/^(\.?\/)+/, '')
}

async function unpack(
  file: Reader,
  zip: ZipFile,
  entry: Entry,
  limit: { packedBytes: number; bytes: number; whole: boolean },
): Promise<Uint8Array | undefined> {
  if (entry.isEncrypted() || (limit.whole && entry.compressedSize > limit.packedBytes)) return undefined
  try {
    const header = await zip.readLocalFileHeaderPromise(entry, { minimal: true })
    const packed = await file.read(header.fileDataStart, Math.min(entry.compressedSize, limit.packedBytes))
    if (entry.compressionMethod === 0) return packed.length > limit.bytes && limit.whole ? undefined : packed
    if (entry.compressionMethod !== 8) return undefined
    return inflateRawSync(packed, { finishFlush: zlib.Z_SYNC_FLUSH, maxOutputLength: limit.bytes })
  } catch {
    return undefined
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

type ReadCallback = (error: Error | null, bytesRead?: number) => void

/** yauzl's idea of a file. What was read before is given at once; behind the end lie zeros. */
class RangedReader extends RandomAccessReader {
  readonly #file: Reader

  constructor(file: Reader) {
    super()
    this.#file = file
  }

  override read(target: Buffer, offset: number, length: number, position: number, callback: ReadCallback): void {
    const finish = (bytes: Uint8Array) => {
      target.fill(0, offset, offset + length)
      target.set(bytes, offset)
      callback(null, length)
    }
    const known = this.#file.peek(position, length)
    if (known !== undefined) finish(known)
    else this.#file.read(position, length).then(finish, (error: Error) => callback(error))
  }

  override close(callback: (error: Error | null) => void): void {
    callback(null)
  }
}
