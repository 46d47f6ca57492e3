/**
 * Small objects, many to a file: a body is appended to a pack, and all that wait while one sync is under way share the next.
 * A process begins packs of its own and never appends to another's, so no tail has to be mended after a crash: what lies
 * behind the last acknowledged record of a pack is never looked for by a key that anyone has.
 *   packs/<name>       records (pack-record.ts); a dead one's body is zeros, and nothing else is ever written over
 */
import { type FileHandle, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sync, translate, unlessMissing, writeAll } from './files.ts'
import { eraseRecords, findRecord, readRecord, scanRecords, survey } from './pack-file.ts'
import {
  begunAt,
  HEADER_BYTES,
  headerOf,
  isPackName,
  keyOf,
  newPackName,
  type Place,
  SMALL_OBJECT_BYTES,
} from './pack-record.ts'
import type { Entry, SmallObjects } from './storage.ts'
import { together } from './together.ts'

const PACK_BYTES = 64 * 1024 * 1024
const PACK_OPEN_MS = 3_600_000
/** No process appends to such a pack any more; only these are tidied up. */
const SETTLED_MS = 24 * 3_600_000

export type Packs = SmallObjects & {
  /** undefined: nothing lives there, or there is no such pack. */
  read(place: Place, range?: { start: number; end: number }): Promise<Buffer | undefined>
  stat(place: Place): Promise<Entry | undefined>
  /** Overwrites the body. False: there is no such pack. */
  erase(place: Place): Promise<boolean>
  list(after: string): AsyncGenerator<Entry>
}

type OpenPack = { name: string; file: FileHandle; size: number }

/** `folder` has to be there, durably. `now`: see openDisk. */
export function openPacks(folder: string, now: () => number): Packs {
  const pathOf = (pack: string) => join(folder, pack)
  let current: OpenPack | undefined
  /** Packs that were looked at and left as they are, and when they had last changed. */
  const dense = new Map<string, number>()

  async function begin(): Promise<OpenPack> {
    const name = newPackName(now())
    const file = await open(pathOf(name), 'wx', 0o600)
    const pack = { name, file, size: 0 }
    try {
      await sync(folder)
      return pack
    } catch (error) {
      await giveUp(pack)
      throw error
    }
  }

  async function packToAppendTo(): Promise<OpenPack> {
    const age = current && now() - begunAt(current.name)
    if (current && age !== undefined && age >= 0 && age < PACK_OPEN_MS && current.size < PACK_BYTES) return current
    await close()
    current = await begin()
    return current
  }

  async function close(): Promise<void> {
    const pack = current
    current = undefined
    await pack?.file.close()
  }

  /** After a failed write or sync nobody knows what of it is on the disk, and asking again may be answered with a lie. */
  async function giveUp(pack: OpenPack): Promise<void> {
    current = undefined
    await pack.file.truncate(pack.size).catch(() => {})
    await pack.file.close().catch(() => {})
    if (pack.size === 0) await rm(pathOf(pack.name), { force: true }).catch(() => {})
  }

  async function appendAll(bodies: readonly Uint8Array[]): Promise<string[]> {
    try {
      const pack = await packToAppendTo()
      const { keys, chunks, bytes } = lay(pack, bodies, now())
      try {
        await writeAll(pack.file, chunks, bytes, pack.size)
        await pack.file.datasync()
        // Another process took it for settled: a clock that is a day off, or this one was stopped for so long.
        if ((await pack.file.stat()).nlink === 0) throw new Error(`the pack ${pack.name} was removed`)
      } catch (error) {
        await giveUp(pack)
        throw error
      }
      pack.size += bytes
      return keys
    } catch (error) {
      throw translate(error)
    }
  }

  async function eraseAll(places: readonly Place[]): Promise<boolean[]> {
    const found = new Map<string, boolean>()
    for (const [pack, own] of Map.groupBy(places, (place) => place.pack)) {
      const file = await unlessMissing(open(pathOf(pack), 'r+'))
      found.set(pack, file !== undefined)
      if (file) await closing(file, () => eraseRecords(file, own))
    }
    return places.map(({ pack }) => found.get(pack) === true)
  }

  async function withPack<T>(pack: string, work: (file: FileHandle) => Promise<T>): Promise<T | undefined> {
    const file = await unlessMissing(open(pathOf(pack), 'r'))
    return file && (await closing(file, () => work(file)))
  }

  async function tidyUp(pack: string, move: (keys: readonly string[]) => Promise<boolean>): Promise<void> {
    const found = await withPack(pack, (file) => survey(file, pack, dense.get(pack)))
    if (found === undefined) return
    if (found.isDense) dense.set(pack, found.changedAt)
    else if (found.keys.length === 0 || (await move(found.keys))) {
      await rm(pathOf(pack), { force: true })
      await sync(folder)
    }
  }

  async function names(): Promise<string[]> {
    return (await readdir(folder)).filter(isPackName).sort()
  }

  const append = together(appendAll)
  return {
    maxBytes: SMALL_OBJECT_BYTES,
    async append(body) {
      if (body.length > SMALL_OBJECT_BYTES) throw new RangeError(`${body.length} bytes are not a small object`)
      return await append(body)
    },
    erase: together(eraseAll),
    close,

    async read(place, range) {
      const start = range?.start ?? 0
      const end = Math.min(range?.end ?? place.length - 1, place.length - 1)
      const bytes = await withPack(place.pack, (file) => readRecord(file, place, end + 1))
      return bytes?.subarray(start)
    },

    async stat(place) {
      const found = await withPack(place.pack, (file) => findRecord(file, place))
      return found && { key: keyOf(place), size: place.length, modified: found.writtenAt }
    },

    async *list(after) {
      for (const pack of await names()) {
        if (`pack/${pack}/~` < after) continue
        const found = await withPack(pack, (file) => scanRecords(file, pack))
        for (const { place, isLive, writtenAt } of found?.records ?? []) {
          const key = keyOf(place)
          if (isLive && key > after) yield { key, size: place.length, modified: writtenAt }
        }
      }
    },

    async compact(move, signal) {
      const failures: Error[] = []
      for (const pack of await names()) {
        if (signal.aborted) break
        if (pack === current?.name || now() - begunAt(pack) < SETTLED_MS) continue
        await tidyUp(pack, move).catch((cause) => failures.push(new Error(`${pack}: ${cause.message}`, { cause })))
      }
      if (failures.length === 0) return
      const [first] = failures
      throw new AggregateError(failures, `${failures.length} packs cannot be tidied up, the first ${first?.message}`)
    },
  }
}

/** What is written for these bodies at the end of the pack, and the keys they get. */
function lay(pack: OpenPack, bodies: readonly Uint8Array[], now: number) {
  const chunks: Uint8Array[] = []
  let bytes = 0
  const keys = bodies.map((body) => {
    const key = keyOf({ pack: pack.name, offset: pack.size + bytes, length: body.length })
    chunks.push(headerOf(body.length, now), body)
    bytes += HEADER_BYTES + body.length
    return key
  })
  return { keys, chunks, bytes }
}

async function closing<T>(file: FileHandle, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    await file.close()
  }
}
