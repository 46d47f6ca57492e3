/**
 * Files in a folder. A body is gathered into large writes to `tmp/`, synced, renamed to its key under `objects/`, and the
 * folder that got the name is synced: what `put` has acknowledged survives a power cut. Layout:
 *   objects/<key>      complete files, never written again
 *   packs/<name>       small objects, many to a file (packs.ts); their keys say where they lie
 *   tmp/<random>       bodies on their way; left over only by a crash, and removed at the next start
 * A key of a pack may also be an ordinary file, brought by `satchel migrate-data`.
 */
import { close, fstat, open as openFile, read, type Stats } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { randomHex } from '../ids.ts'
import { codeOf, sync, translate, unlessMissing } from './files.ts'
import { gather } from './gather.ts'
import { KeptOpen, type Source } from './kept-open.ts'
import { placeOf } from './pack-record.ts'
import { openPacks } from './packs.ts'
import { BodyTooShort, type Entry, type PutOptions, type Storage } from './storage.ts'

const READ_BYTES = 256 * 1024
/** Up to here an object is read whole when it is opened. */
const SMALL_BYTES = 256 * 1024
const ABANDONED_MS = 3_600_000
const KEY = /^[a-z0-9_-]+(\/[a-z0-9_-]+)*$/

export type Disk = Storage & Required<Pick<Storage, 'small' | 'adopt' | 'open'>>

/**
 * `exclusive`: no other process uses this folder, so everything in tmp/ is left over from a crash. `now`: real time, since
 * other processes compare with theirs.
 */
export async function openDisk(
  folder: string,
  { exclusive, now = Date.now }: { exclusive: boolean; now?: () => number },
): Promise<Disk> {
  const objects = join(folder, 'objects')
  const temporary = join(folder, 'tmp')
  const packed = join(folder, 'packs')
  for (const path of [objects, temporary, packed]) await makeFolder(path)
  const packs = openPacks(packed, now)
  await removeLeftovers(temporary, exclusive)
  const knownFolders = new Set([objects])
  const kept = new KeptOpen(async (key) => {
    const place = placeOf(key)
    const small = place && (await packs.read(place))
    if (small) return inMemory(small)
    const source = await openSource(pathOf(key))
    return source && source.size <= SMALL_BYTES ? await readWhole(source) : source
  })

  function pathOf(key: string): string {
    if (!KEY.test(key)) throw new Error(`not a storage key: ${JSON.stringify(key)}`)
    return join(objects, key)
  }

  /** Its name must be durable too, also one that is there already: whoever made it may not have come to the sync of its parent. */
  async function ensureFolder(path: string): Promise<void> {
    if (knownFolders.has(path)) return
    const parent = dirname(path)
    await ensureFolder(parent)
    await mkdir(path, { recursive: true, mode: 0o700 })
    await sync(parent)
    knownFolders.add(path)
  }

  /** Gives a synced file its name for good, or none. */
  async function settle(file: string, path: string): Promise<void> {
    await ensureFolder(dirname(path))
    await rename(file, path)
    try {
      await sync(dirname(path))
    } catch (error) {
      await rm(path, { force: true })
      throw error
    }
  }

  return {
    small: packs,

    async put(key, body, size, options: PutOptions = {}) {
      const path = pathOf(key)
      const staged = join(temporary, randomHex(16))
      body.on('error', () => {}) // it may break before the file is open; gather then finds it broken
      try {
        const file = await open(staged, 'wx', 0o600)
        try {
          const received = await gather(file, body, size, options)
          if (received < size) throw new BodyTooShort(`the body has ${received} bytes of ${size}`)
          await file.datasync()
        } finally {
          await file.close()
        }
        await settle(staged, path)
        kept.drop(key)
      } catch (error) {
        await rm(staged, { force: true })
        throw translate(error)
      }
    },

    async adopt(key, file) {
      const path = pathOf(key)
      try {
        await sync(file)
        await settle(file, path)
        return true
      } catch (error) {
        if (codeOf(error) === 'EXDEV') return false
        throw translate(error)
      }
    },

    async get(key, range) {
      const place = placeOf(key)
      const small = place && (await packs.read(place, range))
      if (small) return streamOf(small)
      const source = await openSource(pathOf(key))
      return source && readRange(source, range?.start ?? 0, Math.min(range?.end ?? source.size - 1, source.size - 1))
    },

    open: (key, o) => kept.open(key, o),

    async stat(key) {
      const place = placeOf(key)
      const small = place && (await packs.stat(place))
      if (small) return small
      const found = await unlessMissing(stat(pathOf(key)))
      return found && entry(key, found)
    },

    async delete(key) {
      const place = placeOf(key)
      const path = pathOf(key)
      if (place && (await packs.erase(place))) {
        kept.drop(key)
        return
      }
      await rm(path, { force: true })
      kept.drop(key)
      await unlessMissing(sync(dirname(path)))
    },

    list: (after) => merge(walk(objects, '', after), packs.list(after ?? '')),
  }
}

