/**
 * The directory of a ZIP archive, by ranged reads, and single entries inflated under a hard cap. `yauzl` finds and checks
 * the end records; the list itself is walked here, because an object per entry costs 300 ms and 130 MB at 100,000.
 * The central directory is what counts, since that is what opens a file; an archive with a second directory, hidden
 * from one reader and shown to another, is refused. Bytes missing from or added behind the comment are forgiven.
 */

import { inflateRawSync, constants as zlib } from 'node:zlib'
import { fromRandomAccessReader, RandomAccessReader, type ZipFile } from 'yauzl'
import { asBuffer } from './binary.ts'
import type { Reader } from './reader.ts'

const END_BYTES = 22
const HEADER_BYTES = 46
const LOCAL_HEADER_BYTES = 30
const MAX_COMMENT = 65_535
const MAX_ENTRIES = 100_000
const MAX_DIRECTORY_BYTES = 12 * 1024 * 1024
/** Of a longer name only the end is looked at; no telling name is that long. */
const MAX_NAME_BYTES = 1024
const ENTRY_SIGNATURE = 0x02014b50
const ENCRYPTED = 1
const STORED = 0
const DEFLATED = 8

const scratch = Buffer.alloc(MAX_NAME_BYTES)
/** Each byte of a name as it is compared: small letters, forward slashes. */
const FOLDED = Uint8Array.from({ length: 256 }, (_, code) =>
  code === 0x5c ? 0x2f : code >= 0x41 && code <= 0x5a ? code + 32 : code,
)

export type UnpackLimit = {
  /** Compressed bytes to read at most. */
  readonly packedBytes: number
  /** Bytes to produce at most; more is taken for a bomb. */
  readonly bytes: number
  /** Whether a part is of no use. */
  readonly whole: boolean
}

export type Archive = {
  /** Where each entry's record lies in the directory, by name: lower case, forward slashes, no leading `/` or `./`. */
  readonly names: ReadonlyMap<string, number>
  /** Names that stand there more than once, so that it depends on the reader which entry is meant. */
  readonly repeated: ReadonlySet<string>
  /** The content of an entry; undefined when it is encrypted, damaged or beyond the limit. */
  read(name: string, limit: UnpackLimit): Promise<Uint8Array | undefined>
}

/** undefined: no directory that can be trusted. */
export async function openArchive(file: Reader): Promise<Archive | undefined> {
  await file.read(Math.max(0, file.size - END_BYTES - 20 - MAX_COMMENT), END_BYTES + 20 + MAX_COMMENT)
  const zip = await openEnd(file)
  if (zip === undefined || zip.entryCount > MAX_ENTRIES) return undefined
  const directory = await readDirectory(file, zip)
  if (directory === undefined) return undefined
  const list = listEntries(file, directory, zip.entryCount)
  if (list === undefined) return undefined
  return {
    names: list.names,
    repeated: list.repeated,
    read: async (name, limit) => {
      const at = list.names.get(name)
      return at === undefined ? undefined : unpack(file, directory.subarray(at), limit)
    },
  }
}

async function openEnd(file: Reader): Promise<ZipFile | undefined> {
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
  const options = { lazyEntries: true, decodeStrings: false, autoClose: false }
  return new Promise((resolve, reject) => {
    fromRandomAccessReader(new RangedReader(file), size, options, (error, zip) =>
      error ? reject(error) : resolve(zip),
    )
  })
}

/** The whole directory, in one read. undefined: too large, or the end records leave room for a second one. */
async function readDirectory(file: Reader, zip: ZipFile): Promise<Buffer | undefined> {
  const at = zip.fileSize - END_BYTES - zip.comment.length
  const start = Number(zip.readEntryCursor)
  const record = asBuffer(await file.read(at, END_BYTES))
  if (record.length < 20 || start > at || at - start > MAX_DIRECTORY_BYTES) return undefined
  const [count, length, offset] = [record.readUInt16LE(10), record.readUInt32LE(12), record.readUInt32LE(16)]
  if (offset !== 0xffffffff && offset !== start) return undefined
  if (count !== 0xffff && count !== zip.entryCount) return undefined
  if (length <= at && at - length !== start && isEntry(asBuffer(await file.read(at - length, 4)), 0)) return undefined
  file.allow(at - start)
  return asBuffer(await file.read(start, at - start))
}

