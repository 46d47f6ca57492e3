/**
 * ISO media (MP4, MOV, M4A, HEIC and relatives) and old QuickTime: boxes of `size, type, content`. The major brand of the
 * `ftyp` box decides; a generic brand says nothing about the content, so there the tracks do: a `vide` handler makes
 * MP4, sound alone M4A. Boxes are walked by their sizes wherever `moov` lies, 16 bytes each.
 */

import { asView, latin1 } from './binary.ts'
import { accept, type Detection, refuse, refuseBecause } from './foreign.ts'
import type { Reader } from './reader.ts'

export type Box = { readonly type: string; readonly start: number; readonly body: number; readonly end: number }

const MAX_BOXES = 2000

/** Brands of formats that are not on the list, by the key they are named under. */
const REFUSED = new Map(
  [
    ['avif', 'avif', 'avis', 'avio'],
    ['raw', 'crx '],
    ['jp2', 'jp2 ', 'jpx ', 'jpm ', 'mjp2', 'mj2s', 'j2ki'],
    ['avci', 'avci', 'avcs', 'vvic', 'jpeg'],
    ['m4p', 'M4P '],
  ].flatMap(([key = '', ...brands]) => brands.map((brand) => [brand, key] as const)),
)

const KNOWN: readonly (readonly [RegExp, string])[] = [
  [/^(heic|heix|heim|heis|hevc|hevx|hevm|hevs)$/, 'heic'],
  [/^(mif1|mif2|msf1|miaf|heif)$/, 'heif'],
  [/^qt {2}$/, 'mov'],
  [/^M4V[ HP]$/, 'm4v'],
  [/^M4[AB] $/, 'm4a'],
  [/^3g[2pegrs]/, '3gp'],
  [/^(isom|iso[2-9]|mp4[12]|avc1|hvc1|av01|dash|MSNV|mmp4|cmfc|dby1|XAVC|ND..)$/, 'generic'],
]

const OLD_QUICKTIME = new Set(['moov', 'mdat', 'free', 'skip', 'wide', 'pnot'])

/** undefined: this does not begin like ISO media or QuickTime. */
export async function detectIsoMedia(file: Reader, head: Uint8Array): Promise<Detection | undefined> {
  const first = await readBox(file, 0, file.size)
  if (first === undefined) return undefined
  if (first.type === 'styp') return refuse('dash')
  if (OLD_QUICKTIME.has(first.type)) {
    return (await findBox(file, 'moov', 0, file.size)) === undefined ? undefined : accept('mov')
  }
  const size = first.end - first.start
  if (first.type !== 'ftyp' || first.body !== 8 || size < 16 || size > 4096) return undefined
  const brands = readBrands(head.subarray(8, size))
  const major = brands.find((brand) => familyOf(brand) !== undefined)
  if (major === undefined) return refuseBecause(`an ISO media file of the unknown brand ${printable(brands[0])}`)
  const family = familyOf(major)
  if (family === 'heif') return judgeHeif(brands)
  if (family === 'generic') return judgeTracks(file)
  const refused = REFUSED.get(major)
  return refused !== undefined ? refuse(refused) : accept(family ?? '')
}

/** Major brand first, then the compatible ones; NUL counts as blank. */
function readBrands(content: Uint8Array): string[] {
  const words: string[] = []
  for (let i = 0; i + 4 <= content.length; i += 4) {
    if (i !== 4) words.push(latin1(content, i, i + 4).replaceAll('\0', ' ')) // 4..8 is the minor version
  }
  return words
}

function familyOf(brand: string): string | undefined {
  return REFUSED.get(brand) ?? KNOWN.find(([pattern]) => pattern.test(brand))?.[1]
}

function judgeHeif(brands: readonly string[]): Detection {
  if (brands.some((brand) => /^avi[fso]$/.test(brand))) return refuse('avif')
  const isHevc = brands.some((brand) => /^he[iv]./.test(brand) && brand !== 'heif')
  const other = brands.find((brand) => /^(avc[isI1]|vvic|jpeg|j2ki)$/.test(brand))
  return other === undefined || isHevc ? accept('heif') : refuse(REFUSED.get(other) ?? 'avci')
}

async function judgeTracks(file: Reader): Promise<Detection> {
  const moov = await findBox(file, 'moov', 0, file.size)
  if (moov === undefined) return refuseBecause('a damaged MP4 file (it has no track list)')
  let sound = false
  for await (const track of boxes(file, moov.body, moov.end)) {
    if (track.type !== 'trak') continue
    const mdia = await findBox(file, 'mdia', track.body, track.end)
    const hdlr = mdia && (await findBox(file, 'hdlr', mdia.body, mdia.end))
    if (hdlr === undefined) continue
    const handler = latin1(await file.read(hdlr.body + 8, 4), 0, 4)
    if (handler === 'vide') return accept('mp4')
    sound ||= handler === 'soun'
  }
  return sound ? accept('m4a') : refuseBecause('an MP4 file without video or sound')
}

export async function findBox(file: Reader, type: string, start: number, end: number): Promise<Box | undefined> {
  for await (const box of boxes(file, start, end)) if (box.type === type) return box
  return undefined
}

/** The boxes between two offsets, for as long as their sizes make sense. */
export async function* boxes(file: Reader, start: number, end: number): AsyncGenerator<Box> {
  let at = start
  for (let count = 0; at + 8 <= end && count < MAX_BOXES; count++) {
    const box = await readBox(file, at, end)
    if (box === undefined) return
    yield box
    at = box.end
  }
}

async function readBox(file: Reader, at: number, limit: number): Promise<Box | undefined> {
  const bytes = await file.read(at, 16)
  if (bytes.length < 8) return undefined
  const view = asView(bytes)
  const size = view.getUint32(0)
  const isLong = size === 1
  if (isLong && bytes.length < 16) return undefined
  const length = isLong ? Number(view.getBigUint64(8)) : size === 0 ? limit - at : size
  const body = isLong ? 16 : 8
  if (length < body || at + length > limit) return undefined
  return { type: latin1(bytes, 4, 8), start: at, body: at + body, end: at + length }
}

function printable(brand = ''): string {
  return `"${brand.replace(/[^ -~]/g, '?').trim()}"`
}