/** As `ensureFolder`, up to the first that had to be made. */
async function makeFolder(path: string): Promise<void> {
  const made = (await mkdir(path, { recursive: true, mode: 0o700 })) ?? path
  for (let parent = path; parent.length >= made.length; parent = dirname(parent)) await sync(dirname(parent))
}

/** Large positioned reads: up to four times as fast as fs.createReadStream for a big file. */
function readRange(source: Source, start: number, end: number): Readable {
  let position = start
  let reading: Promise<unknown> | undefined
  return new Readable({
    highWaterMark: READ_BYTES,
    read() {
      const length = Math.min(READ_BYTES, end + 1 - position)
      if (length <= 0) {
        this.push(null)
        return
      }
      const buffer = Buffer.allocUnsafe(length)
      reading = source.read(buffer, position).then(
        (bytesRead) => {
          position += bytesRead
          if (bytesRead === 0) this.destroy(new Error('a stored file is shorter than it was'))
          else this.push(buffer.subarray(0, bytesRead))
        },
        (error) => this.destroy(error),
      )
    },
    destroy(error, done) {
      const close = () => {
        source.close()
        done(error)
      }
      if (reading) void reading.then(close)
      else close()
    },
  })
}

async function openSource(path: string): Promise<Source | undefined> {
  const descriptor = await unlessMissing(opened(path))
  if (descriptor === undefined) return undefined
  const shut = () => close(descriptor, () => {})
  try {
    const { size } = await statOf(descriptor)
    return {
      size,
      bytes: undefined,
      read: (buffer, position) => readInto(descriptor, buffer, position),
      close: shut,
    }
  } catch (error) {
    shut()
    throw error
  }
}

/** Its bytes in the place of its descriptor, which is closed. */
async function readWhole(source: Source): Promise<Source> {
  try {
    const bytes = Buffer.allocUnsafeSlow(source.size)
    if (source.size > 0 && (await source.read(bytes, 0)) < source.size)
      throw new Error('a stored file is shorter than it was')
    return inMemory(bytes)
  } finally {
    source.close()
  }
}

const inMemory = (bytes: Buffer): Source => ({
  size: bytes.length,
  bytes,
  read: async (buffer, position) => bytes.copy(buffer, 0, position),
  close() {},
})

function streamOf(bytes: Buffer): Readable {
  return new Readable({
    read() {
      if (bytes.length > 0) this.push(bytes)
      this.push(null)
    },
  })
}

const opened = promisify(openFile) as (path: string) => Promise<number>
const statOf = promisify(fstat) as (descriptor: number) => Promise<Stats>

/** Of a plain descriptor, which readers share. Fewer bytes than the buffer holds only at the end of the file. */
function readInto(descriptor: number, buffer: Buffer, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, buffer, 0, buffer.length, position, (error, bytesRead) => {
      if (error) reject(error)
      else resolve(bytesRead)
    })
  })
}

async function* walk(root: string, prefix: string, after: string | undefined): AsyncGenerator<Entry> {
  // Sorted as whole keys are: a folder "a" holds "a/…", and "/" sorts behind "-" but before digits and letters.
  const names = (await readdir(join(root, prefix), { withFileTypes: true }))
    .map((item) => ({
      folder: item.isDirectory(),
      sort: item.isDirectory() ? `${item.name}/` : item.name,
      name: item.name,
    }))
    .sort((a, b) => (a.sort < b.sort ? -1 : 1))
  for (const { folder, name } of names) {
    const key = prefix ? `${prefix}/${name}` : name
    if (folder) {
      if (after === undefined || `${key}/\uffff` > after) yield* walk(root, key, after)
    } else if (after === undefined || key > after) {
      const found = await unlessMissing(stat(join(root, key)))
      if (found) yield entry(key, found)
    }
  }
}

/** Both are in key order, and so is the result. */
async function* merge(a: AsyncGenerator<Entry>, b: AsyncGenerator<Entry>): AsyncGenerator<Entry> {
  let [first, second] = [await a.next(), await b.next()]
  while (!first.done || !second.done) {
    if (second.done || (!first.done && first.value.key <= second.value.key)) {
      if (!first.done) yield first.value
      first = await a.next()
    } else {
      yield second.value
      second = await b.next()
    }
  }
}

const entry = (key: string, stats: Stats): Entry => ({ key, size: stats.size, modified: Math.floor(stats.mtimeMs) })

async function removeLeftovers(temporary: string, all: boolean): Promise<void> {
  for (const name of await readdir(temporary)) {
    const path = join(temporary, name)
    const found = await unlessMissing(stat(path))
    if (found && (all || Date.now() - found.mtimeMs > ABANDONED_MS)) await rm(path, { force: true })
  }
}