type List = { names: Map<string, number>; repeated: Set<string> }

/** Exactly `count` entries; with another one behind the last, the count is a lie that some readers do not believe. */
function listEntries(file: Reader, directory: Buffer, count: number): List | undefined {
  const names = new Map<string, number>()
  const repeated = new Set<string>()
  let at = 0
  for (let i = 0; i < count; i++) {
    if (i % 4096 === 0) file.checkTime()
    if (at + HEADER_BYTES > directory.length || !isEntry(directory, at)) return undefined
    const nameEnd = at + HEADER_BYTES + directory.readUInt16LE(at + 28)
    const name = readName(directory, at + HEADER_BYTES, nameEnd)
    if (names.has(name)) repeated.add(name)
    else names.set(name, at)
    at = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32)
    if (at > directory.length) return undefined
  }
  return isEntry(directory, at) ? undefined : { names, repeated }
}

function isEntry(bytes: Buffer, at: number): boolean {
  return at + 4 <= bytes.length && bytes.readUInt32LE(at) === ENTRY_SIGNATURE
}

/** Byte by byte into one scratch buffer: string functions take three times as long over 100,000 names. */
function readName(directory: Buffer, start: number, end: number): string {
  const length = Math.min(end - start, MAX_NAME_BYTES)
  for (let i = 0; i < length; i++) scratch[i] = FOLDED[directory[end - length + i] ?? 0] ?? 0
  const name = scratch.toString('latin1', 0, length)
  return /^\.?\//.test(name) ? name.replace(/^(\.?\/)+/, '') : name
}

/** `header` is the entry's record in the directory. Where its content begins, only the local header tells. */
async function unpack(file: Reader, header: Buffer, limit: UnpackLimit): Promise<Uint8Array | undefined> {
  const packedSize = header.readUInt32LE(20)
  const start = header.readUInt32LE(42)
  if (header.readUInt16LE(8) & ENCRYPTED || (limit.whole && packedSize > limit.packedBytes)) return undefined
  const local = asBuffer(await file.read(start, LOCAL_HEADER_BYTES))
  if (local.length < LOCAL_HEADER_BYTES) return undefined
  const content = start + LOCAL_HEADER_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28)
  const packed = await file.read(content, Math.min(packedSize, limit.packedBytes))
  const method = header.readUInt16LE(10)
  if (method === STORED) return packed.length > limit.bytes && limit.whole ? undefined : packed
  return method === DEFLATED ? inflate(packed, limit.bytes) : undefined
}

function inflate(packed: Uint8Array, maxOutputLength: number): Uint8Array | undefined {
  try {
    return inflateRawSync(packed, { finishFlush: zlib.Z_SYNC_FLUSH, maxOutputLength })
  } catch {
    return undefined
  }
}

type ReadCallback = (error: Error | null, bytesRead?: number) => void

/** yauzl's idea of a file; behind the end lie zeros, for an archive that lacks the last bytes of its comment. */
class RangedReader extends RandomAccessReader {
  readonly #file: Reader

  constructor(file: Reader) {
    super()
    this.#file = file
  }

  override read(target: Buffer, offset: number, length: number, position: number, callback: ReadCallback): void {
    this.#file.read(position, length).then(
      (bytes) => {
        target.fill(0, offset, offset + length)
        target.set(bytes, offset)
        callback(null, length)
      },
      (error: Error) => callback(error),
    )
  }

  override close(callback: (error: Error | null) => void): void {
    callback(null)
  }
}
