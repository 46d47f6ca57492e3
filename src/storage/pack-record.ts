/**
 * The form of packs on the disk. A pack is records without gaps, each a header of 20 bytes and a body:
 *   4 bytes "spk1", 4 bytes "live" or "dead", the body's length (uint32), when it was written (ms since 1970, float64)
 * in little-endian order. The key of a body says where it lies, so there is no index to keep or to rebuild:
 *   pack/<when the pack was begun, 12 hex digits of ms>-<8 random ones>/<offset of the header>-<length>
 */
import { randomHex } from '../ids.ts'

export const HEADER_BYTES = 20
/** Bodies up to here lie in packs: longer ones are written about as fast into a file each. */
export const SMALL_OBJECT_BYTES = 128 * 1024

const MAGIC = 'spk1'
const LIVE = 'live'
const DEAD = 'dead'
const STATE_AT = 4
const KEY = /^pack\/([0-9a-f]{12}-[0-9a-f]{8})\/(\d{10})-(\d{6})$/
const NAME = /^[0-9a-f]{12}-[0-9a-f]{8}$/

export type Place = { readonly pack: string; readonly offset: number; readonly length: number }
export type PackRecord = { readonly isLive: boolean; readonly length: number; readonly writtenAt: number }

export const newPackName = (now: number): string => `${now.toString(16).padStart(12, '0')}-${randomHex(4)}`
export const isPackName = (name: string): boolean => NAME.test(name)
export const begunAt = (pack: string): number => Number.parseInt(pack.slice(0, 12), 16)

export function keyOf({ pack, offset, length }: Place): string {
  return `pack/${pack}/${String(offset).padStart(10, '0')}-${String(length).padStart(6, '0')}`
}

/** undefined: not a key of this form. */
export function placeOf(key: string): Place | undefined {
  const parts = key.startsWith('pack/') ? KEY.exec(key) : null
  return parts?.[1] === undefined ? undefined : { pack: parts[1], offset: Number(parts[2]), length: Number(parts[3]) }
}

export function headerOf(length: number, now: number): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES)
  header.write(MAGIC + LIVE, 0, 'latin1')
  header.writeUInt32LE(length, 8)
  header.writeDoubleLE(now, 12)
  return header
}

/** undefined: no header begins here. */
export function recordAt(bytes: Buffer, at = 0): PackRecord | undefined {
  if (bytes.length < at + HEADER_BYTES || bytes.toString('latin1', at, at + STATE_AT) !== MAGIC) return undefined
  const state = bytes.toString('latin1', at + STATE_AT, at + 8)
  const length = bytes.readUInt32LE(at + 8)
  if ((state !== LIVE && state !== DEAD) || length > SMALL_OBJECT_BYTES) return undefined
  return { isLive: state === LIVE, length, writtenAt: bytes.readDoubleLE(at + 12) }
}

/** What makes the record at `offset` a dead one, and where it is written. */
export const deathOf = (offset: number): { mark: Buffer; position: number } => ({
  mark: Buffer.from(DEAD, 'latin1'),
  position: offset + STATE_AT,
})
