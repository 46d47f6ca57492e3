/**
 * Old Office files (Compound File Binary): a FAT file system in a file, whose root directory tells DOC from XLS from PPT
 * from all else that uses the container (MSI, Outlook, Visio). Only the root's own children count, found by walking their
 * sibling tree; a sheet embedded in a letter lies deeper. Sectors and entries are visited once, so cycles end.
 */

import { asView } from './binary.ts'
import { accept, type Detection, refuse, refuseBecause } from './foreign.ts'
import type { Reader } from './reader.ts'

const ENTRY_BYTES = 128
const MAX_ENTRIES = 4096
const MAX_SECTORS = 4096
const LAST_SECTOR = 0xfffffffa

const CLASSES: readonly (readonly [RegExp, string])[] = [
  [/^0609020/, 'doc'],
  [/^(1008020|2008020)/, 'xls'],
  [/^108d8164/, 'ppt'],
]
const MSI_CLASS = /^84100c00/

type Header = { sectorBytes: number; firstDirectory: number; difat: DataView; firstDifat: number }

export async function detectOldOffice(file: Reader, head: Uint8Array): Promise<Detection> {
  const header = readHeader(head)
  if (header === undefined) return refuseBecause('a damaged OLE2 file')
  const directory = new Directory(file, header)
  const root = await directory.entry(0)
  if (root === undefined) return refuseBecause('a damaged OLE2 file')
  const rootClass = Buffer.from(root.subarray(80, 96)).toString('hex')
  return judgeNames(await childNames(directory, root), rootClass)
}

function readHeader(head: Uint8Array): Header | undefined {
  if (head.length < 512) return undefined
  const view = asView(head)
  const shift = view.getUint16(30, true)
  if (shift !== 9 && shift !== 12) return undefined
  return {
    sectorBytes: 2 ** shift,
    firstDirectory: view.getUint32(48, true),
    firstDifat: view.getUint32(68, true),
    difat: asView(head.subarray(76, 512)),
  }
}

/** The names of the root's direct children, in lower case. */
async function childNames(directory: Directory, root: Uint8Array): Promise<Set<string>> {
  const names = new Set<string>()
  const seen = new Set<number>()
  const waiting = [u32(root, 76)]
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (id >= LAST_SECTOR || seen.has(id) || seen.size >= MAX_ENTRIES) continue
    seen.add(id)
    const entry = await directory.entry(id)
    if (entry === undefined) continue
    const length = Math.min(64, u32(entry, 64) & 0xffff)
    names.add(
      Buffer.from(entry.subarray(0, Math.max(0, length - 2)))
        .toString('utf16le')
        .toLowerCase(),
    )
    waiting.push(u32(entry, 68), u32(entry, 72))
  }
  return names
}

function judgeNames(names: Set<string>, rootClass: string): Detection {
  if (names.has('encryptedpackage')) return refuse('encrypted')
  if ([...names].some(isOutlookName)) return refuse('msg')
  if (names.has('visiodocument')) return refuse('visio')
  if (names.has('quill')) return refuse('publisher')
  const kinds: string[] = []
  if (names.has('worddocument')) kinds.push('doc')
  if (names.has('workbook') || names.has('book')) kinds.push('xls')
  if (names.has('powerpoint document') || names.has('pp40')) kinds.push('ppt')
  if (kinds.length === 0) return refuse(MSI_CLASS.test(rootClass) ? 'msi' : 'cfb')
  const named = CLASSES.find(([pattern]) => pattern.test(rootClass))?.[1]
  const kind = kinds.length === 1 ? kinds[0] : kinds.find((one) => one === named)
  return kind === undefined ? refuse('cfb') : accept(kind)
}

function isOutlookName(name: string): boolean {
  return name.startsWith('__substg1.0') || name.startsWith('__properties_version')
}

/** The directory stream, whose sectors are looked up in the FAT only as far as entries are asked for. */
class Directory {
  readonly #file: Reader
  readonly #header: Header
  readonly #sectors: number[]
  readonly #seen = new Set<number>()
  readonly #difatSectors: number[] = []

  constructor(file: Reader, header: Header) {
    this.#file = file
    this.#header = header
    this.#sectors = [header.firstDirectory]
    this.#seen.add(header.firstDirectory)
  }

  async entry(id: number): Promise<Uint8Array | undefined> {
    const perSector = this.#header.sectorBytes / ENTRY_BYTES
    const sector = await this.#sector(Math.floor(id / perSector))
    if (sector === undefined) return undefined
    const bytes = await this.#read(sector, (id % perSector) * ENTRY_BYTES, ENTRY_BYTES)
    return bytes.length === ENTRY_BYTES ? bytes : undefined
  }

  async #sector(index: number): Promise<number | undefined> {
    if (index >= MAX_SECTORS) return undefined
    while (this.#sectors.length <= index) {
      const next = await this.#next(this.#sectors.at(-1) ?? LAST_SECTOR)
      if (next === undefined || next >= LAST_SECTOR || this.#seen.has(next)) return undefined
      this.#seen.add(next)
      this.#sectors.push(next)
    }
    return this.#sectors[index]
  }

  /** The FAT's entry for a sector. */
  async #next(sector: number): Promise<number | undefined> {
    if ((sector + 1) * this.#header.sectorBytes >= this.#file.size) return undefined
    const perSector = this.#header.sectorBytes / 4
    const fat = await this.#fatSector(Math.floor(sector / perSector))
    return fat === undefined ? undefined : this.#number(fat, sector % perSector)
  }

  /** Which sector holds this part of the FAT: the first 109 are listed in the header, the others in a chain. */
  async #fatSector(index: number): Promise<number | undefined> {
    if (index < 109) return this.#header.difat.getUint32(index * 4, true)
    const perSector = this.#header.sectorBytes / 4 - 1
    const wanted = Math.floor((index - 109) / perSector)
    while (this.#difatSectors.length <= wanted) {
      const last = this.#difatSectors.at(-1)
      const next = last === undefined ? this.#header.firstDifat : await this.#number(last, perSector)
      if (next === undefined || next >= LAST_SECTOR || this.#difatSectors.includes(next)) return undefined
      this.#difatSectors.push(next)
    }
    return this.#number(this.#difatSectors[wanted] ?? LAST_SECTOR, (index - 109) % perSector)
  }

  async #number(sector: number, index: number): Promise<number | undefined> {
    const bytes = await this.#read(sector, index * 4, 4)
    return bytes.length === 4 ? u32(bytes, 0) : undefined
  }

  async #read(sector: number, offset: number, length: number): Promise<Uint8Array> {
    return this.#file.read((sector + 1) * this.#header.sectorBytes + offset, length)
  }
}

function u32(bytes: Uint8Array, offset: number): number {
  return asView(bytes).getUint32(offset, true)
}
