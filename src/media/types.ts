/**
 * The closed list of what may be sent: one row per format, with the name we report, the names we accept for it when a
 * caller declares a type, and its file extensions. Adding a format means a row here and a rule in its container's file.
 */

/** The largest file by pre-upload, 100 MB, and by direct URL, 10 MB. Exactly the limit is allowed. */
export const UPLOAD_LIMIT_BYTES = 100 * 1024 * 1024
export const URL_LIMIT_BYTES = 10 * 1024 * 1024

export type MediaKind = 'image' | 'video' | 'audio' | 'document' | 'contact'

export type MediaType = {
  /** The one name this format is reported under. */
  readonly contentType: string
  /** The extension we would give such a file. */
  readonly extension: string
  /** Every extension that means this format, `extension` included. */
  readonly extensions: readonly string[]
  /** Other content types a caller may declare for it. */
  readonly aliases: readonly string[]
  readonly kind: MediaKind
  /** What people call it, e.g. `JPEG`. */
  readonly name: string
}

function row(
  kind: MediaKind,
  name: string,
  contentType: string,
  extensions: readonly [string, ...string[]],
  aliases: readonly string[] = [],
): MediaType {
  return { contentType, extension: extensions[0], extensions, aliases, kind, name }
}

const OOXML = 'application/vnd.openxmlformats-officedocument'

export const MEDIA_TYPES: readonly MediaType[] = [
  row('image', 'JPEG', 'image/jpeg', ['jpg', 'jpeg'], ['image/jpg']),
  row('image', 'PNG', 'image/png', ['png']),
  row('image', 'GIF', 'image/gif', ['gif']),
  row('image', 'HEIC', 'image/heic', ['heic']),
  row('image', 'HEIF', 'image/heif', ['heif']),
  row('image', 'TIFF', 'image/tiff', ['tiff', 'tif']),
  row('image', 'BMP', 'image/bmp', ['bmp'], ['image/x-ms-bmp']),
  row('video', 'MP4', 'video/mp4', ['mp4']),
  row('video', 'MOV', 'video/quicktime', ['mov', 'qt']),
  row('video', 'M4V', 'video/x-m4v', ['m4v']),
  row('video', 'MPEG', 'video/mpeg', ['mpg', 'mpeg'], ['video/mpeg2']),
  row('video', '3GP', 'video/3gpp', ['3gp']),
  row('audio', 'M4A', 'audio/x-m4a', ['m4a'], ['audio/mp4', 'audio/m4a']),
  row('audio', 'AAC', 'audio/aac', ['aac'], ['audio/x-aac']),
  row('audio', 'MP3', 'audio/mpeg', ['mp3'], ['audio/mp3']),
  row('audio', 'WAV', 'audio/x-wav', ['wav'], ['audio/wav']),
  row('audio', 'AIFF', 'audio/x-aiff', ['aiff', 'aif', 'aifc'], ['audio/aiff']),
  row('audio', 'CAF', 'audio/x-caf', ['caf']),
  row('audio', 'AMR', 'audio/amr', ['amr']),
  row('document', 'PDF', 'application/pdf', ['pdf']),
  row('document', 'TXT', 'text/plain', ['txt']),
  row('document', 'RTF', 'text/rtf', ['rtf'], ['application/rtf']),
  row('document', 'CSV', 'text/csv', ['csv']),
  row('document', 'HTML', 'text/html', ['html', 'htm']),
  row('document', 'ZIP', 'application/zip', ['zip'], ['application/x-zip-compressed']),
  row('document', 'EPUB', 'application/epub+zip', ['epub']),
  row('document', 'DOC', 'application/msword', ['doc']),
  row('document', 'DOCX', `${OOXML}.wordprocessingml.document`, ['docx']),
  row('document', 'XLS', 'application/vnd.ms-excel', ['xls']),
  row('document', 'XLSX', `${OOXML}.spreadsheetml.sheet`, ['xlsx']),
  row('document', 'PPT', 'application/vnd.ms-powerpoint', ['ppt']),
  row('document', 'PPTX', `${OOXML}.presentationml.presentation`, ['pptx']),
  row('document', 'PAGES', 'application/x-iwork-pages-sffpages', ['pages'], ['application/vnd.apple.pages']),
  row('document', 'NUMBERS', 'application/x-iwork-numbers-sffnumbers', ['numbers'], ['application/vnd.apple.numbers']),
  row('document', 'KEY', 'application/x-iwork-keynote-sffkey', ['key'], ['application/vnd.apple.keynote']),
  row('contact', 'VCF', 'text/vcard', ['vcf'], ['text/x-vcard']),
  row('contact', 'ICS', 'text/calendar', ['ics']),
]

/** Refused by name alone, whatever the content: pictures and sounds that are not taken, and what runs when opened. */
const REFUSED_EXTENSIONS = new Set(
  (
    'webp svg svgz flac ogg oga ogv opus ' +
    'exe dll com bat cmd msi scr ps1 vbs sh bash command app dmg pkg apk jar deb rpm elf so bin run'
  ).split(' '),
)

const byContentType = new Map(
  MEDIA_TYPES.flatMap((type) => [type.contentType, ...type.aliases].map((name) => [name, type] as const)),
)
const byExtension = new Map(
  MEDIA_TYPES.flatMap((type) => type.extensions.map((extension) => [extension, type] as const)),
)

/** The format a caller means by `contentType`, which may have parameters and any case. undefined: not accepted. */
export function findDeclaredType(contentType: string): MediaType | undefined {
  return byContentType.get((contentType.split(';', 1)[0] ?? '').trim().toLowerCase())
}

/** The format the name claims. undefined: no extension, or one that is not on the list. */
export function findTypeByExtension(filename: string): MediaType | undefined {
  return byExtension.get(extensionOf(filename))
}

export function isRefusedExtension(filename: string): boolean {
  return REFUSED_EXTENSIONS.has(extensionOf(filename))
}

/** The extension in lower case without its dot; `''` when there is none. Trailing dots and blanks do not hide it. */
export function extensionOf(filename: string): string {
  const name = (filename.split(/[/\\]/).at(-1) ?? '').replace(/[. ]+$/, '')
  const dot = name.lastIndexOf('.')
  return dot > 0 ? name.slice(dot + 1).toLowerCase() : ''
}

/** The formats of one kind, or all, as words for a message: `JPEG, PNG or GIF`. */
export function supportedNames(kind?: MediaKind): string {
  const names = MEDIA_TYPES.filter((type) => kind === undefined || type.kind === kind).map((type) => type.name)
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`
}

/** The row of a known extension, for detectors that name their answer by it. */
export function typeOf(extension: string): MediaType {
  const type = byExtension.get(extension)
  if (type === undefined) throw new Error(`No media type has the extension ${extension}`)
  return type
}
