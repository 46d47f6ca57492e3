/**
 * Pages, Numbers and Keynote. The 2009 format is XML with a telling root; since 2013 the archive holds `Index/*.iwa`,
 * and only the type of the document's root object separates Pages from Numbers: a letter with a table has the same
 * entries as a spreadsheet. An .iwa file is Snappy blocks of protocol buffers; its first bytes are enough.
 */

import { gunzipSync, constants as zlib } from 'node:zlib'
import { latin1 } from './binary.ts'
import { accept, type Detection, refuse } from './foreign.ts'
import type { Archive } from './zip.ts'

const PAGES_ROOT = 10_000
const ROOT_BYTES = 8 * 1024

export async function detectIwork(archive: Archive): Promise<Detection | undefined> {
  return (await detectXml(archive)) ?? (await detectIwa(archive))
}

async function detectXml(archive: Archive): Promise<Detection | undefined> {
  const { names } = archive
  if (names.has('index.apxl') || names.has('index.apxl.gz')) return accept('key')
  const name = ['index.xml', 'index.xml.gz'].find((one) => names.has(one))
  if (name === undefined) return undefined
  const limit = { packedBytes: 16 * 1024, bytes: 16 * 1024 * 1024, whole: false }
  const bytes = await archive.read(name, limit)
  const start = bytes && latin1(name.endsWith('.gz') ? gunzipStart(bytes) : bytes, 0, ROOT_BYTES)
  if (start === undefined) return undefined
  const root = /<(?:[\w.-]+:)?[A-Za-z][\w.-]*/.exec(start)?.[0]
  if (root === '<sl:document') return accept('pages')
  return root === '<ls:document' ? accept('numbers') : undefined
}

function gunzipStart(bytes: Uint8Array): Uint8Array {
  return gunzipSync(bytes, { finishFlush: zlib.Z_SYNC_FLUSH, maxOutputLength: 16 * 1024 * 1024 })
}

async function detectIwa(archive: Archive): Promise<Detection | undefined> {
  let hasTables = false
  for (const name of archive.names.keys()) {
    if (/^index\/(slide|masterslide|templateslide)[^/]*\.iwa$/.test(name)) return accept('key')
    hasTables ||= name.startsWith('index/tables/')
  }
  if (!archive.names.has('index/document.iwa')) return undefined
  const bytes = await archive.read('index/document.iwa', { packedBytes: 4096, bytes: 8 * 1024 * 1024, whole: false })
  const root = bytes && rootType(bytes.subarray(0, 64))
  if (root !== undefined) return accept(root === PAGES_ROOT ? 'pages' : 'numbers')
  return hasTables ? accept('numbers') : refuse('iwork')
}

/** The message type of the first object: `08 01` (identifier 1), `12 len` (its message info), `08 type`. */
function rootType(bytes: Uint8Array): number | undefined {
  for (let i = 0; i + 6 < bytes.length; i++) {
    if (bytes[i] !== 0x08 || bytes[i + 1] !== 1 || bytes[i + 2] !== 0x12 || bytes[i + 4] !== 0x08) continue
    const [low = 0, high = 0] = bytes.subarray(i + 5, i + 7)
    return low < 128 ? low : (low & 127) | ((high & 127) << 7)
  }
  return undefined
}
