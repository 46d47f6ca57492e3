/** The files of small objects, read and made older by their documented form (docs/storage.md) and by nothing of the program. */
import { open, readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { ask } from './database.ts'
import type { Server } from './satchel.ts'

const HEADER_BYTES = 20

export type Packed = { name: string; key: string; at: number; length: number; isLive: boolean; body: Buffer }

/** Every record of a pack up to the first that is none. One that is marked dead but whose bytes are still there counts as living. */
export async function recordsIn(path: string): Promise<Packed[]> {
  const bytes = await readFile(path)
  const name = path.split('/').at(-1) ?? ''
  const found: Packed[] = []
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const [magic, state] = [bytes.toString('latin1', at, at + 4), bytes.toString('latin1', at + 4, at + 8)]
    const length = bytes.readUInt32LE(at + 8)
    if (magic !== 'spk1' || !['live', 'dead'].includes(state)) break
    const body = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length)
    const key = `pack/${name}/${String(at).padStart(10, '0')}-${String(length).padStart(6, '0')}`
    const isLive = state === 'live' || !body.equals(Buffer.alloc(length))
    found.push({ name, key, at, length, isLive, body })
    at += HEADER_BYTES + length
  }
  return found
}

/** Files as they are, and of a pack what lives in it, each as a path below that of the pack. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const found: string[] = []
  for (const { parentPath, name } of files) {
    const path = join(parentPath, name)
    if (!parentPath.endsWith('/packs')) found.push(path)
    else for (const { key, isLive } of await recordsIn(path)) if (isLive) found.push(join(path, key))
  }
  return found
}

/** The records of all packs of a data folder. */
export async function packedIn(dataDir: string): Promise<Packed[]> {
  const folder = join(dataDir, 'files', 'packs')
  const names = await readdir(folder).catch(() => [])
  return (await Promise.all(names.sort().map((name) => recordsIn(join(folder, name))))).flat()
}

/** As if its records had been written so long ago, so that a sweep may judge them. */
export async function makeOld(dataDir: string, byMs: number): Promise<void> {
  for (const { name, at } of await packedIn(dataDir)) {
    const writtenAt = Buffer.alloc(8)
    writtenAt.writeDoubleLE(Date.now() - byMs)
    const file = await open(join(dataDir, 'files', 'packs', name), 'r+')
    await file.write(writtenAt, 0, 8, at + 12)
    await file.close()
  }
}

/** The only pack of a server that has stopped was begun so long ago, so that it may be tidied up. Its name. */
export async function beginEarlier(server: Pick<Server, 'dataDir' | 'env'>, byMs: number): Promise<string> {
  const folder = join(server.dataDir, 'files', 'packs')
  const [name = ''] = await readdir(folder)
  const begun = Number.parseInt(name.slice(0, 12), 16) - byMs
  const earlier = begun.toString(16).padStart(12, '0') + name.slice(12)
  await rename(join(folder, name), join(folder, earlier))
  await ask(server, `update attachments set storage_key = replace(storage_key, '${name}', '${earlier}')`)
  return earlier
}
