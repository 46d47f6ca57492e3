/**
 * How to call what we refuse. A detector that recognises a foreign format names it by a short key (mostly the
 * extension `file-type` gives it); this table turns the key into words for the caller. The words never decide anything.
 */

import { type MediaKind, type MediaType, typeOf } from './types.ts'

export type Detection =
  | { readonly type: MediaType }
  | {
      /** What it is, with its article: `a WebP image`, `an ELF executable`, `a file of unknown type`. */
      readonly refused: string
      /** The name of that format, when it has one: `WebP`. */
      readonly format?: string
      /** What it would have been, to know which formats to suggest instead. */
      readonly kind?: MediaKind
    }

/** By kind and key: what it is, and the name of the format where `… is not supported` can be said of it. */
const FORMATS: Readonly<Record<string, Readonly<Record<string, readonly [what: string, format?: string]>>>> = {
  image: {
    webp: ['a WebP image', 'WebP'],
    svg: ['an SVG image', 'SVG'],
    avif: ['an AVIF image', 'AVIF'],
    jls: ['a JPEG-LS image', 'JPEG-LS'],
    jp2: ['a JPEG 2000 image', 'JPEG 2000'],
    jxl: ['a JPEG XL image', 'JPEG XL'],
    jxr: ['a JPEG XR image', 'JPEG XR'],
    avci: ['an AVC still image', 'AVCI'],
    psd: ['a Photoshop image', 'PSD'],
    ico: ['an ICO icon', 'ICO'],
    bigtiff: ['a BigTIFF image', 'BigTIFF'],
    raw: ['a camera raw image', 'camera raw'],
    fits: ['a FITS image', 'FITS'],
  },
  audio: {
    flac: ['a FLAC sound file', 'FLAC'],
    ogg: ['an OGG file', 'OGG'],
    mid: ['a MIDI file', 'MIDI'],
    mp2: ['an MPEG sound file of layer I or II', 'MPEG layer I or II'],
    rf64: ['an RF64 sound file', 'RF64'],
    m4p: ['a protected M4P sound file', 'M4P'],
  },
  video: {
    avi: ['an AVI video', 'AVI'],
    mkv: ['a Matroska or WebM file', 'Matroska'],
    flv: ['a Flash video', 'FLV'],
    wmv: ['a Windows Media file', 'Windows Media'],
    mts: ['an MPEG transport stream', 'MPEG transport stream'],
    dash: ['a lone DASH segment'],
  },
  document: {
    exe: ['a Windows executable', 'EXE'],
    elf: ['an ELF executable', 'ELF'],
    macho: ['a Mach-O executable', 'Mach-O'],
    class: ['a Java class file', 'CLASS'],
    wasm: ['a WebAssembly program', 'WASM'],
    jar: ['a Java program (JAR)', 'JAR'],
    apk: ['an Android program (APK)', 'APK'],
    ipa: ['an iOS program (IPA)', 'IPA'],
    msi: ['a Windows installer (MSI)', 'MSI'],
    appx: ['a Windows app package (APPX)', 'APPX'],
    xap: ['a Silverlight program (XAP)', 'XAP'],
    vsix: ['an editor extension (VSIX)', 'VSIX'],
    xpi: ['a browser extension (XPI)', 'XPI'],
    crx: ['a browser extension (CRX)', 'CRX'],
    deb: ['a Debian package', 'DEB'],
    rpm: ['an RPM package', 'RPM'],
    dmg: ['an Apple disk image', 'DMG'],
    iso: ['an ISO disk image', 'ISO'],
    lnk: ['a Windows shortcut', 'LNK'],
    script: ['a script (it starts with #!)'],
    php: ['a PHP script', 'PHP'],
    bat: ['a batch script', 'BAT'],
    ar: ['an AR archive', 'AR'],
    gz: ['a GZIP archive', 'GZIP'],
    bz2: ['a BZIP2 archive', 'BZIP2'],
    xz: ['an XZ archive', 'XZ'],
    zst: ['a Zstandard archive', 'Zstandard'],
    '7z': ['a 7-Zip archive', '7-Zip'],
    rar: ['a RAR archive', 'RAR'],
    tar: ['a TAR archive', 'TAR'],
    splitzip: ['a part of a split ZIP archive'],
    sqlite: ['an SQLite database', 'SQLite'],
    ps: ['a PostScript document', 'PostScript'],
    fdf: ['an FDF form', 'FDF'],
    pgp: ['a PGP message', 'PGP'],
    json: ['a JSON file', 'JSON'],
    xml: ['an XML file', 'XML'],
    eml: ['a mail message', 'EML'],
    mbox: ['a mailbox', 'MBOX'],
    reg: ['a Windows registry file', 'REG'],
    shortcut: ['an Internet shortcut', 'URL'],
    desktop: ['a desktop shortcut', 'DESKTOP'],
    vtt: ['a WebVTT file', 'WebVTT'],
    msg: ['an Outlook message', 'MSG'],
    visio: ['a Visio drawing', 'Visio'],
    publisher: ['a Publisher document', 'Publisher'],
    encrypted: ['a password-protected Office file'],
    iwork: ['an iWork document that cannot be read (it may have a password)'],
    macro: ['an Office file with macros'],
    office: ['an Office file of another kind (such as a template, slide show or drawing)'],
    opendocument: ['an OpenDocument file', 'OpenDocument'],
    xps: ['an XPS document', 'XPS'],
    kmz: ['a KMZ map', 'KMZ'],
    nupkg: ['a NuGet package', 'NUPKG'],
    epub: ['an EPUB book without its mimetype entry'],
    cfb: ['an OLE2 file that is neither Word, Excel nor PowerPoint'],
  },
}

const rows = new Map(
  Object.entries(FORMATS).flatMap(([kind, formats]) =>
    Object.entries(formats).map(([key, [what, format]]) => [key, { kind: kind as MediaKind, what, format }] as const),
  ),
)

/** Other keys for the same thing. */
const SAME = new Map(
  [
    ['ogg', 'opus oga ogv ogm ogx spx'],
    ['mp2', 'mp1'],
    ['ico', 'cur'],
    ['ps', 'eps'],
    ['jp2', 'jpx jpm mj2 j2c'],
    ['gz', 'tar.gz'],
    ['mkv', 'webm'],
    ['wmv', 'asf wma'],
    ['raw', 'dng cr2 cr3 nef arw orf rw2 raf'],
  ].flatMap(([key = '', others = '']) => others.split(' ').map((other) => [other, key] as const)),
)

export const UNKNOWN: Detection = { refused: 'a file of unknown type' }

/** An accepted format, by its extension. */
export function accept(extension: string): Detection {
  return { type: typeOf(extension) }
}

/** A refused format, by its key; one without a row is called by the key itself. */
export function refuse(key: string): Detection {
  const row = rows.get(SAME.get(key) ?? key)
  if (row === undefined) return { refused: `a file of type ${key.toUpperCase()}`, format: key.toUpperCase() }
  return { refused: row.what, kind: row.kind, ...(row.format !== undefined && { format: row.format }) }
}

/** A refusal that is about this file rather than about its format. */
export function refuseBecause(what: string): Detection {
  return { refused: what }
}
