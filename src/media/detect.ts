/**
 * What a file is, decided by its bytes alone: one of the accepted formats or "not supported" with a name. The order of
 * the questions is part of the answer, since many formats can begin like another. There is no "unknown, so let it pass"
 * and no falling back from a damaged container to a lesser type.
 */

import { latin1 } from './binary.ts'
import type { Bytes } from './bytes.ts'
import { detectOldOffice } from './cfb.ts'
import { accept, type Detection, refuse, refuseBecause, UNKNOWN } from './foreign.ts'
import { detectIsoMedia } from './isobmff.ts'
import { askLibrary } from './library.ts'
import { findFrame } from './mpeg-audio.ts'
import { isZipToo } from './polyglot.ts'
import { Reader } from './reader.ts'
import { matchForeign, matchSignature } from './signatures.ts'
import { detectText, type TextHint } from './text.ts'
import { findTypeByExtension } from './types.ts'
import { detectZip } from './zip-kinds.ts'

export type { Detection } from './foreign.ts'

export type DetectHint = TextHint & {
  readonly signal?: AbortSignal | undefined
  readonly timeoutMs?: number | undefined
}

const DEFAULT_TIMEOUT_MS = 15_000
/** No binary format begins with one, but file-type looks behind it. */
const UTF8_BOM = '\xef\xbb\xbf'

/** file-type's names for what it may decide, and ours. */
const BELIEVED: Readonly<Record<string, string>> = {
  jpg: 'jpg',
  png: 'png',
  apng: 'png',
  tif: 'tiff',
  mp3: 'mp3',
  aac: 'aac',
  wav: 'wav',
  aif: 'aiff',
  caf: 'caf',
}

/**
 * `filename` and `declared` serve one rule only: JSON, XML and mail called plain text pass as that. By URL give the name
 * and not the origin's Content-Type. `text` is the scan of an upload that passed by; without it the tail is sampled.
 * Hostile content resolves to a refusal. Rejects only with the error of `file.read`, the reason of the abort, or a
 * TimeoutError while waiting for bytes: then nothing is known about the file.
 */
export async function detect(file: Bytes, hint: DetectHint = {}): Promise<Detection> {
  using reader = new Reader(file, { signal: hint.signal, timeoutMs: hint.timeoutMs ?? DEFAULT_TIMEOUT_MS })
  const detection = await inspect(reader, hint).catch(() => UNKNOWN)
  if (reader.broken !== undefined) throw reader.broken.error
  return reader.exhausted === undefined ? detection : refuseBecause(`a file that ${reader.exhausted}`)
}

async function inspect(file: Reader, hint: TextHint): Promise<Detection> {
  if (file.size === 0) return refuseBecause('an empty file')
  const head = await file.head()
  const detection = await decide(file, head, hint)
  if (!('type' in detection) || isZipStart(head)) return detection
  return (await isZipToo(file, detection.type))
    ? refuseBecause(`${detection.type.name} and a ZIP archive in one`)
    : detection
}

async function decide(file: Reader, head: Uint8Array, hint: TextHint): Promise<Detection> {
  if (isZipStart(head)) return detectZip(file)
  if (isOldOffice(head)) return detectOldOffice(file, head)
  const media = await detectIsoMedia(file, head)
  if (media !== undefined) return media
  const known = matchSignature(head)
  if (known !== undefined) return accept(known)
  const text = await detectText(file, head, hint)
  if (text !== undefined) return text
  const foreign = matchForeign(head)
  return foreign === undefined ? decideByLibrary(file, head) : refuse(foreign)
}

async function decideByLibrary(file: Reader, head: Uint8Array): Promise<Detection> {
  const start = latin1(head, 0, 16)
  if (start.startsWith(UTF8_BOM)) return UNKNOWN
  const found = await askLibrary(file)
  if (found === undefined) return UNKNOWN
  const believed = BELIEVED[found]
  if (believed !== undefined) return (await isPlausible(file, start, believed)) ? accept(believed) : UNKNOWN
  const ours = findTypeByExtension(`file.${found}`)
  return ours === undefined ? refuse(found) : refuseBecause(`a damaged ${ours.name} file`)
}

/** What file-type takes on trust: it looks behind an ID3 tag for anything, and calls every IFF file AIFF. */
async function isPlausible(file: Reader, start: string, extension: string): Promise<boolean> {
  if (extension === 'mp3' || extension === 'aac') return (await findFrame(file, extension)) !== undefined
  if (extension === 'png') return start.startsWith('IHDR', 12)
  if (extension === 'aiff') return start.startsWith('AIFF', 8) || start.startsWith('AIFC', 8)
  return !start.startsWith('ID3')
}

function isZipStart(head: Uint8Array): boolean {
  const start = latin1(head, 0, 4)
  return start === 'PK\x03\x04' || start === 'PK\x05\x06'
}

function isOldOffice(head: Uint8Array): boolean {
  return latin1(head, 0, 8) === '\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'
}
