/** What the files of small objects hold, read by their documented form (docs/storage.md) and by nothing of the program. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

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
