/** What is done with an open pack, one operation at a time: look at a record, read or erase one, list them, survey them. */
import type { FileHandle } from 'node:fs/promises'
import { writeAll } from './files.ts'
import { deathOf, HEADER_BYTES, keyOf, type Place, recordAt } from './pack-record.ts'

/** Many headers of tiny objects come with one read, and not much of a larger object for nothing. */
const SCAN_BYTES = 4096

/** The first `length` bytes of a living body. undefined: it does not live, or has gone while it was read. */
export async function readRecord(file: FileHandle, place: Place, length: number): Promise<Buffer | undefined> {
  const found = await readAt(file, place.offset, HEADER_BYTES + length)
  if (found.length < HEADER_BYTES + length || !isLiveAt(found, place)) return undefined
  // A record is marked dead before it is erased: one that lives still has been read whole.
  return isLiveAt(await readAt(file, place.offset, HEADER_BYTES), place) ? found.subarray(HEADER_BYTES) : undefined
}

/** When a living body was written. */
export async function findRecord(file: FileHandle, place: Place): Promise<{ writtenAt: number } | undefined> {
  const record = recordAt(await readAt(file, place.offset, HEADER_BYTES))
  const { size } = await file.stat()
  const isThere = record?.isLive && record.length === place.length && size >= place.offset + HEADER_BYTES + place.length
  return isThere ? record : undefined
}

/** Safe to repeat: what was marked is erased again, since a crash may have come in between. Synced once for all. */
export async function eraseRecords(file: FileHandle, places: readonly Place[]): Promise<void> {
  const { size } = await file.stat()
  for (const place of places) {
    const record = recordAt(await readAt(file, place.offset, HEADER_BYTES))
    if (record?.length !== place.length) continue
    const { mark, position } = deathOf(place.offset)
    await writeAll(file, [mark], mark.length, position)
    const length = Math.min(place.length, size - place.offset - HEADER_BYTES)
    await writeAll(file, [Buffer.alloc(length)], length, place.offset + HEADER_BYTES)
  }
  await file.datasync()
}

type Scanned = { place: Place; isLive: boolean; writtenAt: number }

/** `isWhole`: the records reach to the end; else the rest is torn, and nothing is known of it. */
export async function scanRecords(
  file: FileHandle,
  pack: string,
): Promise<{ records: Scanned[]; isWhole: boolean; size: number }> {
  const { size } = await file.stat()
  const records: Scanned[] = []
  let window: { start: number; bytes: Buffer } = { start: 0, bytes: Buffer.alloc(0) }
  let offset = 0
  while (offset < size) {
    if (offset + HEADER_BYTES > window.start + window.bytes.length) {
      window = { start: offset, bytes: await readAt(file, offset, SCAN_BYTES) }
    }
    const record = recordAt(window.bytes, offset - window.start)
    if (!record || offset + HEADER_BYTES + record.length > size) break
    const { isLive, length, writtenAt } = record
    records.push({ place: { pack, offset, length }, isLive, writtenAt })
    offset += HEADER_BYTES + length
  }
  return { records, isWhole: offset === size, size }
}

/** `isDense`: there is nothing to gain from it, or it has not changed since `knownAt`, or a part of it cannot be read. */
export type Surveyed = { isDense: boolean; keys: string[]; changedAt: number }

export async function survey(file: FileHandle, pack: string, knownAt?: number): Promise<Surveyed> {
  const { mtimeMs: changedAt } = await file.stat()
  if (changedAt === knownAt) return { isDense: true, keys: [], changedAt }
  const { records, isWhole, size } = await scanRecords(file, pack)
  const living = records.filter(({ isLive }) => isLive).map(({ place }) => place)
  const bytes = living.reduce((sum, { length }) => sum + HEADER_BYTES + length, 0)
  return { isDense: !isWhole || (bytes > 0 && bytes * 2 >= size), keys: living.map(keyOf), changedAt }
}

function isLiveAt(header: Buffer, { length }: Place): boolean {
  const record = recordAt(header)
  return record?.isLive === true && record.length === length
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, position)
  return buffer.subarray(0, bytesRead)
}
