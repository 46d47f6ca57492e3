/**
 * What it costs to decide a file: `node scripts/media-cost.ts` prints the table of docs/file-types.md. Every format is
 * measured twice, as a tiny file and as one of 100 MB, lying on disk and read by ranges as the server does; then
 * small files are inspected one after the other, each opened anew, to count them by the second.
 */

import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bytes } from '../src/media/bytes.ts'
import { detect } from '../src/media/detect.ts'
import { findTypeByExtension } from '../src/media/types.ts'
import { box, cfb, ftyp, moov, zip } from '../test/fixtures/media/containers.ts'
import { acceptedFiles, DOCX_MAIN, iwork, PPTX_MAIN, tiff, XLSX_MAIN } from '../test/fixtures/media/files.ts'

const LARGE_BYTES = 104_857_600
const ROUNDS = 15
const ENTRIES = 2000

type Cost = { reads: number; bytes: number; ms: number }

/** A file of 100 MB: how it begins and ends, and with what the middle is filled. */
type Large = { start: Buffer; end?: Buffer; fill?: string }

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'satchel-cost-'))
  try {
    console.log('| format | small: bytes | reads | ms | 100 MB: bytes | reads | ms |')
    console.log('|---|--:|--:|--:|--:|--:|--:|')
    const small = firstOfEachFormat()
    for (const [filename, content] of small) {
      const path = join(folder, filename)
      await writeFile(path, content)
      const little = await measure(path, filename)
      await writeLarge(path, enlarge(filename, content))
      const large = await measure(path, filename)
      await rm(path)
      const name = findTypeByExtension(filename)?.name
      console.log(`| ${name} | ${print(little)} | ${print(large)} |`)
    }
    console.log(`\n${await throughput(folder, [...small.values()])} small files a second, one after the other`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

function firstOfEachFormat(): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  const seen = new Set<string>()
  for (const [filename, content] of Object.entries(acceptedFiles())) {
    const name = findTypeByExtension(filename)?.name ?? ''
    if (!seen.has(name)) files.set(filename, content)
    seen.add(name)
  }
  return files
}

function enlarge(filename: string, content: Buffer): Large {
  const media = (brand: string, handlers: string[]) => {
    const [head, end] = [ftyp(brand), moov(handlers)]
    return { start: Buffer.concat([head, box('mdat', [], LARGE_BYTES - head.length - end.length)]), end }
  }
  switch (filename) {
    case 'film.mp4':
      return media('isom', ['soun', 'vide'])
    case 'film.mov':
      return media('qt  ', ['vide'])
    case 'song.m4a':
      return media('isom', ['soun'])
    case 'scan.tif': {
      const start = tiff()
      const end = start.subarray(8)
      start.writeUInt32LE(LARGE_BYTES - end.length, 4)
      return { start: start.subarray(0, 8), end }
    }
    case 'files.zip':
      return archive([])
    case 'book.epub':
      return archive([{ name: 'mimetype', data: 'application/epub+zip' }])
    case 'letter.docx':
      return archive([office(DOCX_MAIN)])
    case 'sheet.xlsx':
      return archive([office(XLSX_MAIN)])
    case 'slides.pptx':
      return archive([office(PPTX_MAIN)])
    case 'letter.pages':
      return archive([{ name: 'Index/Document.iwa', data: documentOf(10_000) }])
    case 'sheet.numbers':
      return archive([{ name: 'Index/Document.iwa', data: documentOf(1) }])
    case 'slides.key':
      return archive([{ name: 'Index/Slide-1.iwa' }])
    case 'letter.doc':
    case 'sheet.xls':
    case 'slides.ppt':
      return { start: cfb([...Array.from({ length: 60 }, (_, i) => `Stream ${i}`), oldOfficeStream(filename)]) }
    case 'table.csv':
      return { start: content, fill: content.subarray(content.indexOf('\n') + 1).toString() }
    case 'note.txt':
    case 'page.html':
    case 'ada.vcf':
    case 'tea.ics':
    case 'letter.rtf':
      return { start: content, fill: content.toString() }
    default:
      return { start: content }
  }
}

/** Large because of one stored photo, with a directory of some thousand entries. */
function archive(telling: { name: string; data?: string | Uint8Array }[]): Large {
  const rest = Array.from({ length: ENTRIES }, (_, i) => ({ name: `media/picture-${i}.jpeg`, data: 'x' }))
  const photo = { name: 'media/photo.jpeg', data: Buffer.alloc(LARGE_BYTES - ENTRIES * 120) }
  return { start: zip([...telling, photo, ...rest]) }
}

function office(mainType: string) {
  return { name: '[Content_Types].xml', data: `<Types><Override ContentType="${mainType}"/></Types>`, deflate: true }
}

/** The content of Index/Document.iwa, taken from the archive that stores it uncompressed. */
function documentOf(rootType: number): Buffer {
  const file = iwork(rootType)
  const name = 'Index/Document.iwa'
  const start = file.indexOf(name) + name.length
  return file.subarray(start, file.indexOf('PK\x01\x02'))
}

function oldOfficeStream(filename: string): string {
  if (filename.endsWith('.doc')) return 'WordDocument'
  return filename.endsWith('.xls') ? 'Workbook' : 'PowerPoint Document'
}

async function writeLarge(path: string, { start, end = Buffer.alloc(0), fill }: Large): Promise<void> {
  const handle = await open(path, 'w')
  await handle.write(start, 0, start.length, 0)
  if (fill !== undefined) {
    const block = Buffer.from(fill.repeat(Math.ceil((1024 * 1024) / fill.length)))
    for (let at = start.length; at < LARGE_BYTES; at += block.length) await handle.write(block, 0, block.length, at)
  }
  if (end.length > 0) await handle.write(end, 0, end.length, LARGE_BYTES - end.length)
  await handle.truncate(Math.max(LARGE_BYTES, fill === undefined ? start.length : 0))
  await handle.close()
}

/** The middle of several rounds, the first of which warms up. */
async function measure(path: string, filename: string): Promise<Cost> {
  const costs: Cost[] = []
  for (let round = 0; round <= ROUNDS; round++) costs.push(await inspect(path, filename))
  return costs.slice(1).sort((a, b) => a.ms - b.ms)[Math.floor(ROUNDS / 2)] ?? { reads: 0, bytes: 0, ms: 0 }
}

async function inspect(path: string, filename: string): Promise<Cost> {
  const cost: Cost = { reads: 0, bytes: 0, ms: 0 }
  const handle = await open(path)
  try {
    const file: Bytes = {
      size: (await handle.stat()).size,
      read: async (offset, length) => {
        const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(length), 0, length, offset)
        cost.reads++
        cost.bytes += bytesRead
        return buffer.subarray(0, bytesRead)
      },
    }
    const startedAt = performance.now()
    const detection = await detect(file)
    cost.ms = performance.now() - startedAt
    if (!('type' in detection) || detection.type !== findTypeByExtension(filename)) {
      throw new Error(`${filename} of ${file.size} bytes was taken for ${JSON.stringify(detection)}`)
    }
    return cost
  } finally {
    await handle.close()
  }
}

async function throughput(folder: string, contents: Buffer[]): Promise<string> {
  const paths = contents.map((_, i) => join(folder, `small-${i}`))
  await Promise.all(paths.map((path, i) => writeFile(path, contents[i] ?? '')))
  let count = 0
  const startedAt = performance.now()
  while (performance.now() - startedAt < 3000) {
    const handle = await open(paths[count++ % paths.length] ?? '')
    const { size } = await handle.stat()
    await detect({
      size,
      read: async (offset, length) => {
        const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(length), 0, length, offset)
        return buffer.subarray(0, bytesRead)
      },
    })
    await handle.close()
  }
  return Math.round((count / (performance.now() - startedAt)) * 1000).toLocaleString('en')
}

function print({ reads, bytes, ms }: Cost): string {
  return `${bytes.toLocaleString('en')} | ${reads} | ${ms.toFixed(2)}`
}

if (import.meta.main) await main()
