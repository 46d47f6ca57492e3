/**
 * What a ZIP archive is: Office, EPUB, iWork, one of the many formats we do not take, or plainly a ZIP. Android and
 * Java programs are looked for first, so that no later rule serves them as a disguise. Folder names prove nothing;
 * content types and root objects do. What lies in a plain ZIP is the recipient's business; nothing is unpacked but the
 * few entries that name the format.
 */

import { latin1 } from './binary.ts'
import { accept, type Detection, refuse, refuseBecause } from './foreign.ts'
import { detectIwork } from './iwork.ts'
import type { Reader } from './reader.ts'
import { encodingOf } from './text-scan.ts'
import { type Archive, openArchive } from './zip.ts'

const CONTENT_TYPES = '[content_types].xml'

const OFFICE: readonly (readonly [ending: string, extension: string])[] = [
  ['wordprocessingml.document.main+xml', 'docx'],
  ['spreadsheetml.sheet.main+xml', 'xlsx'],
  ['presentationml.presentation.main+xml', 'pptx'],
]

/** Formats told by one entry at the root. */
const BY_ENTRY: readonly (readonly [RegExp, string])[] = [
  [/^payload\/[^/]+\.app\//, 'ipa'],
  [/^appxmanifest\.xml$/, 'appx'],
  [/^appmanifest\.xaml$/, 'xap'],
  [/^extension\.vsixmanifest$/, 'vsix'],
  [/^(install\.rdf|meta-inf\/mozilla\.rsa)$/, 'xpi'],
  [/^[^/]+\.nuspec$/, 'nupkg'],
  [/^doc\.kml$/, 'kmz'],
  [/^fixeddocseq\.fdseq$/, 'xps'],
  [/^meta-inf\/container\.xml$/, 'epub'],
]

export async function detectZip(file: Reader): Promise<Detection> {
  const archive = await openArchive(file)
  if (archive === undefined) return refuseBecause('a ZIP archive whose directory cannot be read')
  return (
    detectProgram(archive) ??
    (await detectByMimetype(archive)) ??
    (await detectOffice(archive)) ??
    (await detectIwork(archive)) ??
    detectOther(archive) ??
    accept('zip')
  )
}

function detectProgram({ names }: Archive): Detection | undefined {
  let isJava = false
  for (const name of names.keys()) {
    if (name === 'androidmanifest.xml' || /^classes[^/]*\.dex$/.test(name)) return refuse('apk')
    isJava ||= name === 'meta-inf/manifest.mf'
  }
  return isJava ? refuse('jar') : undefined
}

/** EPUB, OpenDocument and others put their type into an entry of that name. */
async function detectByMimetype(archive: Archive): Promise<Detection | undefined> {
  if (!archive.names.has('mimetype')) return undefined
  const bytes = await archive.read('mimetype', { packedBytes: 512, bytes: 256, whole: true })
  const type = bytes && latin1(bytes).trim()
  if (type === undefined || archive.repeated.has('mimetype')) return refuseBecause('a ZIP archive of an unclear type')
  if (type === 'application/epub+zip') return accept('epub')
  if (type.startsWith('application/vnd.oasis.opendocument')) return refuse('opendocument')
  return type === ''
    ? undefined
    : refuseBecause(`a ZIP-based file of type ${type.replace(/[^ -~]/g, '?').slice(0, 80)}`)
}

async function detectOffice(archive: Archive): Promise<Detection | undefined> {
  if (!archive.names.has(CONTENT_TYPES)) return undefined
  for (const name of archive.names.keys()) if (name.endsWith('vbaproject.bin')) return refuse('macro')
  const bytes = await archive.read(CONTENT_TYPES, { packedBytes: 192 * 1024, bytes: 1024 * 1024, whole: true })
  if (bytes === undefined || archive.repeated.has(CONTENT_TYPES)) return refuse('office')
  const types = contentTypes(decodeXml(bytes))
  if (types.some((type) => /macroenabled|vbaproject/.test(type))) return refuse('macro')
  const found = OFFICE.filter(([ending]) => types.some((type) => type.endsWith(ending)))
  const [only, another] = found
  return only !== undefined && another === undefined ? accept(only[1]) : refuse('office')
}

/** The values of every ContentType attribute (of Default and Override alike), in lower case, without parameters. */
function contentTypes(xml: string): string[] {
  const types = new Set<string>()
  for (const [, double, single] of xml.matchAll(/\bcontenttype\s*=\s*(?:"([^"]*)"|'([^']*)')/gi)) {
    types.add(((double ?? single ?? '').split(';', 1)[0] ?? '').trim().toLowerCase())
  }
  return [...types]
}

function decodeXml(bytes: Uint8Array): string {
  const encoding = encodingOf(bytes)
  if (encoding === '8-bit') return latin1(bytes)
  const units = Buffer.from(bytes.subarray(0, bytes.length & ~1))
  return (encoding === 'utf-16le' ? units : units.swap16()).toString('utf16le')
}

function detectOther({ names }: Archive): Detection | undefined {
  for (const name of names.keys()) {
    const kind = BY_ENTRY.find(([pattern]) => pattern.test(name))
    if (kind !== undefined) return refuse(kind[1])
  }
  return undefined
}
