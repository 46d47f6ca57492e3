/**
 * What a browser may do with a stored file: show it or save it, under which name, and with which rights.
 * Pure. Content-Disposition of RFC 6266 with the extended value of RFC 8187; the files and their names are strangers' work.
 */

/**
 * Types shown in the page; all others are saved. Each is inert: pictures, sound, film and plain text run nothing.
 * Not here on purpose: text/html and image/svg+xml carry scripts, and application/pdf opens in a viewer that the sandbox
 * below keeps from starting, so it would show an empty page.
 */
export const INLINE_TYPES: ReadonlySet<string> = new Set([
  'image/jpeg',
  'image/png',
  'image/gif',
  'image/heic',
  'image/heif',
  'image/tiff',
  'image/bmp',
  'video/mp4',
  'video/quicktime',
  'video/x-m4v',
  'video/mpeg',
  'video/3gpp',
  'audio/x-m4a',
  'audio/mp4',
  'audio/aac',
  'audio/mpeg',
  'audio/x-wav',
  'audio/x-aiff',
  'audio/x-caf',
  'audio/amr',
  'text/plain',
])

/**
 * Headers of every served file. The sandbox gives a document an origin of its own and takes its scripts; `nosniff` holds the
 * browser to the type that was found by looking. Media and styles stay open because browsers wrap a picture or film that is
 * opened by itself in a small page of their own. Other sites may embed the files: that is what a CDN is for.
 */
export const FILE_SECURITY_HEADERS: Readonly<Record<string, string>> = Object.freeze({
  'Content-Security-Policy': "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox",
  'X-Content-Type-Options': 'nosniff',
  'Cross-Origin-Resource-Policy': 'cross-origin',
  'Referrer-Policy': 'no-referrer',
})

/**
 * The Content-Disposition value for a file: `inline` for INLINE_TYPES (parameters and case of `contentType` are ignored),
 * else `attachment`. Any text may be a filename; the result is one line of printable ASCII of at most about 3.3 KB.
 * A name that ASCII cannot hold safely comes twice, as `filename` with `_` in the gaps and as `filename*` in UTF-8, which
 * every current browser prefers (RFC 6266 §4.3).
 */
export function contentDisposition(filename: string, contentType: string): string {
  const type = (contentType.split(';')[0] ?? '').trim().toLowerCase()
  const kind = INLINE_TYPES.has(type) ? 'inline' : 'attachment'
  const name = safeName(filename)
  // Quotes and backslashes are escaped differently from browser to browser, and some decode %41 (RFC 6266 appendix D).
  // Both cases are spelled out: with flags `i` and `u` together the class would let ſ through as an s.
  const fallback = name.replace(/[^\x20-\x7e]|["\\]|%(?=[0-9a-fA-F]{2})/gu, '_')
  const extended = fallback === name ? '' : `; filename*=UTF-8''${extendedValue(name)}`
  return `${kind}; filename="${fallback}"${extended}`
}

const LONGEST_NAME = 255

/** The name without what could point elsewhere or show itself as something else; long names keep their extension. */
function safeName(filename: string): string {
  const name = filename
    .toWellFormed()
    .replace(/[\p{Cc}\u2028\u2029/\\]/gu, '_')
    // Marks that reorder text make `gpj.exe` read `exe.jpg`.
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
    .trim()
  if (/^\.*$/.test(name)) return 'file'
  const characters = [...name]
  if (characters.length <= LONGEST_NAME) return name
  const extension = [...(/(\.[^.]{1,16})?$/u.exec(name)?.[0] ?? '')]
  return [...characters.slice(0, LONGEST_NAME - extension.length), ...extension].join('')
}

/** RFC 8187 §3.2.1: attr-char stay, all else is percent-encoded UTF-8. */
function extendedValue(text: string): string {
  return encodeURIComponent(text).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
}
